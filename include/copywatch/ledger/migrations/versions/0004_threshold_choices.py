"""Which threshold an administrator chose."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "threshold_choices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("algorithm", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=16), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("calibration_run", sa.Text(), nullable=True),
        sa.Column("false_alarm_rate", sa.Double(), nullable=True),
        sa.Column("pairs", sa.BigInteger(), nullable=True),
        sa.Column("chosen_by", sa.Text(), nullable=False),
        sa.Column("chosen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(threshold IS NULL) = (method IN ('default', 'newest'))", name=op.f("ck_threshold_choices_threshold")
        ),
        sa.CheckConstraint("threshold BETWEEN 0 AND 1", name=op.f("ck_threshold_choices_bounds")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_threshold_choices")),
        schema="copywatch",
    )
    op.create_index(
        op.f("ix_copywatch_threshold_choices_algorithm_copywatch_threshold_choices_rule"),
        "threshold_choices",
        ["algorithm", "rule"],
        unique=False,
        schema="copywatch",
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index(
        op.f("ix_copywatch_threshold_choices_algorithm_copywatch_threshold_choices_rule"),
        table_name="threshold_choices",
        schema="copywatch",
    )
    op.drop_table("threshold_choices", schema="copywatch")
