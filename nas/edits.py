"""What clients may change of a job that is there already, and the document that comes of it. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.job import Budget, Job, JobSpec, WrongState
from nas.trial import TrialState
from search_spaces import Fault, SpecError
from search_spaces.faults import did_you_mean

EDITABLE = ("name", "budget")
"""Keys of a job's document that may change. What its trials mean is settled by all others."""


def merged(target: object, patch: object) -> Any:
    """A JSON value with a merge patch laid over it (RFC 7396): null takes a key away, all else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    found = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def edited(job: Job, patch: Mapping[str, Any], *, taken_over: int = 0, now: float) -> JobSpec:
    """The document that a merge patch of `name` and `budget` makes of a job's.

    Args:
        job: as it stands.
        patch: null takes a key back to its default.
        taken_over: how many of the job's trials others have measured; these are not of its budget.
        now: Unix time, seconds.

    Raises:
        SpecError: for another key, or a value that is not allowed.
        WrongState: for a job that is over, or that has spent more than the patch allows it.
    """
    if job.state.over:
        raise WrongState(f"a job that is {job.state} cannot be edited; clone it to search on")
    faults = [
        Fault(key, f"cannot be edited; allowed: {', '.join(EDITABLE)}{did_you_mean(key, EDITABLE)}")
        for key in patch
        if key not in EDITABLE
    ]
    if faults:
        raise SpecError(faults)
    spec = JobSpec.parse(merged(job.spec.dump(), patch))
    _check_budget(job, spec.budget, taken_over, now)
    return spec


def cloned(job: Job, patch: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a new job: that of `job` with a merge patch of any of its keys; not checked."""
    found = merged(job.spec.dump(), patch)
    assert isinstance(found, dict)
    return found


def _check_budget(job: Job, new: Budget, taken_over: int, now: float) -> None:
    """Raises `WrongState` where a limit is changed to less than what is spent of it."""
    old = job.spec.budget
    if new.repeats != old.repeats:
        raise WrongState("budget.repeats says how each network of the job is measured; clone the job to change it")
    for limit in ("max_trial_duration", "max_trial_memory"):  # a runner hands them to its workers when it begins
        if job.state.held and getattr(new, limit) != getattr(old, limit):
            raise WrongState(f"budget.{limit} cannot be changed while a runner has the job; pause it first")
    opened = sum(job.counts.values()) - taken_over
    if new.max_trial_count < min(opened, old.max_trial_count):
        raise WrongState(f"{opened} trials have been opened; budget.max_trial_count must be at least {opened}")
    failed = job.counts.get(TrialState.FAILED, 0)
    if new.max_failed_trial_count < old.max_failed_trial_count and new.max_failed_trial_count <= failed:
        raise WrongState(f"{failed} trials have failed; budget.max_failed_trial_count must be more than {failed}")
    spent = 0.0 if job.started_at is None else now - job.started_at
    if new.max_duration is not None and new.max_duration != old.max_duration and new.max_duration <= spent:
        raise WrongState(f"{spent:.0f} s have passed; budget.max_duration must be greater")
