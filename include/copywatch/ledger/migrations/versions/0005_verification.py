"""Evidence says what verification made of it; a review may have left the queue by that."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = {
    "verification": sa.String(length=16),
    "probability": sa.Double(),
    "unverified": sa.Text(),
    "edit": sa.Text(),
    "explanation_address": sa.Text(),
}


def upgrade() -> None:
    """Apply."""
    for name, kind in _COLUMNS.items():
        op.add_column("evidence", sa.Column(name, kind, nullable=True), schema="copywatch")


def downgrade() -> None:
    """Take back. What left the queue waits for a person again."""
    op.execute("UPDATE copywatch.reviews SET state = 'pending' WHERE state = 'different'")
    for name in reversed(_COLUMNS):
        op.drop_column("evidence", name, schema="copywatch")
