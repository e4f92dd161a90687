"""Bad input has a defined end and a message, with every searcher; none stops a search that could go on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

import pytest

import nas
from nas.evaluators.infeasible import Infeasible
from nas.job import JobState
from nas.objectives import Problem
from nas.result import SearchFailed, SearchResult
from nas.searchers import SearcherConfig
from nas.trial import Broken, BrokenKind, Measured, Proposal, Trial, TrialState
from search_spaces import Architecture, load_space

NEEDED: dict[str, dict[str, Any]] = {"banded_evolution": {"limit": 60e6, "band": 0.5}}
"""Settings without which a searcher cannot be had."""
SEARCHERS = [
    {"kind": kind, **NEEDED.get(kind, {})}
    for kind in (config.model_fields["kind"].default for config in get_args(get_args(SearcherConfig)[0]))
]
SPACE = load_space("nas-bench-201")
SMALL = {
    "family": "cell",
    "input": [3, 8, 8],
    "classes": 2,
    "architecture": {"nodes": 2, "operations": ["none", "skip_connect", "nor_conv_1x1"]},
}

every_searcher = pytest.mark.parametrize("searcher", SEARCHERS, ids=lambda s: s["kind"])


def part(architecture: Architecture, i: int = 0) -> float:
    """A number in [0, 1) that looks random, of the architecture alone."""
    return int(architecture.key[4 * i : 4 * i + 4], 16) / 16**4


def good(architecture: Architecture) -> dict[str, float]:
    return {"accuracy": part(architecture), "latency_ms": 1 + part(architecture, 1)}


def search(evaluator: Callable[[Architecture], Any], searcher: Any = "random", **more: Any) -> SearchResult:
    settings = {"max_trial_count": 24, "parallel_trial_count": 2, "objectives": ["max accuracy", "min latency_ms"]}
    return nas.search(
        **{"space": SPACE, **settings, "evaluator": evaluator, "searcher": searcher, "executor": "inline", **more}
    )


def failed(evaluator: Callable[[Architecture], Any], **more: Any) -> tuple[str, SearchResult]:
    with pytest.raises(SearchFailed) as caught:
        search(evaluator, **more)
    return str(caught.value), caught.value.result


@every_searcher
def test_an_objective_missing_in_some_trials(searcher: Any) -> None:
    """Once others were measured it is the candidate's fault, and no reason to stop, however often it happens."""

    def forgetful(architecture: Architecture) -> dict[str, float]:
        found = good(architecture)
        if part(architecture, 2) > 0.4:
            del found["latency_ms"]
        return found

    result = search(forgetful, searcher, max_failed_trial_count=8, initial=[{"edge_*": "none"}])
    assert result.state is JobState.SUCCEEDED
    assert len(result.all_trials) == 24
    lacking = [t for t in result.all_trials if not t.measured]
    assert len([t for t in lacking if t.state is TrialState.INFEASIBLE]) > 8
    for trial in lacking:
        assert trial.reason is not None
        assert trial.reason.startswith("the evaluator gave no latency_ms; it gave ")
    assert len(result.front.trials) > 0


def test_an_objective_that_is_never_delivered_stops_the_job_with_its_name() -> None:
    reason, result = failed(lambda arch: {"acc": 0.5, "latency_ms": 1.0}, max_failed_trial_count=3)
    assert re.match(r"[3-9] trials failed; the last, trial ", reason)  # those that ran together end together
    assert "the evaluator gave no accuracy; it gave " in reason
    assert "acc, latency_ms" in reason
    assert {t.state for t in result.all_trials} <= {TrialState.FAILED, TrialState.CANCELLED}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "the evaluator returned NoneType; a dict of metrics is needed"),
        ("accuracy", "the evaluator returned str; a dict of metrics is needed"),
        (0.9, "the evaluator returned float; a dict of metrics is needed"),
        ({"accuracy": "high", "latency_ms": 1}, "accuracy is 'high'; a number is needed"),
        ({"accuracy": None, "latency_ms": 1}, "accuracy is None; a number is needed"),
    ],
)
@pytest.mark.parametrize("an_object", [False, True])
def test_an_evaluator_that_returns_something_else(answer: Any, message: str, an_object: bool) -> None:
    class Wrong:
        def evaluate(self, proposal: Proposal, report: Any) -> Any:
            return answer

    reason, result = failed(Wrong() if an_object else lambda arch: answer, max_failed_trial_count=2)  # type: ignore[arg-type]
    assert message in reason
    assert all(message in str(t.reason) for t in result.all_trials if t.state is TrialState.FAILED)


