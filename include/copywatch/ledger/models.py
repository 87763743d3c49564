"""The ledger's tables.

Everything lives in the PostgreSQL schema `copywatch`, so that the ledger may share a server, or a database, with
Airflow's own tables.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Text,
    UniqueConstraint,
    false,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from copywatch.rule import Rule

SCHEMA = "copywatch"


class Base(DeclarativeBase):
    """Base of all models; names every constraint, so that migrations can name them too."""

    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        },
    )
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text, float: Double}  # noqa: RUF012


class ApplicationState(StrEnum):
    """Where an application for protection stands."""

    RECEIVED = "received"
    REFUSED = "refused"
    PROTECTED = "protected"


class ReviewState(StrEnum):
    """What a person, or verification, said of a doubtful match."""

    PENDING = "pending"
    DIFFERENT = "different"
    """Left the queue by verification: nobody is waited for, but a person may still decide it."""
    ACCEPTED = "accepted"
    REFUSED = "refused"


DECIDED = (ReviewState.ACCEPTED, ReviewState.REFUSED)
"""By a person, and for good."""


class AlertState(StrEnum):
    """Where an alert stands in the outbox."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


class Owner(Base):
    """Somebody whose images are protected."""

    __tablename__ = "owners"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)
    """Lower case; alerts go here."""
    name: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Application(Base):
    """One image that an owner asked to be protected."""

    __tablename__ = "applications"
    __table_args__ = (UniqueConstraint("run", "owner_id", "filename"), Index(None, "sha256"), Index(None, "state"))

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owners.id"))
    run: Mapped[str]
    """The protect_images run that read it; retries of the run find their own rows by it."""
    filename: Mapped[str]
    sha256: Mapped[str] = mapped_column(String(64))
    storage_address: Mapped[str | None]
    """Address of the original in the image store."""
    state: Mapped[str] = mapped_column(String(16), default=ApplicationState.RECEIVED)
    reason: Mapped[str | None]
    """Why it was refused."""
    protected_id: Mapped[str | None] = mapped_column(String(32))
    protected_until: Mapped[datetime | None]
    submitted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    decided_at: Mapped[datetime | None]
    confirmed_at: Mapped[datetime | None]
    """When the owner was told."""

    owner: Mapped[Owner] = relationship(lazy="joined")


class CrawledImage(Base):
    """An image address that a crawl has settled: a `copywatch.crawl_state.ImageState` in the ledger."""

    __tablename__ = "crawled_images"

    site: Mapped[str] = mapped_column(String(63), primary_key=True)
    url_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    """SHA-256 of the normalised address: addresses may be long, and are theirs to choose."""
    run: Mapped[str]
    """The run that landed these bytes, or the row that says why there are none."""
    settled_at: Mapped[datetime] = mapped_column(server_default=func.now())
    url: Mapped[str] = mapped_column(default="", server_default="")
    """Empty, like the rest: the row is from before the crawls remembered more than the hash."""
    page_url: Mapped[str] = mapped_column(default="", server_default="")
    sha256: Mapped[str | None] = mapped_column(String(64))
    source_hash: Mapped[str | None]
    version: Mapped[str | None]
    etag: Mapped[str | None]
    last_modified: Mapped[str | None]
    size: Mapped[int | None] = mapped_column(BigInteger)
    checked_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CrawledPage(Base):
    """A page of a site that is known: a `copywatch.crawl_state.PageState` in the ledger."""

    __tablename__ = "crawled_pages"

    site: Mapped[str] = mapped_column(String(63), primary_key=True)
    url_hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    url: Mapped[str]
    found_on: Mapped[str]
    depth: Mapped[int]
    etag: Mapped[str | None]
    last_modified: Mapped[str | None]
    digest: Mapped[bytes | None] = mapped_column(LargeBinary(32))
    images: Mapped[int]
    links: Mapped[int]
    visited_at: Mapped[datetime | None]
    changed_at: Mapped[datetime | None]
    run: Mapped[str]
    """The run that read it last."""


