"""How far the predictors of a job can be trusted, from its trials alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.objectives import Problem
from nas.predictor_quality import FEWEST, FIGURES, PredictorQuality, checkpoints, predictor_quality
from nas.trial import Broken, BrokenKind, Measured, Proposal, Trial
from predictors import Auto, Quality
from search_spaces import Architecture, load_space

SPACE = load_space("digits-tiny")
ONE = Problem.parse(["max accuracy"])
POOL = list({a.key: a for a in SPACE.sample(200, 0)}.values())


def accuracy(architecture: Architecture) -> float:
    genes = np.array(architecture.genes)
    return float(0.5 + 0.02 * genes.sum() + 0.05 * np.sin(genes * np.arange(1, len(genes) + 1)).sum())


def past(
    count: int, problem: Problem = ONE, measure: Callable[[int, Architecture], dict[str, float]] | None = None
) -> list[Trial]:
    """Trials of distinct networks, by number; they finished in this order."""
    measure = measure or (lambda i, a: {"accuracy": accuracy(a)})
    return [
        Trial(i, Proposal(a)).close(Measured(measure(i, a)), problem, i, 0.0) for i, a in enumerate(POOL[:count])
    ]


def judged(trials: list[Trial], problem: Problem = ONE, **more: Any) -> PredictorQuality:
    return predictor_quality(SPACE, problem, trials, **more)


@given(total=st.integers(0, 10**7))
def test_checkpoints_are_few_and_leave_enough_to_compare(total: int) -> None:
    points = checkpoints(total)
    assert (points == []) == (total < FEWEST)
    assert points == sorted(set(points))
    assert len(points) <= 3 * len(str(total))
    assert all(b - a >= FEWEST for a, b in pairwise(points))
    if points:
        assert (points[0], points[-1]) == (total if total < 2 * FEWEST else 10, total)


def test_every_figure_is_of_what_was_learnt_before_and_seen_after() -> None:
    trials = past(22)
    found = judged(trials)
    assert [(j.trials, j.judged_on, j.quality.count) for j in found.judgements] == [
        (10, "held_out", 10),
        (10, "later", 12),
        (22, "held_out", 22),
    ]
    assert found.remarks == ()
    archs, truth = [t.architecture for t in trials], np.array([t.metrics["accuracy"] for t in trials])
    model = Auto(SPACE).fit(archs[:10], truth[:10])
    for judgement, known, guess in zip(
        found.judgements[:2],
        (truth[:10], truth[10:]),
        (model.held_out(), model.predict(archs[10:])),
        strict=True,
    ):
        by_hand = Quality.of(known, guess.mean[:, 0], guess.std[:, 0])
        for name in ("kendall", "spearman", "precision", "coverage_90", "z_squared"):
            assert judgement.figures[name] == getattr(by_hand, name)


def test_only_the_order_of_finishing_counts() -> None:
    """Not the order of telling, and not trials that are open or broken."""
    trials = past(12)
    broken = Trial(12, Proposal(POOL[12])).close(Broken(BrokenKind.FAILED, "no"), ONE, 12, 0.0)
    assert judged([Trial(13, Proposal(POOL[13])), broken, *trials[::-1]]) == judged(trials)


def test_networks_learnt_from_are_not_compared_later() -> None:
    again = [
        Trial(20 + i, t.proposal).close(Measured({"accuracy": t.metrics["accuracy"] + 0.01}), ONE, 20 + i, 0.0)
        for i, t in enumerate(past(20))
    ]
    found = judged([*past(20), *again])
    assert {(j.trials, j.judged_on, j.quality.count) for j in found.judgements if j.trials >= 20} == {
        (20, "held_out", 20),
        (40, "held_out", 20),
    }
    assert found.remarks == (
        "accuracy: figures are missing at 20 trials, where values were equal, or too few networks new",
    )


def test_best_is_what_the_objective_or_the_constraint_says() -> None:
    def measure(i: int, a: Architecture) -> dict[str, float]:
        return {"accuracy": accuracy(a), "loss": accuracy(a), "speed": accuracy(a), "heat": accuracy(a)}

    problem = Problem.parse(["max accuracy", "min loss"], ["speed >= 0.1", "heat <= 99"])
    last = {j.metric: j for j in judged(past(12, problem, measure), problem).judgements}
    assert list(last) == ["accuracy", "loss", "speed", "heat"]
    for metric in ("accuracy", "speed"):
        assert last[metric].figures["precision"] == last[metric].quality.precision
    for metric in ("loss", "heat"):
        assert last[metric].figures["precision"] == last[metric].quality.precision_low


def test_formulas_are_not_predicted_and_constants_are_said() -> None:
    def measure(i: int, a: Architecture) -> dict[str, float]:
        return {"params": SPACE.cost(a)["params"], "latency_ms": 3.5, "accuracy": accuracy(a) if i >= 10 else 0.1}

    problem = Problem.parse(["max accuracy", "min params", "min latency_ms"])
    found = judged(past(30, problem, measure), problem)
    assert {(j.metric, j.trials, j.judged_on) for j in found.judgements} == {
        ("accuracy", n, on) for n, on in ((20, "held_out"), (20, "later"), (30, "held_out"))
    }
    assert found.remarks == (
        "params is given by a formula; nothing is predicted",
        "accuracy: figures are missing at 10 trials, where values were equal, or too few networks new",
        "latency_ms is 3.5 in all 30 measured trials; there is nothing to predict",
    )


@pytest.mark.parametrize(
    "values",
    [
        [0.0] * 9 + [1.8e154, 1.0],
        [1e308, -1e308, 5e-324, 0.0, 1.0, 1e-300] * 2,
        [1.0, 1.0 + 1e-15] * 6,
        [1e-300 * i for i in range(12)],
    ],
    ids=["outlier", "extremes", "rounding", "tiny"],
)
def test_any_values_give_finite_figures_or_a_remark(values: list[float]) -> None:
    trials = past(len(values), measure=lambda i, a: {"accuracy": values[i]})
    found = judged(trials)
    assert found.judgements or found.remarks
    for judgement in found.judgements:
        assert list(judgement.figures) == list(FIGURES)
        for figure in judgement.figures.values():
            assert np.isfinite([figure.low, figure.value, figure.high]).all()
            assert figure.low <= figure.value <= figure.high


def test_figures_do_not_depend_on_a_bound_or_on_what_comes_after_the_next_checkpoint() -> None:
    told: list[tuple[int, int]] = []
    few = judged(past(33), most=10, observe=lambda n, total: told.append((n, total)))
    assert few.judgements == judged(past(20)).judgements[:2]
    assert told == [(10, 33)]
    assert few.remarks == ("at most 10 of the 33 measured trials were learnt from",)


def search(count: int, *objectives: str) -> nas.SearchResult:
    return nas.search(
        space=SPACE,
        objectives=objectives,
        evaluator=lambda architecture: {"accuracy": accuracy(architecture)},
        searcher="random",
        max_trial_count=count,
        executor="inline",
    )


def test_a_result_gives_a_table_and_a_report_with_a_picture(tmp_path: Path) -> None:
    result = search(20, "max accuracy", "min params")
    frame = result.predictor_quality()
    assert frame[["metric", "trials", "judged_on"]].values.tolist() == [
        ["accuracy", 10, "held_out"],
        ["accuracy", 10, "later"],
        ["accuracy", 20, "held_out"],
    ]
    assert (frame["kendall_low"] <= frame["kendall"]).all()
    assert frame["kendall"].iloc[-1] > 0
    assert frame.notna().all(axis=None)
    written = result.report(tmp_path / "report.html").read_text()
    assert "How far predictors can be trusted" in written
    assert "accuracy, held out" in written
    assert "accuracy, later" in written
    assert "params is given by a formula" in written


def test_too_few_trials_give_an_empty_table_and_a_sentence(tmp_path: Path) -> None:
    result = search(9, "max accuracy")
    frame = result.predictor_quality()
    assert len(frame) == 0
    assert "kendall" in frame.columns
    assert frame.attrs["remarks"] == ("too few measured trials: 9; at least 10 are needed",)
    assert "too few measured trials: 9; at least 10 are needed" in result.report(tmp_path / "r.html").read_text()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command, where the newest job has 12 trials."""
    monkeypatch.setenv("NAS_DATABASE_URL", f"sqlite:///{tmp_path}/nas.db")
    wanted = {
        "space": "nas-bench-201",
        "objectives": ["max accuracy", "min params"],
        "searcher": "random",
        "evaluator": {"kind": "tabular", "table": "nas-bench-201"},
        "budget": {"max_trial_count": 12},
    }
    document = tmp_path / "spec.json"
    document.write_text(json.dumps(wanted))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments))

    assert run("search", str(document), "--executor", "inline").exit_code == 0
    return run


def test_the_command_prints_a_table_or_json(run: Callable[..., Any]) -> None:
    shown = run("predictors", "latest")
    assert shown.exit_code == 0, shown.output
    assert "held_out" in shown.stdout
    assert "learning from 12 of 12 trials" in shown.stderr
    assert "params is given by a formula" in shown.stderr
    found = json.loads(run("predictors", "latest", "--json").stdout)
    last = found["predictor_quality"][-1]
    assert (last["metric"], last["trials"], last["judged_on"], last["count"]) == ("accuracy", 12, "held_out", 12)
    assert last["kendall"]["low"] <= last["kendall"]["value"] <= last["kendall"]["high"]
    assert set(FIGURES) <= set(last)
    assert found["remarks"] == ["params is given by a formula; nothing is predicted"]
    assert run("predictors", "nothing").exit_code == 3
