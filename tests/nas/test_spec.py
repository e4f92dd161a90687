import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.check import check
from nas.job import JobSpec
from search_spaces import SpecError, presets, references
from search_spaces.load import parse_text

GOOD: dict[str, Any] = {
    "space": "digits-tiny",
    "objectives": ["max accuracy", "min model_size_bytes"],
    "evaluator": {"kind": "training", "dataset": "digits"},
}


def faults(**changes: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        check(JobSpec.parse({**GOOD, **changes}))
    return {f.path: f.message for f in caught.value.faults}


def staged(**stage: Any) -> dict[str, Any]:
    return {
        "family": "staged",
        "input": [1, 8, 8],
        "classes": 10,
        "architecture": {"stem": {"width": 8}, "stages": [{"block": "conv", "depth": 1, "width": 8, **stage}]},
    }


def test_a_good_document_reads_back_what_it_writes() -> None:
    spec = JobSpec.parse(GOOD)
    assert JobSpec.parse(json.loads(json.dumps(spec.dump()))) == spec
    check(spec)


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"objektives": []}, "objektives", 'did you mean "objectives"?'),
        ({"objectives": []}, "objectives", "is empty; at least 1 must be given"),
        ({"objectives": ["accuracy"]}, "objectives.0", 'write "max accuracy"'),
        ({"objectives": ["max accuracy", "min accuracy"]}, "objectives", "accuracy stands twice"),
        ({"objectives": ["max acuracy"]}, "objectives.0.metric", 'did you mean "accuracy"?'),
        ({"constraints": ["latency <= 3"]}, "constraints.0", "allowed: accuracy, energy_mj, loss, macs"),
        ({"constraints": ["params < 3"]}, "constraints.0", '"metric <= number"'),
        ({"constraints": ["params <= 10"]}, "constraints.0", "no architecture of the space meets params <= 10"),
        ({"constraints": ["accuracy >= 1.5"]}, "constraints.0", "it lies in [0, 1]"),
        ({"constraints": ["params <= 20e3", "params >= 30e3"]}, "constraints", "at once"),
        ({"space": "digits"}, "space", 'did you mean "digits-tiny"?'),
        ({"space": "resnet-81"}, "space", 'did you mean "resnet-18"?'),
        ({"space": staged(width=[])}, "space.architecture.stages.0.width", "is an empty list"),
        (
            {"space": staged(depth={"min": 3, "max": 1})},
            "space.architecture.stages.0.depth",
            "upside down: min 3 is greater than max 1",
        ),
        ({"space": staged(kernel=4)}, "space.architecture.stages.0.kernel", "allowed: odd integers"),
        ({"space": staged(kernal=3)}, "space.architecture.stages.0.kernal", 'did you mean "kernel"?'),
        ({"searcher": "nsga3"}, "searcher.kind", "nsga2"),
        ({"evaluator": {"kind": "training", "dataset": "cifar"}}, "evaluator.dataset", "digits"),
        ({"budget": {"max_trial_count": 0}}, "budget.max_trial_count", "greater than or equal to 1"),
        ({"initial": [{"stages.9.depth": 1}]}, "initial.0.stages.9.depth", "matches no choice"),
        ({"initial": [{"stem.width": 9}]}, "initial.0.stem.width", "allowed: 8, 16"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"searcher": "banded_evolution"}, "searcher.limit", "is required"),
        ({"evaluator": "tabular"}, "evaluator.table", "is required"),
        ({"evaluator": {"kind": "tabular", "table": "nas-bench-210"}}, "evaluator.table", 'mean "nas-bench-201"?'),
        ({"evaluator": {"kind": "tabular", "table": "my.csv"}}, "evaluator.metrics", "at least 1 metric"),
        (
            {"searcher": {"kind": "predictor_guided", "scores": "naswot"}},
            "searcher.scores",
            "'naswot' is not allowed: a list is needed, such as [naswot]",
        ),
        ({"warm_start": "abc"}, "warm_start", "a list is needed, such as [abc]"),
        ({"constraints": 3}, "constraints", "a list is needed"),
        ({"space": "nas-bench-201"}, "evaluator.dataset", "the space has input [3, 32, 32]"),
    ],
)
def test_every_fault_names_its_path_and_what_is_allowed(changes: dict[str, Any], path: str, message: str) -> None:
    found = faults(**changes)
    assert path in found
    assert message in found[path]
    assert "\n" not in found[path]


def test_a_reference_network_is_a_space_and_presets_come_first() -> None:
    spec = JobSpec.parse({"space": "resnet-18", "objectives": ["min params"], "evaluator": "cost"})
    space = check(spec)
    assert (space.name, space.size) == ("resnet-18", 1)
    assert space.cost(space.architecture({}))["params"] == 11_689_512
    shared = set(presets()) & set(references())
    assert "mobilenetv2" in shared
    for name in shared:
        assert check(JobSpec.parse({"space": name, "objectives": ["min params"], "evaluator": "cost"})).size > 1


def test_all_faults_at_once() -> None:
    found = faults(objectives=["best"], searcher="x", budget={"trials": 3}, space=staged(width=0, kernel=2))
    assert set(found) == {
        "objectives.0",
        "searcher.kind",
        "budget.trials",
        "space.architecture.stages.0.width",
        "space.architecture.stages.0.kernel",
    }


def test_a_space_beyond_counting_is_fine() -> None:
    stage = {"block": ["conv", "inverted_residual"], "depth": {"min": 0, "max": 8}, "width": list(range(8, 200))}
    document = staged()
    document["architecture"]["stages"] = [stage] * 12
    document["quantization"] = {"per": "layer", "weight_bits": [2, 4, 8, 32], "activation_bits": [8, 32]}
    space = check(JobSpec.parse({**GOOD, "space": document, "constraints": ["params <= 1e6"]}))
    assert space.size > 10**30


def test_over_http_no_path_and_no_code() -> None:
    for evaluator in ({"kind": "callable", "function": "os:system"}, {"kind": "training", "dataset": "../digits"}):
        with pytest.raises(SpecError, match="HTTP"):
            check(JobSpec.parse({**GOOD, "evaluator": evaluator}), remote=True)
    python = {"family": "python", "object": "os:system"}
    with pytest.raises(SpecError, match=r"space\.family"):
        check(JobSpec.parse({**GOOD, "space": python}), remote=True)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 99) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["space", "objectives", "constraints", "searcher", "evaluator", "budget", "initial", "seed"]),
    JUNK,
)
def test_junk_anywhere_is_a_spec_error_and_nothing_else(key: str, junk: Any) -> None:
    try:
        spec = JobSpec.parse({**GOOD, key: junk})
    except SpecError:
        return
    assert JobSpec.parse(spec.dump()) == spec


@given(st.sampled_from(["width", "depth", "kernel", "expansion", "squeeze_excite", "activation", "stride"]), JUNK)
def test_junk_in_a_space_is_a_spec_error_and_nothing_else(key: str, junk: Any) -> None:
    with contextlib.suppress(SpecError):
        check(JobSpec.parse({**GOOD, "space": staged(**{key: junk})}))


def test_yaml_is_read_as_people_mean_it() -> None:
    assert parse_text("{rate: 1e-3, word: on, flag: true, text: '1e-3'}") == {
        "rate": 0.001,
        "word": "on",
        "flag": True,
        "text": "1e-3",
    }


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: &x [1]\nb: *x"])
def test_yaml_that_hides_something_is_refused(text: str) -> None:
    with pytest.raises(Exception, match=r"twice|aliases"):
        parse_text(text)
