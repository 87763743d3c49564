"""The tables' columns. Arrow schemas are the one source; Spark's are made from them.

Each field's description is kept as its comment in the Delta table, so an analyst sees it in `DESCRIBE TABLE`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")
TAGS = pa.map_(pa.string(), pa.float32())


def _field(name: str, kind: pa.DataType, comment: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"comment": comment})


_RUN = _field("run", pa.string(), "Airflow run that wrote the row")
_SITE = _field("site", pa.string(), "name of the site, as in sites.yaml")
_PAGE_URL = _field("page_url", pa.string(), "page that shows the image")
_IMAGE_URL = _field("image_url", pa.string(), "address of the image itself")
_UPLOADER = _field("uploader", pa.string(), "who uploaded it, as the page says; null: it does not say")
_UPLOADER_URL = _field("uploader_url", pa.string(), "the uploader's own page, as the page says")
_UPLOADED_AT = _field("uploaded_at", TIMESTAMP, "when it was uploaded, as the page says")
_UPLOADED_AT_SOURCE = _field("uploaded_at_source", pa.string(), "what said so, such as wordpress date_gmt")
_CAPTION = _field("caption", pa.string(), "what the page says below the image")
_LICENCE = _field("licence", pa.string(), "licence or rights that the page, or the file itself, states")
_CRAWLED_AT = _field("crawled_at", TIMESTAMP, "when we fetched it")
_SHA256 = _field("sha256", pa.string(), "SHA-256 of the bytes, hexadecimal")
_TAG = _field("tag", pa.string(), "most probable tag; the partition")
_TAGS = _field("tags", TAGS, "probability of each tag")
_FINGERPRINT = _field("fingerprint", pa.binary(), "the deciding algorithm's fingerprint (mao: 180 bytes)")
_ALGORITHM = _field("algorithm", pa.string(), "algorithm and version of the fingerprint, such as mao/1")
_SIGHTING_ID = _field("sighting_id", pa.string(), "site, page, image address and bytes, hashed: one sighting")
_PROTECTED_ID = _field("protected_id", pa.string(), "the protected image")

_TOLD = [_UPLOADER, _UPLOADER_URL, _UPLOADED_AT, _UPLOADED_AT_SOURCE, _CAPTION, _LICENCE]
_SIGHTING = [_SIGHTING_ID, _SITE, _PAGE_URL, _IMAGE_URL, *_TOLD, _CRAWLED_AT, _SHA256]
_MASK = _field("mask", pa.binary(), "144 bits: which blocks of the fingerprint show detail; null: not mao")
_VIEWS = _field(
    "views", pa.binary(), "records of 231 bytes: kind, fingerprint, mask, PDQ (copywatch.fingerprint.views)"
)
_FINGERPRINTED = [_FINGERPRINT, _MASK, _VIEWS, _ALGORITHM, _TAG, _TAGS]

LANDING = pa.schema(
    [
        _RUN,
        _SITE,
        _PAGE_URL,
        _IMAGE_URL,
        _field("final_url", pa.string(), "where redirects led; null: nothing answered"),
        *_TOLD,
        _CRAWLED_AT,
        _field("content_type", pa.string(), "what the server said it is"),
        _field("etag", pa.string(), "the server's validator, as it sent it"),
        _field("last_modified", pa.string(), "likewise"),
        _field("http_status", pa.int32(), "what the server answered; null: it was not asked, or did not"),
        _field("source_hash", pa.string(), "what the source says of the bytes, such as sha1: and 40 digits"),
        _field("reason", pa.string(), "why there are no bytes; null: there are, or an earlier crawl had them"),
        _field("detail", pa.string(), "what was seen, beside the reason"),
        _SHA256,
        _field("size", pa.int64(), "bytes"),
        _field(
            "bytes",
            pa.large_binary(),
            "the image, as fetched; null with a reason, or where the source tells that "
            "they are those of an earlier crawl's row with the same sha256",
        ),
    ]
)
"""One row of a crawl's shard: an image fetched, or one that could not be, with its reason."""

INTAKE = pa.schema(
    [
        _RUN,
        _field("application_id", pa.int64(), "the ledger's application"),
        _field("owner", pa.string(), "owner's id in the ledger"),
        _field("storage_address", pa.string(), "where the original is kept"),
        _field("registered_at", TIMESTAMP, "when the application was accepted"),
        _field("protected_until", TIMESTAMP, "end of the protection; null: open"),
        _SHA256,
        _field("bytes", pa.large_binary(), "the original"),
    ]
)
"""One row of an intake shard: an accepted application's original."""


