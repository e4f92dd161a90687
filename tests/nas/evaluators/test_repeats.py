"""Noise: a network is measured several times, and its metrics are the means."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import nas
from nas.check import check
from nas.contracts import Report
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.repeats import measure
from nas.evaluators.training import TrainingConfig
from nas.job import JobSpec
from nas.trial import Proposal
from search_spaces import Architecture, SpecError, load_space

PROPOSAL = Proposal(load_space("nas-bench-201").sample(1, 0)[0])


class Given:
    """Gives these answers, one after the other."""

    def __init__(self, *answers: Any) -> None:
        self.answers: Iterator[Any] = iter(answers)

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        return next(self.answers)  # type: ignore[no-any-return]


def report(step: int, metrics: Mapping[str, float]) -> None:
    return


def measured(*answers: Any) -> dict[str, float]:
    return measure(Given(*answers), len(answers), PROPOSAL, report)


def test_metrics_are_means_with_their_standard_deviations() -> None:
    assert measured({"accuracy": 1}) == {"accuracy": 1}
    found = measured({"accuracy": 1, "loss": 5.0}, {"accuracy": 2, "loss": 5.0}, {"loss": 5.0, "accuracy": 6})
    assert found == {
        "accuracy": 3,
        "accuracy_std": pytest.approx(statistics.stdev([1, 2, 6])),
        "loss": 5,
        "loss_std": 0,
    }
    assert measured({"a": 1, "a_std": 9}, {"a": 3, "a_std": 9})["a_std"] == 9  # the evaluator's own word stays


def test_a_measurement_that_lacks_something_is_named() -> None:
    with pytest.raises(ValueError, match="measurement 2 of 2 gave no loss"):
        measured({"accuracy": 1, "loss": 1}, {"accuracy": 2})
    with pytest.raises(ValueError, match="measurement 1 of 2 gave no loss"):
        measured({"accuracy": 1}, {"accuracy": 2, "loss": 1})
    with pytest.raises(Infeasible, match="accuracy is nan in measurement 2 of 2"):
        measured({"accuracy": 1}, {"accuracy": float("nan")})


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "the evaluator returned NoneType; a dict of metrics is needed"),
        ("0.9", "the evaluator returned str"),
        ([0.9], "the evaluator returned list"),
        ({"accuracy": None}, "accuracy is None; a number is needed"),
        ({"accuracy": "0.9"}, "accuracy is '0.9'; a number is needed"),
        ({"accuracy": [0.9, 0.8]}, "accuracy is [0.9, 0.8]; a number is needed"),
        ({"accuracy": 10**400}, "a number is needed"),
    ],
)
def test_what_is_no_number_is_told(answer: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        measured(answer)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 150


def test_trainings_are_repeated_from_other_seeds() -> None:
    space = load_space("digits-tiny")
    config = TrainingConfig(dataset="digits", epochs=1, train_limit=100)
    evaluator, proposal = config.bind(space, 3), Proposal(space.sample(1, 0)[0])
    once, again = (evaluator.repeat(i).evaluate(proposal, report)["loss"] for i in (1, 1))
    other, own = (e.evaluate(proposal, report)["loss"] for e in (evaluator.repeat(2), evaluator))
    assert once == again
    assert len({once, other, own}) == 3
    both = measure(evaluator, 3, proposal, report)
    assert both["loss"] == pytest.approx(statistics.fmean([own, once, other]))


def test_a_search_takes_repeats_from_its_budget() -> None:
    calls: dict[str, list[float]] = {}

    def noisy(architecture: Architecture) -> dict[str, float]:
        seen = calls.setdefault(architecture.key, [])
        seen.append(float(len(seen)))
        return {"accuracy": seen[-1]}

    result = nas.search(
        space="nas-bench-201",
        objectives=["max accuracy"],
        constraints=["accuracy_std <= 2"],
        searcher="random",
        evaluator=noisy,
        executor="inline",
        max_trial_count=5,
        repeats=4,
    )
    assert all(seen == [0, 1, 2, 3] for seen in calls.values())
    assert (result.trials["accuracy"] == 1.5).all()
    assert result.trials["feasible"].all()


@pytest.mark.parametrize(
    "evaluator", ["cost", {"kind": "tabular", "table": "nas-bench-201"}], ids=["cost", "tabular"]
)
def test_more_repeats_than_measurements_are_refused(evaluator: Any) -> None:
    document = {"space": "nas-bench-201", "objectives": ["min params"], "evaluator": evaluator}
    check(JobSpec.parse(document))
    with pytest.raises(SpecError, match=r"budget\.repeats: 2 is more than the .* allowed: 1 to 1"):
        check(JobSpec.parse({**document, "budget": {"repeats": 2}}))


def test_deviations_are_metrics_only_where_there_are_repeats() -> None:
    document = {"space": "digits-tiny", "objectives": ["max accuracy", "min loss_std"]}
    check(JobSpec.parse({**document, "budget": {"repeats": 2}}))
    with pytest.raises(SpecError, match="'loss_std' is not a metric"):
        check(JobSpec.parse(document))
