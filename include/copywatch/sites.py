"""The watched sites, as the administrator writes them in `sites.yaml`.

```yaml
sites:
  - name: photo-community
    start: https://photos.example/galleries
    every: 6h
```

Every other field has a default that does for most sites. A mistake is told with its file and line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from copywatch.errors import SitesFileError

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def parse_interval(value: object) -> object:
    """`30m`, `6h` or `1d` as a timedelta; anything else is left to pydantic to refuse."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"([0-9]{1,6})\s*([mhd])", value.strip()) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise ValueError("an interval is a number and m, h or d: 30m, 6h, 1d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _check_selector(value: str) -> str:
    """A CSS selector that the crawl can use; a mistake is better told here than by an empty crawl."""
    # Most sites have no selectors of their own, and then nothing needs the import.
    from cssselect import HTMLTranslator, SelectorError

    try:
        HTMLTranslator().css_to_xpath(value)
    except (SelectorError, RecursionError) as error:
        raise ValueError(f"{value[:80]!r} is no CSS selector: {error}") from error
    return value


def _check_web_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        fits = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits or re.search(r"[\s\x00-\x1f\ud800-\udfff]", value):
        raise ValueError(f"{value!r} is no web address: it begins with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise ValueError(f"{value!r} holds a user name; the crawl sends none")
    return value


def _check_host(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?", value):
        raise ValueError(f"{value!r} is no host: cdn.example, or cdn.example:9000, without http:// and path")
    return value


Kind = Literal["auto", "wordpress", "mediawiki", "mastodon", "feed", "sitemap", "gallery", "page"]
"""auto: detected; page: the start pages alone; gallery: links on the site's own host are followed; the others are what
they are called, by their interfaces."""


def _as_text(interval: timedelta) -> str:
    return f"{max(1, int(interval.total_seconds() // 60))}m"


Interval = Annotated[
    timedelta, BeforeValidator(parse_interval), PlainSerializer(_as_text, return_type=str, when_used="json")
]
Selector = Annotated[str, AfterValidator(_check_selector)]
WebAddress = Annotated[str, AfterValidator(_check_web_address)]
HostName = Annotated[str, AfterValidator(_check_host)]


class Selectors(BaseModel):
    """Where a page says what. CSS selectors; each list is tried in turn, the first that finds something wins."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item: Selector = Field(
        "figure, article, .photo, .thumb, .gallery-item",
        description="The element that holds one image and what is said of it",
    )
    image: list[Selector] = Field(
        default_factory=lambda: ["img"], min_length=1, description="Images; the largest of srcset is taken"
    )
    uploader: list[Selector] = Field(
        default_factory=lambda: ["[itemprop=author]", "[rel=author]", ".uploader", ".author", ".user"],
        description="Who uploaded it, looked for in the image's item, then in the page",
    )
    uploaded_at: list[Selector] = Field(
        default_factory=lambda: ["time[datetime]", "[itemprop=datePublished]", "[itemprop=uploadDate]", ".date"],
        description="When, likewise: the datetime or content attribute, else the text",
    )
    follow: list[Selector] = Field(
        default_factory=lambda: ["a"], description="Links to further pages; only those on the site's own host"
    )


class Site(BaseModel):
    """One watched site."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Short name: lower case, digits, hyphens")
    start: list[WebAddress] = Field(min_length=1, description="Address, or addresses, that the crawl starts at")
    kind: Kind = Field("auto", description="Kind of source; auto: what the start address turns out to be")
    every: Interval = Field(timedelta(days=1), description="Interval between crawls: 30m, 6h, 1d")
    every_at_most: Interval | None = Field(
        None, description="Up to this the interval grows while nothing new comes; unset: it stays as it is"
    )
    enabled: bool = Field(True, description="false: known, but not crawled")
    select: Selectors = Field(default_factory=lambda: Selectors(), description="Where its pages say what")
    max_pages: int = Field(20_000, ge=1, description="New pages of one crawl")
    max_images: int = Field(20_000, ge=1, description="New images of one crawl")
    max_depth: int = Field(30, ge=0, description="Links between a start page and the last page")
    delay_seconds: float = Field(0.5, ge=0, description="Least time between two requests to one host")
    concurrency: int = Field(4, ge=1, le=16, description="Requests to one host at the same time")
    bytes_per_second: int | None = Field(None, ge=1024, description="Bandwidth of the crawl; unset: no bound")
    render: bool = Field(False, description="true: pages need JavaScript, and are read by a browser (see operations)")
    image_hosts: list[HostName] | None = Field(
        None, description="Hosts whose images are fetched (hot-linked ones too); unset: any public host"
    )
    allow_private_addresses: bool = Field(
        False, description="true only for a site inside your own network: lets the crawl reach private addresses"
    )

    @field_validator("start", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _intervals_rise(self) -> Site:
        if self.every_at_most is not None and self.every_at_most < self.every:
            raise ValueError("every_at_most must not be shorter than every")
        return self

    @property
    def hosts(self) -> frozenset[str]:
        """Hosts of the start addresses: the pages that the crawl may follow links to."""
        return frozenset(host for address in self.start if (host := urlsplit(address).hostname))


class Sites(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sites: list[Site] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_differ(self) -> Sites:
        names = [site.name for site in self.sites]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"two sites are named {', '.join(doubled)}")
        return self

    @property
    def enabled(self) -> list[Site]:
        """Sites that are crawled."""
        return [site for site in self.sites if site.enabled]

    @property
    def shortest_interval(self) -> timedelta:
        """The interval that `watch_sites` runs at."""
        return min((site.every for site in self.enabled), default=timedelta(days=1))

    def named(self, names: Sequence[str]) -> list[Site]:
        """The sites of these names, in the order of the file.

        Raises:
            SitesFileError: a name is not in the file.
        """
        unknown = sorted(set(names) - {site.name for site in self.sites})
        if unknown:
            known = ", ".join(site.name for site in self.sites)
            raise SitesFileError(f"no site is named {', '.join(unknown)}; there are: {known}")
        return [site for site in self.sites if site.name in names]


def _line_of(document: Any, path: Sequence[int | str]) -> int:
    """The line (from 1) of the deepest part of `path` that the document has."""
    line = 1
    for part in path:
        position = getattr(document, "lc", None)
        if position is None:
            break
        try:
            line = (position.item(part) if isinstance(part, int) else position.key(part))[0] + 1
            document = document[part]
        except (KeyError, IndexError, TypeError, AttributeError):
            break
    return int(line)


def load_sites(path: Path) -> Sites:
    """Read and check a sites file.

    Raises:
        SitesFileError: missing, no YAML, or a field is wrong; the message begins with `file:line:`.
    """
    try:
        document = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SitesFileError(
            f"{path}:1: there is no such file. Copy sites.example.yaml there, or set COPYWATCH_SITES_FILE."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SitesFileError(f"{path}:1: cannot be read: {error}") from error
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SitesFileError(f"{path}:{line}: this is no YAML: {error.problem}") from error
    except Exception as error:  # ruamel's readers of numbers and dates let what they raise through
        raise SitesFileError(f"{path}:1: this is no YAML: {error}") from error
    if not isinstance(document, dict):
        raise SitesFileError(f"{path}:1: the file begins with 'sites:' and a list below it")
    try:
        return Sites.model_validate(document)
    except ValidationError as error:
        troubles = []
        for trouble in error.errors():
            field = ".".join(str(part) for part in trouble["loc"])
            message = trouble["msg"].removeprefix("Value error, ")
            troubles.append(f"{path}:{_line_of(document, trouble['loc'])}: {field}: {message}")
        raise SitesFileError("\n".join(troubles)) from error


def site_of_address(address: str, **fields: object) -> Site:
    """A site made of one address, for a crawl without any file; `fields`: of the site, where they differ.

    Raises:
        SitesFileError: it is no web address.
    """
    try:
        host = urlsplit(address).hostname or "page"
    except ValueError as error:
        raise SitesFileError(f"{address!r} is no web address: {error}") from error
    name = re.sub(r"[^a-z0-9]+", "-", host.lower()).strip("-")[:62] or "page"
    try:
        return Site.model_validate({"name": name, "start": address, **fields})
    except ValidationError as error:
        raise SitesFileError("; ".join(t["msg"].removeprefix("Value error, ") for t in error.errors())) from error
