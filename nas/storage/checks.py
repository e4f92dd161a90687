"""What every store refuses, in the same words."""

from __future__ import annotations

from nas.contracts import Stale, Submitter, TokenReused
from nas.job import Job, JobState, WrongState


def check_revision(job: Job, revision: int | None) -> None:
    """Raises `Stale` where the job is not as the client saw it."""
    if revision is not None and revision != job.revision:
        raise Stale(f"job {job.id} has revision {job.revision} and no longer {revision}: it was edited meanwhile")


def check_token(made: str, digest: str | None, by: Submitter) -> None:
    """Raises `TokenReused` where the submitter's token made this, "job x", of something else, by its digest."""
    if by.token is not None and digest != by.digest:
        raise TokenReused(f"the token {by.token!r} stands for another submission, {made}")


def check_deletable(job_id: str, state: JobState) -> None:
    """Raises `WrongState` while a runner holds the job."""
    if state.held:
        raise WrongState(f"job {job_id} is {state} and cannot be deleted; cancel it first")
