"""Repeated measurements of one network: for evaluators whose metrics are noisy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nas.evaluators.infeasible import Infeasible
from nas.trial import Proposal

if TYPE_CHECKING:
    from nas.contracts import Evaluator, Report


@runtime_checkable
class Repeatable(Protocol):
    """An evaluator whose randomness is its own, so that it must be told to measure anew."""

    def repeat(self, i: int) -> Evaluator:
        """The evaluator of the i-th further measurement, i = 1, 2, ...: the same, but for its randomness."""
        ...


def measure(evaluator: Evaluator, repeats: int, proposal: Proposal, report: Report) -> dict[str, float]:
    """Metrics of one measurement or, of several, their mean and as ``<metric>_std`` their standard deviation.

    An evaluator that is not `Repeatable` is called again as it is: its noise must be drawn anew by itself.

    Raises:
        TypeError: where the evaluator gives something else than numbers by name.
        ValueError: where a measurement lacks a metric of another.
        Infeasible: as the evaluator does, and where a metric of one of several measurements is not finite.
    """
    first = numbers(evaluator.evaluate(proposal, report))
    if repeats == 1:
        return first
    again = [evaluator.repeat(i) if isinstance(evaluator, Repeatable) else evaluator for i in range(1, repeats)]
    found = [first, *(numbers(e.evaluate(proposal, report)) for e in again)]
    for name in dict.fromkeys(name for metrics in found for name in metrics):
        for i, metrics in enumerate(found, start=1):
            if name not in metrics:
                raise ValueError(f"measurement {i} of {repeats} gave no {name}")
            if not math.isfinite(metrics[name]):
                raise Infeasible(f"{name} is {metrics[name]} in measurement {i} of {repeats}")
    values = {name: [metrics[name] for metrics in found] for name in first}
    spread = {deviation(name): statistics.stdev(v) for name, v in values.items()}
    return {**spread, **{name: statistics.fmean(v) for name, v in values.items()}}


def deviation(metric: str) -> str:
    """The name of a metric's standard deviation over repeats (n - 1 in the denominator)."""
    return f"{metric}_std"


def numbers(found: object) -> dict[str, float]:
    """Metrics as floats; raises `TypeError` for anything else. Text is no number, even if it reads like one."""
    if not isinstance(found, Mapping):
        raise TypeError(f"the evaluator returned {type(found).__name__}; a dict of metrics is needed")
    return {str(name): _number(str(name), value) for name, value in found.items()}


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        text = " ".join(repr(value).split())[:80]
        raise TypeError(f"{name} is {text}; a number is needed") from None
