"""The jobs of a run, and what each would find undisturbed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import nas
from nas.wire import readable

Document = Mapping[str, Any]
Finding = tuple[int, str, str, dict[str, Any], dict[str, float]]
"""Order, state, key, architecture and metrics of a finished trial."""

TIMED = "train_seconds"
"""The metric that is measured with a clock, and so is another one each time."""

_TABLE: Document = {
    "space": "nas-bench-201",
    "objectives": ["max accuracy", "min params"],
    "evaluator": {"kind": "tabular", "table": "nas-bench-201"},
}
_DIGITS: Document = {
    "space": "digits-tiny",
    "objectives": ["max accuracy", "min model_size_bytes"],
    "searcher": "random",
    "evaluator": {"kind": "training", "dataset": "digits", "epochs": 1},
}
_COST: Document = {
    "space": "nas-bench-201",
    "objectives": ["max macs", "min params"],
    "searcher": "nsga2",
    "evaluator": "cost",
}


def _job(name: str, base: Document, trials: int, parallel: int, **others: Any) -> Document:
    budget = {"max_trial_count": trials, "parallel_trial_count": parallel}
    return {"name": name, **base, "budget": budget, "seed": 7, **others}


def documents(quarters: int = 4) -> list[Document]:
    """With 1 and with 4 trials at once; free ones, and some of which each takes a tenth of a second or more.

    Args:
        quarters: the size of the jobs, 4 being the whole.
    """
    return [
        _job("table-alone", _TABLE, 100 * quarters, 1, searcher="regularized_evolution"),
        _job("digits-alone", _DIGITS, 4 * quarters, 1),
        _job("digits-four", _DIGITS, 4 * quarters, 4),
        _job("guided-alone", _TABLE, 10 * quarters, 1, searcher="predictor_guided"),
        _job("table-four", _TABLE, 75 * quarters, 4, searcher="random"),
        _job("cost-four", _COST, 50 * quarters, 4),
    ]


def worker_alone(document: Document) -> bool:
    """Whether the order of the trials is decided by the document alone."""
    return bool(document["budget"]["parallel_trial_count"] == 1)


def undisturbed(document: Document) -> dict[int, Finding]:
    """By number, what a job finds that nothing disturbs."""
    return _searched(json.dumps(document))


@cache
def _searched(document: str) -> dict[int, Finding]:
    result = nas.search(json.loads(document), executor="inline")
    return {
        t.number: (t.order or 0, t.state.value, t.architecture.key, readable(t.architecture), untimed(t.metrics))
        for t in result.all_trials
    }


def found(trial: Mapping[str, Any]) -> Finding:
    """The same of a trial as HTTP tells it."""
    return (
        trial["order"],
        trial["state"],
        trial["key"],
        dict(trial["architecture"]),
        untimed(trial["metrics"]),
    )


def untimed(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are the same each time."""
    return {name: value for name, value in metrics.items() if name != TIMED}
