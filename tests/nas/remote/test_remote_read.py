"""What is read from the wire is what was written to it."""

import json
import sys
from typing import Any

import pytest
from all_documents import ANY
from hypothesis import given
from hypothesis import strategies as st

from nas.job import Job, JobSpec, JobState
from nas.remote.errors import ApiError
from nas.remote.read import TrialReader, job_of, space_of_job, trace_of
from nas.trial import Origin, Proposal, Trace, Trial, TrialState
from nas.wire import job_dict, trace_dict, trial_dict
from search_spaces import Architecture, load_space

MOMENTS = st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000)
METRICS = st.dictionaries(
    st.sampled_from(["accuracy", "params", "latency_ms"]), st.floats(allow_nan=False, allow_infinity=False)
)
SPEC = JobSpec.parse(
    {
        "name": "a ☃",
        "space": "digits-tiny",
        "objectives": ["max accuracy", "min params"],
        "constraints": ["params <= 1e5"],
        "evaluator": {"kind": "training", "dataset": "somewhere-else"},
        "budget": {"max_duration": 12.5},
        "warm_start": ["another"],
    }
)


def over_the_wire(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


@st.composite
def trials(draw: st.DrawFn, architecture: Architecture) -> Trial:
    state = draw(st.sampled_from(TrialState))
    metrics = draw(METRICS) if state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED) else {}
    if state is TrialState.SUCCEEDED:
        metrics["accuracy"] = 0.5
    return Trial(
        number=draw(st.integers(0, 2**31)),
        proposal=Proposal(architecture, draw(st.none() | st.floats(0.01, 1))),
        state=state,
        attempt=draw(st.integers(0, 3)),
        metrics=metrics,
        feasible=draw(st.booleans()) if metrics else None,
        reason=draw(st.none() | st.text()),
        order=None if state.open else draw(st.integers(0, 2**31)),
        created_at=draw(MOMENTS),
        finished_at=draw(st.none() | MOMENTS),
        origin=draw(st.none() | st.builds(Origin, st.text(min_size=1), st.integers(0, 9))),
    )


@pytest.mark.law
@given(document=ANY, seed=st.integers(0, 2**32), data=st.data())
def test_a_trial_of_any_space_comes_back_as_it_was(document: Any, seed: int, data: st.DataObject) -> None:
    space = load_space(document)
    trial = data.draw(trials(space.sample(1, seed)[0]))
    assert TrialReader(space).trial(over_the_wire(trial_dict(trial, "j"))) == trial


@given(document=ANY, seed=st.integers(0, 2**32), data=st.data())
def test_genes_without_effect_do_not_matter(document: Any, seed: int, data: st.DataObject) -> None:
    space = load_space(document)
    free = space.genes(space.sample(1, seed))
    for i, used in enumerate(space.active(free)[0]):
        if not used:
            free[0, i] = data.draw(st.integers(0, len(space.choices[i].values) - 1))
    trial = data.draw(trials(space.architectures(free)[0]))
    wire = over_the_wire(trial_dict(trial, "j"))
    assert over_the_wire(trial_dict(TrialReader(space).trial(wire), "j")) == wire


@given(
    state=st.sampled_from(JobState),
    reason=st.none() | st.text(),
    moments=st.tuples(MOMENTS, MOMENTS, st.none() | MOMENTS),
    counts=st.dictionaries(st.sampled_from(TrialState), st.integers(0, 9)),
    owner=st.none() | st.text(),
    revision=st.integers(0, 9),
)
def test_a_job_comes_back_as_it_was(
    state: JobState, reason: Any, moments: Any, counts: Any, owner: Any, revision: int
) -> None:
    every = {s: counts.get(s, 0) for s in TrialState}
    job = Job("j", SPEC, state, reason, *moments, counts=every, project="p", owner=owner, revision=revision)
    assert job_of(over_the_wire(job_dict(job))) == job


def test_a_trace_comes_back_as_it_was() -> None:
    trace = Trace("gpu-3:4711", 12.25, ((1, {"loss": 0.5}), (2, {"loss": 0.25})), "done\n")
    assert trace_of(over_the_wire(trace_dict(trace))) == trace
    assert trace_of(over_the_wire(trace_dict(None))) is None


@pytest.mark.parametrize(
    "change",
    [
        {"state": "DREAMING"},
        {"architecture": {"nothing": 1}},
        {"architecture": {"stem.width": True}},
        {"order": None},
        {"metrics": {}},
        {"origin": 3},
        {"created_at": "yesterday"},
    ],
)
def test_what_makes_no_sense_is_an_error_of_the_api(change: dict[str, Any]) -> None:
    space = load_space("digits-tiny")
    architecture = space.sample(1, 0)[0]
    trial = Trial(0, Proposal(architecture), TrialState.SUCCEEDED, metrics={"accuracy": 1.0}, order=0)
    with pytest.raises(ApiError, match=r"cannot be read.*another version"):
        TrialReader(space).trial({**trial_dict(trial, "j"), **change})
    if "state" in change or "created_at" in change:
        with pytest.raises(ApiError, match="another version"):
            job_of({**job_dict(Job("j", SPEC, JobState.QUEUED)), **change})


def test_code_that_a_server_names_is_not_imported() -> None:
    spec = JobSpec.parse(
        {
            "space": {"family": "python", "object": "antigravity:space"},
            "objectives": ["max a"],
            "evaluator": {"kind": "callable", "function": "antigravity:f"},
        }
    )
    with pytest.raises(ValueError, match="cannot be read from a server"):
        space_of_job(spec)
    assert "antigravity" not in sys.modules
