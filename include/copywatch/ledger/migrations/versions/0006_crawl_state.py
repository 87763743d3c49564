"""The crawls remember images with their validators, pages, robots.txt and notes; sites have adapted intervals."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def _columns() -> dict[str, list[sa.Column[Any]]]:
    """New columns of each table; a column object can be added once."""
    return {
        "crawled_images": [
            sa.Column("url", sa.Text(), server_default="", nullable=False),
            sa.Column("page_url", sa.Text(), server_default="", nullable=False),
            sa.Column("sha256", sa.String(length=64), nullable=True),
            sa.Column("source_hash", sa.Text(), nullable=True),
            sa.Column("version", sa.Text(), nullable=True),
            sa.Column("etag", sa.Text(), nullable=True),
            sa.Column("last_modified", sa.Text(), nullable=True),
            sa.Column("size", sa.BigInteger(), nullable=True),
            sa.Column("checked_at", _MOMENT, server_default=sa.text("now()"), nullable=False),
        ],
        "crawl_cursors": [
            sa.Column("source", sa.String(length=32), nullable=True),
            sa.Column("new_images_last", sa.Integer(), nullable=True),
            sa.Column("interval_seconds", sa.Double(), nullable=True),
            sa.Column("adapted_at", _MOMENT, nullable=True),
            sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
            sa.Column("blocked_until", _MOMENT, nullable=True),
            sa.Column("blocked_why", sa.Text(), nullable=True),
        ],
        "evidence": [
            sa.Column("uploader_url", sa.Text(), nullable=True),
            sa.Column("uploaded_at_source", sa.Text(), nullable=True),
            sa.Column("caption", sa.Text(), nullable=True),
            sa.Column("licence", sa.Text(), nullable=True),
        ],
    }


def upgrade() -> None:
    """Apply. Image addresses that are settled stay so; all that is known of them is their hash."""
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column, schema="copywatch")
    op.execute("UPDATE copywatch.crawled_images SET checked_at = settled_at")
    op.create_table(
        "crawled_pages",
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("url_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("found_on", sa.Text(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("last_modified", sa.Text(), nullable=True),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=True),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("links", sa.Integer(), nullable=False),
        sa.Column("visited_at", _MOMENT, nullable=True),
        sa.Column("changed_at", _MOMENT, nullable=True),
        sa.Column("run", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site", "url_hash", name=op.f("pk_crawled_pages")),
        schema="copywatch",
    )
    op.create_table(
        "crawled_robots",
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("fetched_at", _MOMENT, nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("site", "origin", name=op.f("pk_crawled_robots")),
        schema="copywatch",
    )
    op.create_table(
        "crawl_notes",
        sa.Column("site", sa.String(length=63), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("site", "name", name=op.f("pk_crawl_notes")),
        schema="copywatch",
    )


def downgrade() -> None:
    """Take back. Settled image addresses stay settled; the next crawls read all pages again."""
    for table in ("crawl_notes", "crawled_robots", "crawled_pages"):
        op.drop_table(table, schema="copywatch")
    for table, columns in _columns().items():
        for column in reversed(columns):
            op.drop_column(table, column.name, schema="copywatch")