class CrawledRobots(Base):
    """A robots.txt as it was last read: a `copywatch.crawl_state.RobotsState` in the ledger."""

    __tablename__ = "crawled_robots"

    site: Mapped[str] = mapped_column(String(63), primary_key=True)
    origin: Mapped[str] = mapped_column(primary_key=True)
    fetched_at: Mapped[datetime]
    status: Mapped[int]
    body: Mapped[bytes]


class CrawlNote(Base):
    """What a kind of source remembers of a site by name, such as how far it has read."""

    __tablename__ = "crawl_notes"

    site: Mapped[str] = mapped_column(String(63), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    # Plain JSON is kept as it was sent. JSONB refuses what a hostile source may have put into it, such as \u0000.
    value: Mapped[Any] = mapped_column(JSON)
    run: Mapped[str]


class CrawlCursor(Base):
    """How far the crawls of a site have come, and when the next one is due."""

    __tablename__ = "crawl_cursors"

    site: Mapped[str] = mapped_column(String(63), primary_key=True)
    last_started_at: Mapped[datetime | None]
    last_finished_at: Mapped[datetime | None]
    """End of the last crawl that did not fail."""
    last_run: Mapped[str | None]
    last_error: Mapped[str | None]
    source: Mapped[str | None] = mapped_column(String(32))
    """Kind of source that the last crawl read."""
    new_images_last: Mapped[int | None]
    """Images that were new to the last crawl that did not fail."""
    interval_seconds: Mapped[float | None]
    """Interval that was adapted to how often new images come; null: the site's own."""
    adapted_at: Mapped[datetime | None]
    """Begin of the crawl that the interval was last adapted by."""
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    """Crawls that failed as a whole since the last one that did not."""
    blocked_until: Mapped[datetime | None]
    """The site is left alone until then; null: it is not."""
    blocked_why: Mapped[str | None]


class Evidence(Base):
    """All that people need to know of a match: one (sighting, protected image) pair with T < 2."""

    __tablename__ = "evidence"
    __table_args__ = (
        UniqueConstraint("sighting_id", "protected_id"),
        CheckConstraint("verdict IN (0, 1)", name="verdict"),
        Index(None, "found_sha256"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    sighting_id: Mapped[str] = mapped_column(String(32))
    protected_id: Mapped[str] = mapped_column(String(32))
    owner_id: Mapped[int] = mapped_column(ForeignKey("owners.id"))
    run: Mapped[str]
    site: Mapped[str] = mapped_column(String(63))
    page_url: Mapped[str]
    image_url: Mapped[str]
    uploader: Mapped[str | None]
    uploader_url: Mapped[str | None]
    """The uploader's own page, as the site says: theirs to choose, so it may be no address at all."""
    uploaded_at: Mapped[datetime | None]
    uploaded_at_source: Mapped[str | None]
    """What said so, such as `wordpress date_gmt`."""
    caption: Mapped[str | None]
    licence: Mapped[str | None]
    """Licence or rights that the site, or the file itself, states."""
    crawled_at: Mapped[datetime]
    verdict: Mapped[int] = mapped_column(SmallInteger)
    """The paper's T: 0 identical, 1 similar."""
    distance: Mapped[float]
    algorithm: Mapped[str] = mapped_column(String(32))
    threshold: Mapped[float]
    rule: Mapped[str] = mapped_column(String(16), default=Rule.PAPER, server_default=Rule.PAPER.value)
    """How the distance was measured, a `Rule`."""
    plain_distance: Mapped[float | None]
    """SRPITP's distance of the views compared; null: the row is from before there was a second rule."""
    view: Mapped[str | None]
    """What was done to the copy, in words, such as mirrored; null: nothing that shows."""
    verification: Mapped[str | None] = mapped_column(String(16))
    """A `copywatch.verification.verdict.Judgement`; null: it was not verified."""
    probability: Mapped[float | None]
    """That it is a copy, by verification."""
    unverified: Mapped[str | None]
    """Why it was not verified, in words."""
    edit: Mapped[str | None]
    """What was done to the copy as verification saw it, in words; it says more than `view`."""
    explanation_address: Mapped[str | None]
    """Address of the picture that shows the matched area and the difference; null: there is none to show."""
    registered_later: Mapped[bool] = mapped_column(default=False, server_default=false())
    """The image was crawled before the protected image was registered."""
    found_sha256: Mapped[str] = mapped_column(String(64))
    found_address: Mapped[str | None]
    """Address of the found bytes in the image store; null: they could not be had again."""
    protected_address: Mapped[str]
    """Address of the original in the image store."""
    protected_filename: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    owner: Mapped[Owner] = relationship(lazy="joined")
    review: Mapped[Review | None] = relationship(back_populates="evidence")
    alert: Mapped[Alert | None] = relationship(back_populates="evidence")


class Review(Base):
    """A doubtful match that a person decides, or may decide."""

    __tablename__ = "reviews"
    __table_args__ = (Index(None, "state"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evidence_id: Mapped[int] = mapped_column(ForeignKey("evidence.id"), unique=True)
    state: Mapped[str] = mapped_column(String(16), default=ReviewState.PENDING)
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    applied_run: Mapped[str | None]
    """The review_matches run that carried the decision out; null: not yet."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    evidence: Mapped[Evidence] = relationship(back_populates="review", lazy="joined")


class Alert(Base):
    """One alert in the outbox: at most one per evidence, however often a task runs."""

    __tablename__ = "alerts"
    __table_args__ = (Index(None, "state"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evidence_id: Mapped[int] = mapped_column(ForeignKey("evidence.id"), unique=True)
    state: Mapped[str] = mapped_column(String(16), default=AlertState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    last_error: Mapped[str | None]
    run: Mapped[str]
    """The run that put it in the outbox."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sent_at: Mapped[datetime | None]

    evidence: Mapped[Evidence] = relationship(back_populates="alert", lazy="joined")


class SignIn(Base):
    """A one-time code that somebody asked for and, once it was redeemed, the session that it opened.

    Neither codes nor addresses are kept, only what tells whether one is the same again: addresses that belong to no
    owner are counted too, and are nobody's business.
    """

    __tablename__ = "sign_ins"
    __table_args__ = (Index(None, "address_hash", "asked_at"), Index(None, "client", "asked_at"))

    id: Mapped[int] = mapped_column(primary_key=True)
    handle_hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    """SHA-256 of what the asking browser holds: a code works in no other."""
    address_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    """Keyed hash of the address, as typed and lower-cased."""
    client: Mapped[str] = mapped_column(String(64))
    """Network that the request came from."""
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owners.id"))
    """Null: the address is no owner's, and no code opens it."""
    code_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    """Keyed hash of the code."""
    wrong_tries: Mapped[int] = mapped_column(SmallInteger, default=0)
    asked_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    redeemed_at: Mapped[datetime | None]
    signed_out_at: Mapped[datetime | None]

    owner: Mapped[Owner | None] = relationship(lazy="joined")


class ThresholdChoice(Base):
    """What an administrator said of a threshold; the newest of an algorithm and rule counts, the others are history."""

    __tablename__ = "threshold_choices"
    __table_args__ = (
        Index(None, "algorithm", "rule"),
        CheckConstraint("(threshold IS NULL) = (method IN ('default', 'newest'))", name="threshold"),
        CheckConstraint("threshold BETWEEN 0 AND 1", name="bounds"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    algorithm: Mapped[str] = mapped_column(String(32))
    """With its version, such as mao/1: another version's distances are others."""
    rule: Mapped[str] = mapped_column(String(16))
    method: Mapped[str] = mapped_column(String(16))
    """normal or tail: of a calibration; default: the measured default; newest: let the newest calibration say."""
    threshold: Mapped[float | None]
    """Th; null: `method` says where it comes from."""
    calibration_run: Mapped[str | None]
    false_alarm_rate: Mapped[float | None]
    """That the calibration was made for."""
    pairs: Mapped[int | None] = mapped_column(BigInteger)
    """That the calibration measured."""
    chosen_by: Mapped[str]
    chosen_at: Mapped[datetime] = mapped_column(server_default=func.now())
