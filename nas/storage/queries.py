"""Every statement that the store sends. Parameters are named; times are Unix seconds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, func, insert, or_, select, update

from nas.job import JobState
from nas.storage.clock import now
from nas.storage.rows import changed_row, new_row
from nas.storage.schema import jobs, trials
from nas.trial import Trial, TrialState

_HELD = [s.value for s in JobState if s.held]
_OPEN = [s.value for s in TrialState if s.open]

FENCE = select(jobs.c.fence, jobs.c.state).where(jobs.c.id == bindparam("the_job")).with_for_update()
"""The fence of a job, which nobody else can then change before the transaction ends."""

RENEW = (
    update(jobs)
    .where(jobs.c.id == bindparam("the_job"), jobs.c.fence == bindparam("the_fence"))
    .values(lease_expires_at=now() + bindparam("seconds"))
    .returning(jobs.c.state, jobs.c.reason)
)
"""Extend a lease; no row where it is lost."""

CHANGE_JOB = update(jobs).where(jobs.c.id == bindparam("the_job"))
"""Takes the columns to set as parameters."""

OPEN_TRIAL = insert(trials)

CHANGE_TRIAL = (
    update(trials)
    .where(trials.c.job_id == bindparam("the_job"), trials.c.number == bindparam("the_number"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "state",
                "attempt",
                "metrics",
                "feasible",
                "reason",
                "finish_order",
                "finished_at",
            )
        }
    )
)
