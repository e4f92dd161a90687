"""Exports: networks of trials that runners write to files."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add their table."""
    op.create_table(
        "exports",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("trial", sa.Integer, nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("weights", sa.String(16), nullable=False),
        sa.Column("data_licence", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("lease_expires_at", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
    )
    op.create_index("ix_exports_job", "exports", ["job_id", "id"])
    op.create_index("ix_exports_state", "exports", ["state", "id"])


def downgrade() -> None:
    """Forget what was exported; the files stay among the artifacts."""
    op.drop_table("exports")
