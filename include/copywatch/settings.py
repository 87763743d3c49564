"""One typed settings object, read from environment variables with the prefix `COPYWATCH_` and from `.env`.

`.env.example` lists every setting with its default; a test keeps the two together.
"""

from __future__ import annotations

import os
import re
from email.utils import parseaddr
from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from copywatch.errors import SettingsError
from copywatch.rule import Rule

PROJECT_DIR = Path(__file__).resolve().parents[2]
ENV_PREFIX = "COPYWATCH_"


class Settings(BaseSettings):
    """What an administrator can set. Paths are local or, where said, any fsspec URL."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True)

    data_dir: Path = Field(PROJECT_DIR / "var" / "copywatch", description="Everything that is kept, unless set below")
    warehouse_url: str = Field("", description="Where the Delta tables are; default DATA_DIR/warehouse")
    landing_dir: Path | None = Field(None, description="Where crawls put their shards; default DATA_DIR/landing")
    index_dir: Path | None = Field(
        None, description="Where the search index of local features is; default DATA_DIR/index"
    )
    image_store_url: str = Field(
        "", description="Where originals and evidence are kept, any fsspec URL; default DATA_DIR/images"
    )
    intake_dir: Path | None = Field(
        None, description="The only folder protect_images reads images from; default DATA_DIR/intake"
    )
    prepared_dir: Path = Field(
        PROJECT_DIR / ".venv" / "share" / "copywatch",
        description="What set-up prepared: jars, tag models, the class-data archive",
    )
    sites_file: Path = Field(PROJECT_DIR / "sites.yaml", description="The sites to watch")

    database_url: SecretStr | None = Field(
        None, description="The ledger's PostgreSQL, as an SQLAlchemy URL; unset: an embedded server in DATA_DIR"
    )

    airflow_url: str = Field("http://localhost:8080", description="Address of the Airflow UI, for links in mails")
    portal_url: str = Field(
        "http://localhost:8090", description="Address of the owners' portal, for links in mails; https: secure cookies"
    )
    portal_secret: SecretStr = Field(
        SecretStr(""),
        description="Signs the portal's sessions and codes, 32 characters or more; empty: the portal serves only its "
        "own machine, and sessions end with it",
    )
    portal_session_hours: float = Field(12.0, gt=0, le=24 * 30, description="An owner is signed in for this long")
    portal_trusted_proxies: str = Field(
        "", description="Reverse proxies whose X-Forwarded-For and -Proto the portal believes: addresses, with commas"
    )
    check_tokens: SecretStr = Field(
        SecretStr(""), description="Bearer tokens that POST /api/check takes, 16 characters or more each, with commas"
    )

    smtp_host: str = Field("localhost", description="Mail server that alerts go out by")
    smtp_port: int = Field(1025, ge=1, le=65535, description="Its port")
    smtp_user: str = Field("", description="User at the mail server; empty: no login")
    smtp_password: SecretStr = Field(SecretStr(""), description="Password at the mail server")
    smtp_tls: bool = Field(False, description="Use STARTTLS before login")
    mail_from: str = Field("Copywatch <alerts@copywatch.invalid>", description="Sender of alerts")

    algorithm: str = Field("mao", description="Fingerprint that decides: mao")
    rule: Rule = Field(
        Rule.RESCORED,
        description="How a distance is measured: rescored (masked blocks, PDQ, turned and cropped views) or paper",
    )
    threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Th of the verdict: T = 1 up to this distance; unset: the one chosen on the thresholds page, else "
        "the newest calibration's safer one, else the measured default",
    )
    alert_certain: bool = Field(
        False, description="Alert verified copies at once, without a review; else they come first in the queue"
    )
    identical_bound: float = Field(0.0, ge=0, le=1, description="T = 0 up to this distance; 0 is the paper's")
    tag_coverage: float = Field(
        0.95, gt=0, le=1, description="tau: an image is looked up under its best tags until they sum to this"
    )

    second_stage: bool = Field(
        True,
        description="Look up crops and collages by local features, and verify every match by its pixels: 0.1 processor "
        "seconds an image",
    )

    max_image_bytes: int = Field(32 * 2**20, gt=0, description="Larger downloads and uploads are refused")
    max_image_pixels: int = Field(64_000_000, gt=0, description="Images with more pixels are refused undecoded")

    crawl_contact: str = Field(
        "",
        description="Mail or web address that the crawler gives to the sites it visits, so that they can reach you; "
        "empty: the address of MAIL_FROM",
    )
    crawl_user_agent: str = Field(
        "Copywatch/0.1 (image copyright monitoring; +{contact})",
        description="How the crawler names itself to sites; {contact} stands for CRAWL_CONTACT",
    )
    crawl_timeout_seconds: float = Field(20.0, gt=0, description="One page or image may take this long")
    crawl_site_seconds: float = Field(3600.0, gt=0, description="One site may take this long in a run")
    browser: str = Field(
        "", description="Chromium, for sites with render: true: its name or path; empty: the first that is found"
    )
    shard_bytes: int = Field(32 * 2**20, gt=0, description="A landing shard is closed at this size")

    seen_days: int = Field(365, gt=0, description="How long sightings found different are kept")

    @field_validator("crawl_contact")
    @classmethod
    def _contact_can_be_written_to(cls, value: str, info: ValidationInfo) -> str:
        contact = value.strip() or parseaddr(info.data.get("mail_from", ""))[1]
        if not re.fullmatch(r"[^\s@()<>;]+@[^\s@()<>;]+|https?://[^\s()<>;]+", contact):
            raise ValueError(f"{contact!r} is no mail address and no web address (https://...)")
        return contact

    @field_validator("crawl_user_agent")
    @classmethod
    def _crawler_has_a_name(cls, value: str, info: ValidationInfo) -> str:
        if not re.match(r"[A-Za-z_-]+", value) or not value.isascii() or not value.isprintable():
            raise ValueError("begins with the crawler's name for robots.txt, in letters, and is one line of ASCII")
        return value.replace("{contact}", info.data.get("crawl_contact", ""))

    @property
    def warehouse(self) -> str:
        """URL of the folder of the Delta tables, without a trailing slash."""
        return (self.warehouse_url or str(self.data_dir.resolve() / "warehouse")).rstrip("/")

    @property
    def landing(self) -> Path:
        """Folder of the landing shards."""
        return (self.landing_dir or self.data_dir / "landing").resolve()

    @property
    def index(self) -> Path:
        """Folder of the search index of local features."""
        return (self.index_dir or self.data_dir / "index").resolve()

    @property
    def image_store(self) -> str:
        """URL of the folder of originals and evidence, without a trailing slash."""
        return (self.image_store_url or str(self.data_dir.resolve() / "images")).rstrip("/")

    @property
    def intake(self) -> Path:
        """Folder that `protect_images` may read."""
        return (self.intake_dir or self.data_dir / "intake").resolve()


def load_settings(**overrides: object) -> Settings:
    """Read the settings afresh.

    Raises:
        SettingsError: a variable holds a value that does not fit; the message names the variable.
    """
    env_file = os.environ.get(f"{ENV_PREFIX}ENV_FILE", str(PROJECT_DIR / ".env"))
    try:
        return Settings(_env_file=env_file, **overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        troubles = "; ".join(
            f"{ENV_PREFIX}{'.'.join(str(part) for part in trouble['loc']).upper()}: {trouble['msg']}"
            for trouble in error.errors()
        )
        raise SettingsError(f"settings: {troubles}. See .env.example for what each may be.") from error


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


def env_example() -> str:
    """Every setting with its description and default, as lines of an `.env` file."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        if isinstance(default, Path) and default.is_relative_to(PROJECT_DIR):
            default = default.relative_to(PROJECT_DIR)
        value = "" if default is None else default
        lines += [f"# {field.description}.", f"# {ENV_PREFIX}{name.upper()}={value}", ""]
    return "\n".join(lines)
