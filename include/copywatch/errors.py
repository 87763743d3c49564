"""Every error the library raises on purpose.

A message says what was wrong, where, and what to do. Data that cannot be used is not an error of the run: it becomes
a row with its reason, and `UnusableImage` carries that reason to whoever writes the row.
"""

from __future__ import annotations

from enum import StrEnum


class CopywatchError(Exception):
    """Base of all errors below."""


class SettingsError(CopywatchError):
    """A setting is missing or contradicts another one."""


class MachineError(CopywatchError):
    """The machine lacks something that Copywatch needs (Java, a port, a prepared model)."""


class SitesFileError(CopywatchError):
    """`sites.yaml` does not say what it should; the message begins with `file:line:`."""


class CrawlFailed(CopywatchError):
    """A whole site could not be crawled. Raised by the crawl, shown on that site's mapped task.

    Attributes:
        site: name of the site, as in `sites.yaml`.
        reason: one sentence: what the site answered.
    """

    def __init__(self, site: str, reason: str) -> None:
        super().__init__(f"{site}: {reason}")
        self.site = site
        self.reason = reason


class LakeError(CopywatchError):
    """A Delta table is missing or does not have the columns it should have."""


class EvaluationError(CopywatchError):
    """The folders or the truth file of an evaluation cannot be used; about a line, the message begins `file:line:`."""


class AlertNotSent(CopywatchError):
    """A channel did not take an alert; it stays in the outbox and is tried again."""


class Reason(StrEnum):
    """Why bytes, or an address, gave no usable image: the `reason` column of the `rejected` table."""

    EMPTY = "empty: zero bytes"
    HTML = "not an image: HTML"
    NOT_AN_IMAGE = "not an image: unknown format"
    SVG = "vector image (SVG): nothing to fingerprint"
    TRUNCATED = "truncated image"
    CORRUPT = "corrupt image"
    TOO_MANY_PIXELS = "too many pixels"
    TOO_LARGE = "too many bytes"
    TOO_SMALL = "too few pixels to tell images apart"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timed out"
    REDIRECT_LOOP = "too many redirects"
    HTTP_STATUS = "HTTP error"
    FORBIDDEN_BY_ROBOTS = "forbidden by robots.txt"
    FORBIDDEN_ADDRESS = "address not allowed"
    GONE = "known bytes whose fingerprint is no longer kept"


class UnusableImage(CopywatchError):
    """These bytes give no fingerprint.

    Attributes:
        reason: the kind of trouble, a `Reason`.
        detail: what was seen, for the person who reads the row ("130 megapixels, at most 64"); may be empty.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value} ({detail})" if detail else reason.value)
        self.reason = reason
        self.detail = detail
