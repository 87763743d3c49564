"""Evidence says by which rule it was found and what was done to the copy, and may be without the found picture."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "evidence",
        sa.Column("rule", sa.String(length=16), server_default="paper", nullable=False),
        schema="copywatch",
    )
    op.add_column("evidence", sa.Column("plain_distance", sa.Double(), nullable=True), schema="copywatch")
    op.add_column("evidence", sa.Column("view", sa.Text(), nullable=True), schema="copywatch")
    op.add_column(
        "evidence",
        sa.Column("registered_later", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        schema="copywatch",
    )
    op.alter_column("evidence", "found_address", existing_type=sa.Text(), nullable=True, schema="copywatch")
    op.create_index(op.f("ix_copywatch_evidence_found_sha256"), "evidence", ["found_sha256"], schema="copywatch")


def downgrade() -> None:
    """Take back. Evidence without a picture gets the address that it would have, at which nothing is kept."""
    op.drop_index(op.f("ix_copywatch_evidence_found_sha256"), table_name="evidence", schema="copywatch")
    op.execute(
        "UPDATE copywatch.evidence SET found_address = 'evidence/' || left(found_sha256, 2) || '/' || found_sha256 "
        "WHERE found_address IS NULL"
    )
    op.alter_column("evidence", "found_address", existing_type=sa.Text(), nullable=False, schema="copywatch")
    for column in ("registered_later", "view", "plain_distance", "rule"):
        op.drop_column("evidence", column, schema="copywatch")
