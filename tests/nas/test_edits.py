from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.edits import EDITABLE, cloned, edited, merged
from nas.job import Budget, Job, JobSpec, JobState, WrongState
from nas.trial import TrialState
from search_spaces import SpecError

SPEC = JobSpec.parse(
    {
        "name": "cells",
        "space": "nas-bench-201",
        "objectives": ["max macs", "min params"],
        "searcher": {"kind": "regularized_evolution", "population": 20},
        "evaluator": "cost",
        "budget": {"max_trial_count": 50, "max_duration": 60, "repeats": 1},
    }
)
QUEUED = Job("a1", SPEC, JobState.QUEUED)
STARTED = 1000.0
RUNNING = Job(
    "a1",
    SPEC,
    JobState.RUNNING,
    started_at=STARTED,
    counts={TrialState.SUCCEEDED: 12, TrialState.FAILED: 3, TrialState.RUNNING: 2},
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("abc", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("abc", max_size=1), inner, max_size=3),
    max_leaves=8,
)


def edit(job: Job, patch: dict[str, Any], *, taken_over: int = 0, now: float = STARTED) -> JobSpec:
    return edited(job, patch, taken_over=taken_over, now=now)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_is_that_of_the_standard(target, patch, result):
    assert merged(target, patch) == result


@given(target=JSON, patch=JSON)
def test_a_merge_patch_changes_no_more_when_it_is_applied_again(target, patch):
    once = merged(target, patch)
    assert merged(once, patch) == once


def test_a_patch_changes_what_it_names():
    found = edit(RUNNING, {"name": "longer", "budget": {"max_trial_count": 80, "max_duration": None}})
    budget = SPEC.budget.model_copy(update={"max_trial_count": 80, "max_duration": None})
    assert found == SPEC.model_copy(update={"name": "longer", "budget": budget})


def test_an_empty_patch_changes_nothing():
    assert edit(RUNNING, {}) == edit(RUNNING, {"budget": {}}) == SPEC


def test_null_is_the_default():
    assert edit(QUEUED, {"budget": {"max_trial_count": None}}).budget.max_trial_count == 100
    assert edit(QUEUED, {"budget": None}).budget == Budget()
    assert edit(QUEUED, {"name": None}).name == "search"


@pytest.mark.parametrize("key", [*(k for k in JobSpec.model_fields if k not in EDITABLE), "colour"])
def test_nothing_else_can_be_edited(key):
    with pytest.raises(SpecError) as raised:
        edit(QUEUED, {key: SPEC.dump().get(key), "name": "n"})
    assert [f.path for f in raised.value.faults] == [key]


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"budget": 3}, "budget"),
        ({"budget": {"max_trial_count": 0}}, "budget.max_trial_count"),
        ({"budget": {"max_trial_count": "many"}}, "budget.max_trial_count"),
        ({"budget": {"max_trials": 3}}, "budget.max_trials"),
        ({"budget": {"max_duration": -1}}, "budget.max_duration"),
    ],
)
def test_values_are_checked_as_in_a_new_document(patch, path):
    with pytest.raises(SpecError) as raised:
        edit(QUEUED, patch)
    assert [f.path for f in raised.value.faults] == [path]


@pytest.mark.parametrize("state", JobState)
def test_a_job_that_is_over_cannot_be_edited(state):
    job = replace(RUNNING, state=state)
    if state.over:
        with pytest.raises(WrongState, match=state.value):
            edit(job, {"name": "n"})
    else:
        assert edit(job, {"name": "n"}).name == "n"


@given(count=st.integers(1, 60), taken_over=st.integers(0, 12))
def test_the_budget_is_never_below_the_trials_that_were_opened_against_it(count, taken_over):
    opened = 17 - taken_over
    patch = {"budget": {"max_trial_count": count}}
    if count < opened:
        with pytest.raises(WrongState, match=f"at least {opened}"):
            edit(RUNNING, patch, taken_over=taken_over)
    else:
        assert edit(RUNNING, patch, taken_over=taken_over).budget.max_trial_count == count


def test_failures_and_seconds_cannot_be_limited_to_what_is_spent():
    for name, spent in (("max_failed_trial_count", 3), ("max_duration", 20)):
        with pytest.raises(WrongState, match=name):
            edit(RUNNING, {"budget": {name: spent}}, now=STARTED + 20)
        found = edit(RUNNING, {"budget": {name: spent + 1}}, now=STARTED + 20)
        assert getattr(found.budget, name) == spent + 1


def test_a_limit_that_has_just_been_reached_does_not_forbid_other_edits():
    late = edit(RUNNING, {"name": "n"}, now=STARTED + 100)
    assert late == SPEC.model_copy(update={"name": "n"})
    full = replace(RUNNING, counts={TrialState.SUCCEEDED: 51, TrialState.FAILED: 10})
    assert edit(full, {"budget": {"parallel_trial_count": 2}}).budget.parallel_trial_count == 2


def test_how_networks_are_measured_stays_as_it_is():
    with pytest.raises(WrongState, match="repeats"):
        edit(QUEUED, {"budget": {"repeats": 3}})
    assert edit(QUEUED, {"budget": {"repeats": 1}}) == SPEC


def test_a_clone_is_the_document_with_the_patch():
    assert cloned(RUNNING, {}) == SPEC.dump()
    assert JobSpec.parse(cloned(RUNNING, {})) == SPEC
    found = JobSpec.parse(cloned(RUNNING, {"seed": 7, "searcher": "random", "budget": {"max_duration": None}}))
    assert (found.seed, found.searcher.kind, found.budget.max_duration) == (7, "random", None)
    assert found.budget.max_trial_count == 50
