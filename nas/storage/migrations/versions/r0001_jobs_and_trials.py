"""Jobs and trials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("finished_at", sa.Double),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("lease_expires_at", sa.Double),
        sa.Column("spec", sa.Text, nullable=False),
    )
    op.create_index("ix_jobs_state", "jobs", ["state", "created_at"])
    op.create_table(
        "trials",
        sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("genes", sa.LargeBinary, nullable=False),
        sa.Column("fidelity", sa.Double),
        sa.Column("resume_from", sa.Integer),
        sa.Column("metrics", sa.Text),
        sa.Column("feasible", sa.Boolean),
        sa.Column("reason", sa.Text),
        sa.Column("finish_order", sa.Integer),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_trials_state", "trials", ["job_id", "state"])
    op.create_index("ix_trials_key", "trials", ["job_id", "key"])
    op.create_index("ix_trials_finish_order", "trials", ["job_id", "finish_order"], unique=True)


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("trials")
    op.drop_table("jobs")
