import pytest
from executor_contract import SPACE, TRIALS, Behave, ExecutorContract

from nas.contracts import Report
from nas.executors import opened
from nas.executors.attempt import Task
from nas.trial import Proposal

pytestmark = pytest.mark.law


class TestInline(ExecutorContract):
    kind = "inline"

    def test_free_trials_come_back_together(self) -> None:
        def free(proposal: Proposal, report: Report) -> dict[str, float]:
            return {"accuracy": 0.5}

        with opened("inline", Task(Behave(free), SPACE), 8) as executor:
            for trial in TRIALS:
                executor.submit(trial)
            assert [number for number, _ in executor.outcomes(60)] == [t.number for t in TRIALS]
            for trial in TRIALS[:3]:
                executor.submit(trial)
            assert [number for number, _ in executor.outcomes(0)] == [0]
            assert executor.in_flight == 2


class TestSimulated(ExecutorContract):
    kind = "simulated"
