"""The tables. Migrations bring a database to them; a test holds that the two agree.

Times are Unix seconds. Counts, best values and fronts are not stored: they follow from the trials.
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

REVISION = "0002"
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
    Column("spec", Text, nullable=False),  # the whole document, JSON; last, for it is the longest
    Index("ix_jobs_state", "state", "created_at"),
)

trials = Table(
    "trials",
    metadata,
    Column("job_id", String(32), ForeignKey("jobs.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("key", String(32), nullable=False),
    Column("genes", LargeBinary, nullable=False),  # little-endian 16-bit indices, one a choice
    Column("fidelity", Double),
    Column("resume_from", Integer),
    Column("metrics", Text),  # JSON; null unless measured
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
