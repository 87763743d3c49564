"""Applications for protection: received, checked for duplicates, accepted or refused with a reason.

SRPITP, section 3, steps (1) to (3).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from pathlib import Path

import pyarrow as pa
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from copywatch.decode import decode
from copywatch.errors import CopywatchError, Reason, UnusableImage
from copywatch.images import ImageStore
from copywatch.lake import schemas
from copywatch.lake.identity import protected_id
from copywatch.ledger.models import Application, ApplicationState, Owner
from copywatch.settings import Settings

_MAX_NAME = 255
_MAX_ADDRESS = 320


def owner_by_email(session: Session, email: str, name: str = "") -> Owner:
    """The owner of this address, entered if new.

    Raises:
        CopywatchError: it is no mail address.
    """
    address = email.strip().lower()
    if not _is_mail_address(address):
        raise CopywatchError(f"owner: {email!r} is no mail address; write name@host")
    owner = session.scalar(select(Owner).where(Owner.email == address))
    if owner is None:
        owner = Owner(email=address, name=name.strip()[:_MAX_NAME])
        session.add(owner)
        session.flush()
    return owner


def _is_mail_address(address: str) -> bool:
    """Will the mail library take it as a recipient, and as one only?"""
    if len(address) > _MAX_ADDRESS or any(sign.isspace() or not sign.isprintable() for sign in address):
        return False
    try:
        parsed = Address(addr_spec=address)
    except Exception:  # the parser answers broken addresses with IndexErrors and AttributeErrors too
        return False
    return bool(parsed.username and parsed.domain) and parsed.addr_spec == address


def files_of_intake(intake: Path, folder: str, limit: int = 10_000) -> list[Path]:
    """Files of one folder of the intake, sub-folders included, sorted.

    Raises:
        CopywatchError: the folder leads out of the intake, is missing, or holds more than `limit` files.
    """
    root = intake.resolve()
    chosen = (root / folder).resolve()
    if not chosen.is_relative_to(root):
        raise CopywatchError(f"intake: {folder!r} leads out of {root}; give a folder below it")
    if not chosen.is_dir():
        raise CopywatchError(f"intake: {folder!r} is no folder of {root}; put the images there first")
    found = sorted(
        path
        for path in chosen.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.resolve().is_relative_to(root)
    )
    if len(found) > limit:
        raise CopywatchError(f"intake: {folder!r} holds {len(found)} files, at most {limit} in one run; split it")
    return found


def receive(
    session: Session,
    *,
    run: str,
    owner: Owner,
    files: Iterable[Path],
    root: Path,
    store: ImageStore,
    config: Settings,
    protected_until: datetime | None = None,
) -> list[Application]:
    """Enter one application per file: originals are kept, unusable and known ones refused with their reason.

    Running it again for the same run changes nothing: its applications are found by run, owner and file name.
    """
    # Two runs that receive the same image at once must not both accept it.
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext('copywatch.applications'))"))
    received = {
        application.filename: application
        for application in session.scalars(
            select(Application).where(Application.run == run, Application.owner_id == owner.id)
        )
    }
    for path in files:
        filename = _filename(path.relative_to(root))
        if filename in received:
            continue
        application = _checked(session, path, filename, run, owner, store, config)
        application.protected_until = protected_until
        session.add(application)
        session.flush()
        received[filename] = application
    return [received[name] for name in sorted(received)]


def _filename(path: Path) -> str:
    """A path as the ledger keeps it: text whatever bytes the file system has, and short."""
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    if len(name) <= _MAX_NAME:
        return name
    # Its end says most; the digest keeps two long paths apart.
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{digest}...{name[-(_MAX_NAME - 19) :]}"


def _checked(
    session: Session, path: Path, filename: str, run: str, owner: Owner, store: ImageStore, config: Settings
) -> Application:
    application = Application(run=run, owner_id=owner.id, filename=filename, sha256="")
    try:
        if path.stat().st_size > config.max_image_bytes:
            raise UnusableImage(Reason.TOO_LARGE, f"{path.stat().st_size:,} bytes, at most {config.max_image_bytes:,}")
        data = path.read_bytes()
        application.sha256 = hashlib.sha256(data).hexdigest()
        decode(data, max_pixels=config.max_image_pixels, max_bytes=config.max_image_bytes)
    except (UnusableImage, OSError) as error:
        application.state = ApplicationState.REFUSED
        # An operating system's error names our folders, which are no owner's business.
        application.reason = str(error) if isinstance(error, UnusableImage) else f"cannot be read: {error.strerror}"
        application.decided_at = datetime.now(UTC)
        return application
    holder = session.scalar(
        select(Application)
        .where(Application.sha256 == application.sha256, Application.state != ApplicationState.REFUSED)
        .order_by(Application.id)
        .limit(1)
    )
    if holder is not None:
        whose = "by you" if holder.owner_id == owner.id else "by another owner"
        application.state = ApplicationState.REFUSED
        application.reason = f"already protected {whose}, since {holder.submitted_at:%Y-%m-%d}"
        application.decided_at = datetime.now(UTC)
        return application
    application.state = ApplicationState.RECEIVED
    application.protected_id = protected_id(str(owner.id), application.sha256)
    application.storage_address = store.put(data, "originals")
    return application


def intake_rows(session: Session, run: str, store: ImageStore) -> Iterable[dict[str, object]]:
    """Rows of `schemas.INTAKE` for all applications of `run` that were not refused.

    Those protected already come too: the run's rows in the lake are replaced as a whole.
    """
    for application in of_run(session, run):
        if application.state == ApplicationState.REFUSED:
            continue
        yield {
            "run": run,
            "application_id": application.id,
            "owner": str(application.owner_id),
            "storage_address": application.storage_address,
            "registered_at": application.submitted_at,
            "protected_until": application.protected_until,
            "sha256": application.sha256,
            "bytes": store.get(str(application.storage_address)),
        }


def waiting(session: Session, run: str) -> Sequence[Application]:
    """Applications of `run` that were neither refused nor protected yet."""
    return session.scalars(
        select(Application)
        .where(Application.run == run, Application.state == ApplicationState.RECEIVED)
        .order_by(Application.id)
    ).all()


def mark_protected(session: Session, run: str, protected: pa.Table) -> list[Application]:
    """Mark the applications whose rows stand in the `protected` table; returns them.

    Call it when the run's fingerprints are made: what still waits and has no row gets none, and is refused.
    """
    if not set(protected.column_names) >= {"application_id"}:
        raise CopywatchError(f"the rows are not of the table {schemas.PROTECTED.name}: no application_id")
    written = set(protected.column("application_id").to_pylist())
    done = []
    for application in waiting(session, run):
        if application.id in written:
            application.state = ApplicationState.PROTECTED
            done.append(application)
        else:
            application.state = ApplicationState.REFUSED
            application.reason = "could not be fingerprinted; the log of the run's task 'fingerprint' says why"
        application.decided_at = datetime.now(UTC)
    session.flush()
    return done


def of_run(session: Session, run: str) -> Sequence[Application]:
    """All applications of a run, in the order they were received."""
    return session.scalars(select(Application).where(Application.run == run).order_by(Application.id)).all()
