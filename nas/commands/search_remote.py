"""`nas search` on a server: the job is submitted there and watched from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nas.commands.interrupts import interruptible
from nas.commands.jobs import named
from nas.commands.show import INTERRUPTED, fail, say

if TYPE_CHECKING:
    from nas.remote.client import Client
    from nas.remote.job import RemoteJob
    from nas.result import SearchResult


def begun(
    url: str,
    spec: Path | None,
    resume: str | None,
    warm_start: Sequence[str],
    overrides: Mapping[str, Any],
    validate_only: bool,
) -> RemoteJob | None:
    """The job on the server, new or to be resumed; None where the document was only to be checked."""
    from nas.remote.client import Client

    client = Client(url)
    if resume is not None:
        return _resumed(client, named(client.store, resume))
    jobs = [named(client.store, job) for job in warm_start]
    if validate_only:
        size = client.validate(spec, **overrides, warm_start=jobs or None)["size"]
        say(f"the document is valid: {size:.3g} points")
        return None
    job = client.search(spec, **overrides, warm_start=jobs or None)
    if job.job.spec.warm_start:
        from nas.commands.search import say_warm_start

        say_warm_start([t for t in client.store.trials(job.id) if t.origin])
    return job


def watched(job: RemoteJob) -> SearchResult:
    """The result, once there is one. Ctrl-C, SIGTERM and an outage leave the command; the job goes on."""
    from nas.commands.search import say_over
    from nas.job import JobState
    from nas.remote.errors import ApiError
    from nas.result import SearchFailed

    spec = job.job.spec
    if job.state is JobState.SUCCEEDED:
        say_over(job.id)
        return job.result()
    say(f"job {job.id}: {spec.name}, {spec.budget.max_trial_count} trials, on {job.url}")
    hint = f"the job goes on. To look at it again: nas search --resume {job.id}; to end it: nas cancel {job.id}"
    try:
        with interruptible():
            result = job.wait(progress=True)
    except KeyboardInterrupt:
        say(f"interrupted; {hint}")
        raise typer.Exit(INTERRUPTED) from None
    except ApiError as error:
        fail(f"{error}\n{hint}")
    except SearchFailed as failure:
        fail(str(failure))
    if result.state is not JobState.SUCCEEDED:
        say(f"job {job.id} is {result.state.value}; {len(result.all_trials)} trials are kept")
    return result


def _resumed(client: Client, job_id: str) -> RemoteJob:
    """The job, put back into the queue where it is PAUSED.

    Raises `WrongState` where it ended without success.
    """
    from nas.job import JobState, WrongState

    job = client.job(job_id)
    if job.state.over and job.state is not JobState.SUCCEEDED:
        raise WrongState(f"job {job_id} is {job.state}; to see what it found: nas pareto {job_id}")
    return job.resume() if job.state in (JobState.PAUSED, JobState.PAUSING) else job
