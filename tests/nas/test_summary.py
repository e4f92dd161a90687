"""What is named of a finished search."""

from __future__ import annotations

from nas.objectives import Problem
from nas.summary import highlights
from nas.trial import Measured, Proposal, Trial
from search_spaces import Architecture, load_space

SPACE = load_space("digits-tiny")
PROBLEM = Problem.parse(["max accuracy", "min model_size_bytes"])
PARTS = [c.name for c in SPACE.choices if c.name.endswith("weight_bits")]


def network(bits: int) -> Architecture:
    """The same network each time, but for the bits of its weights."""
    first = {c.name: c.values[0] for c in SPACE.choices}
    return SPACE.architecture({**first, **dict.fromkeys(PARTS, bits)})


def trial(number: int, bits: int, **metrics: float) -> Trial:
    return Trial(number, Proposal(network(bits))).close(Measured(metrics), PROBLEM, order=number, at=1.0)


def named(*trials: Trial) -> dict[str, int]:
    return {found.title: found.trial.number for found in highlights(trials, SPACE)}


def test_of_equally_accurate_trials_the_smallest_is_named() -> None:
    found = named(
        trial(0, 32, accuracy=0.9, model_size_bytes=400.0),
        trial(1, 8, accuracy=0.9, model_size_bytes=100.0),
        trial(2, 32, accuracy=0.9, model_size_bytes=300.0),
        trial(3, 4, accuracy=0.8, model_size_bytes=50.0),
    )
    assert found == {
        "most accurate": 1,
        "most accurate at 32 bits": 2,
        "smallest quantized within 1 point of the best": 1,
    }


def test_accuracy_comes_before_size_and_size_before_order() -> None:
    ties = [trial(n, 32, accuracy=0.9, model_size_bytes=400.0) for n in (0, 1)]
    assert named(*ties)["most accurate"] == 0
    assert named(*ties, trial(2, 32, accuracy=0.91, model_size_bytes=900.0))["most accurate"] == 2


def test_without_sizes_the_first_of_the_best_is_named() -> None:
    problem = Problem.parse(["max accuracy"])
    trials = [
        Trial(n, Proposal(network(32))).close(Measured({"accuracy": a}), problem, order=n, at=1.0)
        for n, a in enumerate((0.5, 0.9, 0.9))
    ]
    assert named(*trials) == {"most accurate": 1}
