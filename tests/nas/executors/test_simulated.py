"""The simulated clock: outcomes in the order in which workers would end, the same every time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from executor_contract import SPACE, TRIALS, Behave, drain
from hypothesis import given
from hypothesis import strategies as st

import nas
from nas.contracts import Report
from nas.executors import opened
from nas.executors.attempt import Task
from nas.executors.simulated import WITHOUT, SimulatedExecutor, clock, utilisation
from nas.storage import open_store
from nas.trial import Broken, BrokenKind, Measured, Outcome, Proposal, Trial
from search_spaces import Architecture

NUMBER = {t.architecture.key: t.number for t in TRIALS}


def lasting(known: list[float | None], **task: Any) -> Task:
    """Trials that take so long, by number; None: they fail."""

    def do(proposal: Proposal, report: Report) -> Mapping[str, float]:
        took = known[NUMBER[proposal.architecture.key]]
        if took is None:
            raise RuntimeError("broken")
        return {"train_seconds": took}

    return Task(Behave(do), SPACE, **task)


def ran(task: Task, count: int, workers: int) -> list[tuple[int, Outcome]]:
    with opened("simulated", task, workers) as executor:
        for trial in TRIALS[:count]:
            executor.submit(trial)
        return [next(executor.outcomes(0)) for _ in range(count)]


def test_outcomes_come_in_the_order_in_which_workers_end() -> None:
    found = ran(lasting([30.0, 10.0, 5.0, 100.0, None]), 5, workers=2)
    assert [number for number, _ in found] == [1, 2, 0, 4, 3]
    spans = {
        n: (o.metrics["start_seconds"], o.metrics["end_seconds"]) for n, o in found if isinstance(o, Measured)
    }
    assert spans == {1: (0, 10), 2: (10, 15), 0: (0, 30), 3: (15, 115)}


@given(st.lists(st.floats(0, 1e4), min_size=8, max_size=8), st.integers(1, 4))
def test_no_worker_does_two_things_and_none_waits_in_vain(seconds: list[float | None], workers: int) -> None:
    found = [o.metrics for _, o in ran(lasting(seconds), 8, workers) if isinstance(o, Measured)]
    ends = [m["end_seconds"] for m in found]
    assert ends == sorted(ends)
    for m in found:
        at = m["start_seconds"]
        assert sum(o["start_seconds"] <= at < o["end_seconds"] for o in found) <= workers
        assert at == 0 or at in ends


def test_repeats_take_their_time_and_a_trial_has_a_limit() -> None:
    ((_, outcome),) = ran(lasting([7.0], repeats=3), 1, 1)
    assert isinstance(outcome, Measured)
    assert outcome.metrics["end_seconds"] == 21
    (first, second) = ran(lasting([50.0, 7.0], seconds=20.0), 2, 1)
    assert first == (0, Broken(BrokenKind.INFEASIBLE, "took longer than 20 s"))
    assert isinstance(second[1], Measured)
    assert second[1].metrics["end_seconds"] == 27


def test_who_does_not_tell_takes_a_second() -> None:
    task = Task(Behave(lambda proposal, report: {"accuracy": 0.5}), SPACE, seconds=0.5)
    ((_, outcome),) = ran(task, 1, 1)
    assert isinstance(outcome, Measured)
    assert outcome.metrics["end_seconds"] == WITHOUT


def test_trials_that_end_at_the_same_time_come_together() -> None:
    executor = SimulatedExecutor(lasting([5.0, 3.0, 3.0, 4.0]), 3)
    for trial in TRIALS[:4]:
        executor.submit(trial)
    batches = [[number for number, _ in executor.outcomes(0)] for _ in range(3)]
    assert batches == [[1, 2], [0], [3]]


def test_a_cancelled_trial_leaves_its_worker_at_once() -> None:
    executor = SimulatedExecutor(lasting([5.0, 1e6, 2.0, 2.0]), 2)
    for trial in TRIALS[:4]:
        executor.submit(trial)
    assert dict(executor.outcomes(0)).keys() == {0}
    executor.cancel([1])
    rest = drain(executor, 2)
    assert {n: o.metrics["end_seconds"] for n, o in rest.items() if isinstance(o, Measured)} == {2: 7, 3: 7}


def day_long(architecture: Architecture) -> dict[str, float]:
    spread = int(architecture.key[:6], 16) / 16**6
    return {"accuracy": spread, "train_seconds": 3600 * 10**spread}


def search(searcher: str = "regularized_evolution", workers: int = 8, **more: Any) -> list[Trial]:
    budget = {"max_trial_count": 64, "parallel_trial_count": workers}
    result = nas.search(
        space="nas-bench-201",
        objectives=["max accuracy"],
        searcher=searcher,
        evaluator=day_long,
        executor="simulated",
        **budget | more,
    )
    return list(result.all_trials)


def in_short(trials: list[Trial]) -> list[Any]:
    return [(t.number, t.architecture.key, t.order, dict(t.metrics)) for t in trials]


def test_a_search_of_days_takes_seconds_and_goes_the_same_way_again() -> None:
    trials = search()
    assert in_short(trials) == in_short(search())
    assert [t.number for t in sorted(trials, key=lambda t: t.order or 0)] != list(range(64))
    by_end = sorted(trials, key=lambda t: t.metrics["end_seconds"])
    assert [t.order for t in by_end] == list(range(64))
    assert clock(trials) > 64 * 3600 / 8
    assert utilisation(trials, 8) > 0.8
    assert utilisation(trials[:1], 1) == 1


def test_a_job_that_goes_on_does_so_at_its_own_time() -> None:
    store = open_store(None)
    seen: list[int] = []

    def stop(architecture: Architecture) -> dict[str, float]:
        seen.append(0)
        if len(seen) == 9:
            raise KeyboardInterrupt
        return day_long(architecture)

    document = {"space": "nas-bench-201", "objectives": ["max accuracy"], "searcher": "random"}
    first = nas.search(document, evaluator=stop, executor="simulated", store=store, max_trial_count=16)
    second = nas.search(evaluator=stop, executor="simulated", store=store, resume=first.job.id)
    undisturbed = search("random", workers=1, max_trial_count=16)
    assert in_short(list(second.all_trials)) == in_short(undisturbed)


def test_the_clock_of_no_trial_stands_at_zero() -> None:
    assert clock([]) == 0
    assert utilisation([], 8) != pytest.approx(1)