@every_searcher
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite(searcher: Any, value: float) -> None:
    def diverging(architecture: Architecture) -> dict[str, float]:
        return good(architecture) | ({"accuracy": value} if part(architecture, 2) > 0.5 else {})

    result = search(diverging, searcher)
    broken = [t for t in result.all_trials if not t.measured]
    assert result.state is JobState.SUCCEEDED
    assert broken
    assert {(t.state, t.reason) for t in broken} == {(TrialState.INFEASIBLE, f"accuracy is {value}")}


@every_searcher
def test_a_space_smaller_than_the_budget(searcher: Any) -> None:
    needed = {"limit": 1e9} if "limit" in searcher else {}
    result = search(good, searcher | needed, space=SMALL)
    assert (result.state, len(result.all_trials)) == (JobState.SUCCEEDED, 3)
    assert result.job.reason == "nothing new is left to propose after 3 trials"


@every_searcher
def test_all_trials_infeasible(searcher: Any) -> None:
    def none_fits(architecture: Architecture) -> dict[str, float]:
        raise Infeasible("does not fit the chip")

    result = search(none_fits, searcher)
    assert (result.state, len(result.all_trials)) == (JobState.SUCCEEDED, 24)
    assert len(result.pareto_front) == len(result.front.trials) == 0
    assert result.job.reason is not None
    assert result.job.reason.startswith("none of 24 trials could be measured; the last, trial ")
    assert result.job.reason.endswith(": does not fit the chip")


@every_searcher
def test_no_trial_meets_the_constraints(searcher: Any) -> None:
    result = search(good, searcher, constraints=["latency_ms <= 0.5", "accuracy >= 0.01"])
    assert (result.state, len(result.all_trials)) == (JobState.SUCCEEDED, 24)
    assert len(result.pareto_front) == 0
    told = "none of 24 networks measured meets latency_ms <= 0.5 and accuracy >= 0.01"
    assert result.job.reason == told


@every_searcher
@pytest.mark.parametrize(("accuracy", "latency"), [(1e-12, 1e15), (1e100, 1e-100), (0.0, 1e100)])
def test_metrics_of_wildly_different_scale(searcher: Any, accuracy: float, latency: float) -> None:
    def scaled(architecture: Architecture) -> dict[str, float]:
        found = good(architecture)
        return {"accuracy": found["accuracy"] * accuracy, "latency_ms": found["latency_ms"] * latency}

    result = search(scaled, searcher)
    assert result.state is JobState.SUCCEEDED
    assert len({t.architecture.key for t in result.all_trials if t.measured}) == 24


@every_searcher
def test_objectives_that_are_constant(searcher: Any) -> None:
    result = search(lambda arch: {"accuracy": 0.5, "latency_ms": 3.0}, searcher)
    assert (result.state, len({t.architecture.key for t in result.all_trials})) == (JobState.SUCCEEDED, 24)
    assert len(result.front.trials) == 1  # of equal points the first stands


@every_searcher
def test_equal_genes_with_different_values(searcher: Any) -> None:
    """Trials of other jobs, or of a noisy evaluator, may say different things of one network."""
    document = {"space": "nas-bench-201", "objectives": ["max accuracy", "min latency_ms"], "searcher": searcher}
    spec = nas.JobSpec.parse(document)
    wanted: Problem = spec.problem
    trials = []
    for number in range(20):
        architecture = SPACE.sample(1, seed=number // 4)[0]
        values: Mapping[str, float] = {"accuracy": number / 20, "latency_ms": 5.0 - number / 7}
        bad = Broken(BrokenKind.INFEASIBLE, "not this time")
        outcome = bad if number % 4 == 3 else Measured(values)
        trials.append(Trial(number, Proposal(architecture)).close(outcome, wanted, number, 0.0))
    asking, again = (spec.searcher.build(SPACE, wanted, 0) for _ in range(2))
    asking.tell(trials)
    for trial in reversed(trials):
        again.tell([trial])
    proposed = [p.architecture.key for p in asking.ask(4)]
    assert proposed == [p.architecture.key for p in again.ask(4)]
    assert len({*proposed, *(t.architecture.key for t in trials)}) == 4 + 5
