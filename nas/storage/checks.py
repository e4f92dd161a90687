"""What every store refuses, in the same words."""

from __future__ import annotations

from nas.contracts import Stale
from nas.job import Job, JobState, WrongState


def check_revision(job: Job, revision: int | None) -> None:
    """Raises `Stale` where the job is not as the client saw it."""
    if revision is not None and revision != job.revision:
        raise Stale(f"job {job.id} has revision {job.revision} and no longer {revision}: it was edited meanwhile")


def check_deletable(job_id: str, state: JobState) -> None:
    """Raises `WrongState` while a runner holds the job."""
    if state.held:
        raise WrongState(f"job {job_id} is {state} and cannot be deleted; cancel it first")
