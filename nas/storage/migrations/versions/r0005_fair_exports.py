"""Exports: whose they are, tokens against asking twice, how they are claimed in turn and handed back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

jobs = sa.table("jobs", sa.column("id"), sa.column("project"))
exports = sa.table("exports", *(sa.column(name) for name in ("job_id", "project", "state")))


def upgrade() -> None:
    """Add the columns; an export that is there belongs to the project of its job."""
    op.add_column("exports", sa.Column("handed_back", sa.Integer, nullable=False, server_default="0"))
    op.add_column("exports", sa.Column("claimed_at", sa.Double))
    op.add_column("exports", sa.Column("project", sa.String(64), nullable=False, server_default="default"))
    op.add_column("exports", sa.Column("token", sa.String(128)))
    op.add_column("exports", sa.Column("token_digest", sa.String(64)))
    owner = sa.select(jobs.c.project).where(jobs.c.id == exports.c.job_id).scalar_subquery()
    op.execute(sa.update(exports).values(project=owner))
    op.create_index("ix_exports_token", "exports", ["project", "token"], unique=True)


def downgrade() -> None:
    """Drop the columns. The schema before knows no CANCELLED exports: they have FAILED, and say why."""
    op.execute(sa.update(exports).where(exports.c.state == "CANCELLED").values(state="FAILED"))
    op.drop_index("ix_exports_token", "exports")
    for name in ("token_digest", "token", "project", "claimed_at", "handed_back"):
        op.drop_column("exports", name)
