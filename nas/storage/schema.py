"""The tables. Migrations bring a database to them; a test holds that the two agree.

Times are Unix seconds. Best values and fronts are not stored: they follow from the trials.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

from nas.trial import TrialState

REVISION = "0005"
"""The migration that the tables below correspond to; revisions are ordered as text."""

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),  # a copy from the document, for people who query
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("fence", Integer, nullable=False),  # grows with every claim and release; a writer must know it
    Column("lease_expires_at", Double),  # by the database's clock; null while nobody holds the job
    Column("project", String(64), nullable=False),
    Column("owner", String(64)),
    Column("revision", Integer, nullable=False),  # counts edits of the document
    Column("token", String(128)),  # of the client that submitted it, against doing so twice
    Column("token_digest", String(64)),
    # how many trials are in each state; written with every change of a trial, so that nothing need be counted
    *(Column(state.value.lower(), Integer, nullable=False) for state in TrialState),
    Column("metric_names", Text, nullable=False),  # JSON: what the doubles in `trials.metrics` are
    Column("spec", Text, nullable=False),  # the whole document, JSON; last, for it is the longest
    Index("ix_jobs_state", "state", "created_at"),
    Index("ix_jobs_project", "project", "id"),
    Index("ix_jobs_token", "project", "token", unique=True),
)

trials = Table(
    "trials",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("key", String(32), nullable=False),
    Column("genes", LargeBinary, nullable=False),  # little-endian 16-bit indices, one a choice
    Column("fidelity", Double),
    Column("resume_from", Integer),
    Column(
        "metrics", LargeBinary
    ),  # little-endian doubles, in the order of `jobs.metric_names`; null unless measured
    Column("feasible", Boolean),
    Column("reason", Text),
    Column("finish_order", Integer),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("origin_job", String(64)),  # no foreign key: it may be a job of another database
    Column("origin_number", Integer),
    Index("ix_trials_state", "job_id", "state"),
    Index("ix_trials_key", "job_id", "key"),
    Index("ix_trials_finish_order", "job_id", "finish_order", unique=True),
    sqlite_with_rowid=False,  # rows live in the primary key's tree: one tree less to write
)

traces = Table(
    "traces",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("worker", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("curve", Text, nullable=False),  # JSON: [[step, {metric: value}], ...]
    Column("log", Text, nullable=False),
    sqlite_with_rowid=False,
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),  # the part of the key that may be shown
    Column("name", String(64), nullable=False, unique=True),
    Column("project", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of the secret part, which is random
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)

fitted = Table(
    "predictors",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("job_id", String(32), ForeignKey("jobs.id"), nullable=False),
    Column("metrics", Text, nullable=False),  # JSON list: what it predicts
    Column("trials", Integer, nullable=False),  # it learns from the first so many that finished
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("quality", Text),  # JSON; null until it is fitted
    Column("created_at", Double, nullable=False),
    Index("ix_predictors_job", "job_id", "id"),
)

exports = Table(
    "exports",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("job_id", String(32), ForeignKey("jobs.id"), nullable=False),
    Column("trial", Integer, nullable=False),
    Column("format", String(16), nullable=False),
    Column("weights", String(16), nullable=False),
    Column("data_licence", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),  # grows with every claim; a writer must know it
    Column("handed_back", Integer, nullable=False),  # so many of the claims ended in order
    Column("reason", Text),
    Column("lease_expires_at", Double),  # by the database's clock; null unless a runner has it
    Column("claimed_at", Double),  # the last time, by the database's clock
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("project", String(64), nullable=False),  # of who asked for it
    Column("token", String(128)),  # likewise, against asking twice
    Column("token_digest", String(64)),
    Index("ix_exports_job", "job_id", "id"),
    Index("ix_exports_state", "state", "id"),
    Index("ix_exports_token", "project", "token", unique=True),
)
