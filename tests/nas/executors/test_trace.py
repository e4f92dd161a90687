"""Learning curves: bounded, in order, with both ends."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from nas.executors.trace import STEPS, Curve


@given(st.integers(0, 20 * STEPS))
def test_a_curve_keeps_both_ends_and_is_even_between(count: int) -> None:
    curve = Curve()
    for step in range(count):
        curve.add(step, {"loss": step})
    steps = [step for step, _ in curve.points]
    assert len(steps) <= STEPS
    assert steps[:1] == list(range(count))[:1]
    assert steps[-1:] == list(range(count))[-1:]
    gaps = {b - a for a, b in pairwise(steps[:-1])}
    assert len(gaps) <= 1
    assert len(steps) >= min(count, STEPS // 2)


@given(st.dictionaries(st.text(max_size=3), st.one_of(st.floats(), st.text(max_size=3), st.none(), st.integers())))
def test_only_finite_numbers_are_kept(metrics: dict[str, object]) -> None:
    curve = Curve()
    curve.add(1, metrics)
    ((step, kept),) = curve.points
    assert step == 1
    assert all(abs(value) < float("inf") for value in kept.values())
    sure = {k for k, v in metrics.items() if isinstance(v, float) and abs(v) < float("inf")}
    assert sure <= kept.keys() <= metrics.keys()
