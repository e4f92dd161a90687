from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import models
from nas.job import Job, JobSpec, JobState
from nas.pareto import ParetoFront
from nas.trial import Broken, BrokenKind, Measured, Origin, Proposal, Trial
from nas.wire import front_dict, job_dict, readable, space_dict, space_summary, time, trial_dict
from search_spaces import load_space, presets

SPEC = JobSpec.parse(
    {"space": "digits-tiny", "objectives": ["max accuracy", "min params"], "constraints": ["params <= 1e5"]}
)
SPACE = load_space("digits-tiny")


def same(model: type[models.Wire], wire: dict[str, Any]) -> None:
    """The model describes the object exactly: every key and value, none more."""
    described = model.model_validate(wire, strict=False).model_dump(mode="json", exclude_unset=True)
    assert described == wire == json.loads(json.dumps(wire, allow_nan=False))
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    assert required <= set(wire)


@pytest.mark.parametrize(
    ("state", "reason", "at"), list(product(JobState, [None, "because"], [(None, None), (1.5, 1e9)]))
)
def test_the_models_describe_jobs(state, reason, at):
    started, finished = at
    same(models.Job, job_dict(Job("a1", SPEC, state, reason, 1.0, started, finished)))


def trials() -> list[Trial]:
    architectures = SPACE.sample(7, seed=1)
    opened = [Trial(i, Proposal(a, fidelity=[None, 0.5][i % 2])) for i, a in enumerate(architectures)]
    outcomes = [
        Measured({"accuracy": 0.9, "params": 5e4}),
        Measured({"accuracy": 0.95, "params": 2e5}),
        Measured({"accuracy": 0.8, "params": 1e4}),
        *(Broken(kind, "because") for kind in BrokenKind),
    ]
    closed = [
        trial.close(outcome, SPEC.problem, i, 2.0)
        for i, (trial, outcome) in enumerate(zip(opened, outcomes, strict=True))
    ]
    return [replace(closed[0], attempt=0, origin=Origin("a1", 12)), *closed[1:]]


@pytest.mark.parametrize("trial", [*trials(), Trial(7, Proposal(SPACE.sample(1, 0)[0]))], ids=lambda t: t.state)
def test_the_models_describe_trials(trial):
    wire = trial_dict(trial, "a1")
    same(models.Trial, wire)
    assert ("infeasible_reason" in wire) == (wire["state"] == "INFEASIBLE") != ("reason" in wire)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_the_models_describe_fronts(count):
    front = ParetoFront.of(trials()[:count], SPEC.problem)
    same(models.ParetoFront, front_dict(front, "a1"))
    same(models.ParetoFront, front_dict(front, "a1", [0.0, 1e6]))
    assert front_dict(front, "a1", [0.0, 1e6])["hypervolume"] == front.hypervolume([0.0, 1e6])


@pytest.mark.parametrize("name", presets())
def test_the_models_describe_spaces(name):
    space = load_space(name)
    same(models.Space, space_dict(space))
    same(models.SpaceSummary, space_summary(space))


@given(st.integers(min_value=0, max_value=2**32))
def test_an_architecture_reads_as_itself(seed):
    (architecture,) = SPACE.sample(1, seed)
    assert readable(architecture) == dict(architecture)
    assert SPACE.architecture(readable(architecture)).key == architecture.key


def test_times_are_utc():
    assert time(0.0) == "1970-01-01T00:00:00.000Z"
    assert time(1_795_209_425.25) == "2026-11-20T21:17:05.250Z"
    assert time(None) is None
