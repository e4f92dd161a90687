"""Where a trial comes from that another job gave."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the job and the number of the trial that it comes from."""
    op.add_column("trials", sa.Column("origin_job", sa.String(64)))
    op.add_column("trials", sa.Column("origin_number", sa.Integer))


def downgrade() -> None:
    """Forget it. Trials that were taken over stay, and then look like a job's own."""
    op.drop_column("trials", "origin_number")
    op.drop_column("trials", "origin_job")
