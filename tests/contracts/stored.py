"""Jobs, trials and helpers that the contracts of stores share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nas.job import JobSpec, JobState
from nas.trial import (
    Broken,
    BrokenKind,
    Measured,
    Origin,
    Proposal,
    Trial,
    TrialState,
)
from search_spaces import load_space

SPEC = JobSpec.parse(
    {
        "name": "stored",
        "space": "digits-tiny",
        "objectives": ["max accuracy", "min params"],
        "constraints": ["params <= 1e6"],
        "searcher": {"kind": "regularized_evolution"},
        "evaluator": "cost",
        "budget": {"max_trial_count": 50, "max_duration": 12.5},
        "seed": 2**62,
    }
)
ARCHITECTURES = load_space("digits-tiny").sample(200, 7)
PROPOSALS = [Proposal(a) for a in ARCHITECTURES]
GOOD = Measured({"accuracy": 0.9, "params": 1000.0})
LOST = Broken(BrokenKind.LOST, "the worker died")
BEGUN = [
    *(
        replace(
            Trial(n, PROPOSALS[n]).close(end, SPEC.problem, n, 9.5), attempt=0, origin=Origin(f"job{n}", 7 - n)
        )
        for n, end in enumerate([GOOD, Broken(BrokenKind.INFEASIBLE, "too deep ☃")])
    ),
    Trial(2, PROPOSALS[2], TrialState.PENDING, origin=Origin("job2", 5)),
    Trial(3, PROPOSALS[3], TrialState.PENDING),
]
"""Trials that a job may begin with."""

Make = Callable[[float], Any]


def states(store: Any, job_id: str) -> list[TrialState]:
    return [t.state for t in store.trials(job_id)]


def everything(store: Any, job_id: str) -> tuple[Any, Any]:
    return store.job(job_id), list(store.trials(job_id))


def job_in(store: Any, state: JobState) -> str:
    """A job that came to `state` the way jobs do, with a trial that was open then."""
    job_id: str = store.submit(SPEC).id
    if state is JobState.QUEUED:
        return job_id
    lease = store.claim(job_id)
    lease.open(PROPOSALS[:1])
    if state is JobState.PAUSING:
        store.request(job_id, "pause")
    elif state is JobState.CANCELLING:
        store.request(job_id, "cancel")
    elif state is not JobState.RUNNING:
        lease.release(state, "because")
    assert store.job(job_id).state is state
    return job_id
