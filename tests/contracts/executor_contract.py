"""What every executor must keep."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from nas.contracts import Executor, Report
from nas.evaluators.infeasible import Infeasible
from nas.executors import opened
from nas.executors.attempt import Task
from nas.trial import Broken, BrokenKind, Measured, Outcome, Proposal, Trial
from search_spaces import load_space

SPACE = load_space("nas-bench-201")
TRIALS = [Trial(i, Proposal(a)) for i, a in enumerate(SPACE.sample(8, 0))]


class Behave:
    """An evaluator that does what its function says. Its own pickling is part of the test."""

    def __init__(self, do: Callable[[Proposal, Report], Mapping[str, float]]) -> None:
        self.do = do

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        return self.do(proposal, report)


def drain(executor: Executor, want: int, seconds: float = 60) -> dict[int, Outcome]:
    found: dict[int, Outcome] = {}
    end = time.monotonic() + seconds
    while len(found) < want and time.monotonic() < end:
        found.update(executor.outcomes(0.5))
    return found


class ExecutorContract:
    """Subclasses set `kind`."""

    kind: Any

    @pytest.fixture
    def run(self) -> Callable[..., Any]:
        """Submit trials to an executor of a behaviour, and give all outcomes."""

        def run(do: Any, trials: list[Trial], seconds: float | None = None) -> dict[int, Outcome]:
            with opened(self.kind, Task(Behave(do), SPACE, seconds), 2) as executor:
                for trial in trials:
                    executor.submit(trial)
                found = drain(executor, len(trials))
                assert executor.in_flight == 0
                return found

        return run

    def test_every_trial_gets_its_own_outcome_with_formula_metrics(self, run: Any) -> None:
        found = run(
            lambda proposal, report: {"accuracy": SPACE.cost(proposal.architecture)["params"] / 1e7}, TRIALS
        )
        for trial in TRIALS:
            params = SPACE.cost(trial.architecture)["params"]
            outcome = found[trial.number]
            assert isinstance(outcome, Measured)
            assert (outcome.metrics["params"], outcome.metrics["accuracy"]) == (params, params / 1e7)

    def test_whatever_a_candidate_does_is_data(self, run: Any) -> None:
        def bad(proposal: Proposal, report: Report) -> Mapping[str, float]:
            turn = next(i for i, t in enumerate(TRIALS) if t.architecture == proposal.architecture)
            if turn == 0:
                raise RuntimeError("no such\nkernel")
            if turn == 1:
                raise Infeasible("too wide")
            if turn == 2:
                return {"accuracy": float("nan")}
            if turn == 3:
                return "nothing"  # type: ignore[return-value]
            return {"accuracy": 0.5}

        found = run(bad, TRIALS[:5])
        assert found[0] == Broken(BrokenKind.FAILED, "RuntimeError: no such kernel")
        assert found[1] == Broken(BrokenKind.INFEASIBLE, "too wide")
        assert found[2] == Broken(BrokenKind.INFEASIBLE, "accuracy is nan")
        assert isinstance(found[3], Broken)
        assert found[3].kind is BrokenKind.FAILED
        assert isinstance(found[4], Measured)

    def test_an_endless_loop_runs_out_of_time_and_costs_one_trial(self, run: Any) -> None:
        endless = TRIALS[0].architecture

        def loop(proposal: Proposal, report: Report) -> Mapping[str, float]:
            while proposal.architecture == endless:
                pass
            return {"accuracy": 0.5}

        found = run(loop, TRIALS[:2], seconds=1.0)
        assert found[0] == Broken(BrokenKind.INFEASIBLE, "took longer than 1 s")
        assert isinstance(found[1], Measured)

    def test_a_trial_tells_where_it_ran_and_what_was_reported(self, run: Any) -> None:
        def learn(proposal: Proposal, report: Report) -> Mapping[str, float]:
            for step in (1, 2):
                report(step, {"loss": 1 / step, "name": "no number"})  # type: ignore[dict-item]
            if proposal.architecture == TRIALS[1].architecture:
                raise RuntimeError("late")
            return {"accuracy": 0.5}

        before = time.time()
        for outcome in run(learn, TRIALS[:2]).values():
            assert outcome.trace.curve == ((1, {"loss": 1.0}), (2, {"loss": 0.5}))
            assert before <= outcome.trace.started_at <= time.time()
            host, _, process = outcome.trace.worker.rpartition(":")
            assert (host, process.isdigit()) == (socket.gethostname(), True)

    def test_cancelled_trials_are_forgotten(self) -> None:
        def slow(proposal: Proposal, report: Report) -> Mapping[str, float]:
            time.sleep(0.01)
            return {"accuracy": 0.5}

        with opened(self.kind, Task(Behave(slow), SPACE), 2) as executor:
            for trial in TRIALS[:4]:
                executor.submit(trial)
            executor.cancel([1, 2])
            assert executor.in_flight == 2
            assert set(drain(executor, 2)) == {0, 3}
            executor.submit(TRIALS[5])
            executor.cancel()
            assert executor.in_flight == 0
            assert list(executor.outcomes(0.1)) == []