@dataclass(frozen=True)
class Table:
    """A Delta table: its name, its columns, how it is partitioned."""

    name: str
    columns: pa.Schema
    partition_by: tuple[str, ...]
    comment: str


PROTECTED = Table(
    "protected",
    pa.schema(
        [
            _PROTECTED_ID,
            _field("owner", pa.string(), "owner's id in the ledger"),
            _field("application_id", pa.int64(), "the ledger's application"),
            _field("storage_address", pa.string(), "where the original is kept"),
            _SHA256,
            *_FINGERPRINTED,
            _field("other_fingerprints", pa.map_(pa.string(), pa.binary()), "fingerprints of further algorithms"),
            _field("group_id", pa.string(), "the first protected image that shows the same photo; its own id if alone"),
            _field("width", pa.int32(), "pixels"),
            _field("height", pa.int32(), "pixels"),
            _field("registered_at", TIMESTAMP, "when the protection began"),
            _field("protected_until", TIMESTAMP, "when it ends; null: open"),
            _field("status", pa.string(), "active, or withdrawn"),
            _RUN,
        ]
    ),
    ("tag",),
    "a protected image",
)

_DETECTED_COLUMNS = [
    *_SIGHTING,
    *_FINGERPRINTED,
    _field("width", pa.int32(), "pixels"),
    _field("height", pa.int32(), "pixels"),
    _RUN,
]

DETECTED = Table("detected", pa.schema(_DETECTED_COLUMNS), ("tag",), "a sighting still in play")
SEEN = Table("seen", pa.schema(_DETECTED_COLUMNS), ("tag",), "a sighting found different (T = 2); no bytes are kept")

MATCHES = Table(
    "matches",
    pa.schema(
        [
            *_SIGHTING,
            _PROTECTED_ID,
            _field("owner", pa.string(), "owner's id in the ledger"),
            _field("verdict", pa.int8(), "the paper's T: 0 identical, 1 similar"),
            _field("distance", pa.float64(), "what Th is compared with, 0 to 1: by the rule"),
            _field("rule", pa.string(), "rescored: copywatch.matching.score; paper: SRPITP's Formula (1)"),
            _field("plain_distance", pa.float64(), "SRPITP's normalised Hamming distance of the views compared"),
            _field(
                "view", pa.string(), "what was done to the copy as the views show it, such as mirrored; null: nothing"
            ),
            _ALGORITHM,
            _field("threshold", pa.float64(), "Th in force at the match"),
            _field("verification", pa.string(), "the second stage: certain, doubtful or different; null: not verified"),
            _field("probability", pa.float64(), "that it is a copy, by verification; null: not verified"),
            _field("unverified", pa.string(), "why it was not verified; null: it was"),
            _field("edit", pa.string(), "what was done to the copy, in words; null: nothing that shows"),
            _field(
                "alignment",
                pa.list_(pa.float64()),
                "a to f: (x, y) of the found picture lies at (a x + b y + c, d x + e y + f) of the protected one, "
                "places as shares of width and height",
            ),
            _field(
                "measures",
                pa.map_(pa.string(), pa.float64()),
                "what the probability was made of, by name: copywatch.verification.verdict.Measures",
            ),
            _field("verifier", pa.string(), "version of the verification, such as align/1"),
            _field(
                "state",
                pa.string(),
                "certain (alerted at once), doubtful (waits for a person), different (left the queue by verification), "
                "accepted or refused",
            ),
            _field("decided_by", pa.string(), "who decided a doubtful one"),
            _field("decided_at", TIMESTAMP, "when"),
            _field("matched_at", TIMESTAMP, "when the pair was found"),
            _TAG,
            _RUN,
        ]
    ),
    ("tag",),
    "a (sighting, protected image) pair with T < 2",
)

REJECTED = Table(
    "rejected",
    pa.schema(
        [
            _SITE,
            _PAGE_URL,
            _IMAGE_URL,
            _field("reason", pa.string(), "why there is no usable image"),
            _field("detail", pa.string(), "what was seen"),
            _field("http_status", pa.int32(), "what the server answered"),
            _SHA256,
            _field("size", pa.int64(), "bytes"),
            _CRAWLED_AT,
            _RUN,
        ]
    ),
    ("site",),
    "bytes, or an address, that gave no usable image",
)

