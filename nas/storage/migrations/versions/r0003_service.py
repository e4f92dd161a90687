"""What a service needs: projects, edits, tokens, counts; metrics as doubles; traces, API keys, predictors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from nas.storage.packing import MetricNames

revision = "0003"
down_revision = "0002"

STATES = ("pending", "running", "succeeded", "early_stopped", "infeasible", "failed", "cancelled")
BATCH = 1000
"""Trials that are rewritten at once."""

jobs = sa.table("jobs", sa.column("id"), sa.column("metric_names"), *(sa.column(s) for s in STATES))
trials = sa.table(
    "trials",
    *(sa.column(name) for name in ("job_id", "number", "state")),
    sa.column("metrics"),
    sa.column("metrics_text", sa.Text),
    sa.column("metrics_doubles", sa.LargeBinary),
)


def upgrade() -> None:
    """Add the columns and tables; count trials, and pack their metrics."""
    op.add_column("jobs", sa.Column("project", sa.String(64), nullable=False, server_default="default"))
    op.add_column("jobs", sa.Column("owner", sa.String(64)))
    for name in ("revision", *STATES):
        op.add_column("jobs", sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("token", sa.String(128)))
    op.add_column("jobs", sa.Column("token_digest", sa.String(64)))
    op.add_column("jobs", sa.Column("metric_names", sa.Text, nullable=False, server_default="[]"))
    op.alter_column("trials", "metrics", new_column_name="metrics_text")
    op.add_column("trials", sa.Column("metrics", sa.LargeBinary))
    op.add_column("trials", sa.Column("losses", sa.Integer, nullable=False, server_default="0"))
    connection = op.get_bind()
    for job_id in connection.execute(sa.select(jobs.c.id)).scalars().all():
        _count(connection, job_id)
        names = _pack(connection, job_id)
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(metric_names=names.write()))
    op.drop_column("trials", "metrics_text")
    op.create_index("ix_jobs_project", "jobs", ["project", "id"])
    op.create_index("ix_jobs_token", "jobs", ["project", "token"], unique=True)
    _new_tables()


def downgrade() -> None:
    """Give metrics back their names. What the tables and columns say that go is lost."""
    for name in ("predictors", "api_keys", "traces"):
        op.drop_table(name)
    op.alter_column("trials", "metrics", new_column_name="metrics_doubles")
    op.add_column("trials", sa.Column("metrics", sa.Text))
    connection = op.get_bind()
    for job_id, text in connection.execute(sa.select(jobs.c.id, jobs.c.metric_names)).all():
        _rewrite(connection, job_id, "metrics_doubles", _as_text(MetricNames.read(text)))
    op.drop_column("trials", "metrics_doubles")
    op.drop_column("trials", "losses")
    op.drop_index("ix_jobs_token", "jobs")
    op.drop_index("ix_jobs_project", "jobs")
    for name in ("metric_names", "token_digest", "token", *STATES, "revision", "owner", "project"):
        op.drop_column("jobs", name)


def _count(connection: sa.Connection, job_id: str) -> None:
    of_job = sa.select(trials.c.state, sa.func.count()).where(trials.c.job_id == job_id)
    found = {state.lower(): n for state, n in connection.execute(of_job.group_by(trials.c.state))}
    if found:
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(found))


def _pack(connection: sa.Connection, job_id: str) -> MetricNames:
    names = MetricNames()
    for rows in _batches(connection, job_id, "metrics_text"):
        names = names.grown(json.loads(text) for _, text in rows)
    _rewrite(connection, job_id, "metrics_text", lambda text: names.pack(json.loads(text)))
    return names


def _as_text(names: MetricNames) -> Callable[[Any], object]:
    return lambda packed: json.dumps(names.unpack(packed), separators=(",", ":"))


def _rewrite(connection: sa.Connection, job_id: str, column: str, turn: Callable[[Any], object]) -> None:
    """Fill `metrics` from another column."""
    one = sa.update(trials).where(trials.c.job_id == sa.bindparam("j"), trials.c.number == sa.bindparam("n"))
    for rows in _batches(connection, job_id, column):
        values = [{"j": job_id, "n": number, "m": turn(value)} for number, value in rows]
        connection.execute(one.values(metrics=sa.bindparam("m")), values)


def _batches(connection: sa.Connection, job_id: str, column: str) -> Iterator[list[Any]]:
    """Numbers and values of a column, of the trials of a job that have one."""
    wanted = sa.select(trials.c.number, trials.c[column])
    last = -1
    while True:
        page = wanted.where(trials.c.job_id == job_id, trials.c.number > last, trials.c[column].is_not(None))
        rows = list(connection.execute(page.order_by(trials.c.number).limit(BATCH)).all())
        if not rows:
            return
        yield rows
        last = rows[-1].number


def _new_tables() -> None:
    op.create_table(
        "traces",
        sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("curve", sa.Text, nullable=False),
        sa.Column("log", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("project", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
    )
    op.create_table(
        "predictors",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("trials", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("quality", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index("ix_predictors_job", "predictors", ["job_id", "id"])