FEATURES = Table(
    "features",
    pa.schema(
        [
            _PROTECTED_ID,
            _field("shard", pa.int32(), "the partition, and the part of the search index"),
            _field("model", pa.string(), "version of the codes, such as sift-itq/1"),
            _field("points", pa.int32(), "how many there are; few: the fingerprint alone covers the image"),
            _field("scaled_width", pa.int32(), "pixels of the picture that the points were found in"),
            _field("scaled_height", pa.int32(), "likewise"),
            _field("codes", pa.binary(), "16 bytes a point: the quantised local descriptors"),
            _field("positions", pa.binary(), "6 bytes a point: their places, scales and angles"),
            _field("thumbnail", pa.binary(), "a small JPEG, for verification"),
            _RUN,
        ]
    ),
    ("shard",),
    "a protected image's local features",
)

THRESHOLDS = Table(
    "thresholds",
    pa.schema(
        [
            _ALGORITHM,
            _field("rule", pa.string(), "rescored or paper, as in matches"),
            _field("threshold", pa.float64(), "Th"),
            _field("false_alarm_rate", pa.float64(), "share of different pairs within Th, as wished"),
            _field("method", pa.string(), "normal: Formula (3); tail: measured; published: by its authors"),
            _field("images", pa.int64(), "different images measured"),
            _field("pairs", pa.int64(), "pairs measured"),
            _field("mean", pa.float64(), "mean distance"),
            _field("deviation", pa.float64(), "standard deviation of the distance"),
            _field("histogram", pa.list_(pa.int64()), "pairs in each of 200 equal bins of the distance, 0 to 1"),
            _field("within", pa.int64(), "pairs measured within Th"),
            _field(
                "unjudged", pa.int64(), "further pairs within Th, left out since the machine takes them for one picture"
            ),
            _field("needs_a_person", pa.bool_(), "whether Th must not come into force before somebody chose it"),
            _field("note", pa.string(), "what these figures can and cannot say"),
            _field("closest", pa.string(), "the closest pairs, JSON: ids and distance, for a person to look at"),
            _field("plot", pa.binary(), "PNG of the histogram, the normal fit and both thresholds"),
            _field("calibrated_at", TIMESTAMP, "when"),
            _RUN,
        ]
    ),
    (),
    "what calibration measured",
)

CRAWL_STATS = Table(
    "crawl_stats",
    pa.schema(
        [
            _SITE,
            _field("outcome", pa.string(), "finished, limited (a bound of sites.yaml was reached) or failed"),
            _field("error", pa.string(), "why it failed"),
            _field("pages", pa.int64(), "pages read"),
            _field("pages_failed", pa.int64(), "pages that could not be read; each is a row of rejected"),
            _field("images_found", pa.int64(), "image addresses on them"),
            _field("images_known", pa.int64(), "of these, fetched by an earlier crawl"),
            _field("images_fetched", pa.int64(), "fetched now"),
            _field("images_failed", pa.int64(), "could not be fetched; each is a row of rejected"),
            _field("bytes_fetched", pa.int64(), "bytes of the images fetched"),
            _field("source", pa.string(), "kind of source that was read, such as wordpress"),
            _field("requests", pa.int64(), "requests made, those for robots.txt and further tries among them"),
            _field("bytes_received", pa.int64(), "bytes of all answers"),
            _field("not_modified", pa.int64(), "answers 304: pages and images that are as they were"),
            _field("images_repeated", pa.int64(), "new places of bytes that an earlier crawl fetched, by their hash"),
            _field("robots_refused", pa.int64(), "addresses that robots.txt forbids"),
            _field("errors", pa.int64(), "requests that no answer came to"),
            _field("rejected", pa.map_(pa.string(), pa.int64()), "pages and images that gave none, by reason"),
            _field("seconds", pa.float64(), "duration"),
            _field("started_at", TIMESTAMP, "begin of the crawl"),
            _field("finished_at", TIMESTAMP, "its end"),
            _RUN,
        ]
    ),
    (),
    "one crawl of one site",
)

CAPACITY = Table(
    "capacity",
    pa.schema(
        [
            _field("measured_at", TIMESTAMP, "when"),
            _field("images_per_hour", pa.float64(), "demand measured or forecast"),
            _field("forecast", pa.bool_(), "false: measured"),
            _field("nodes", pa.int32(), "nodes that serve it"),
            _RUN,
        ]
    ),
    (),
    "what forecasts measured",
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (PROTECTED, SEEN, DETECTED, MATCHES, FEATURES, REJECTED, THRESHOLDS, CRAWL_STATS, CAPACITY)
}
