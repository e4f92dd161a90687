from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_contract import TRIALS, Behave, ExecutorContract, drain

from nas.contracts import Report
from nas.executors import opened, session
from nas.executors.attempt import Task
from nas.trial import Broken, BrokenKind, Measured, Proposal
from search_spaces import load_space

pytestmark = pytest.mark.law


class TestInline(ExecutorContract):
    kind = "inline"


class TestSimulated(ExecutorContract):
    kind = "simulated"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with session("ray", 2):
        yield


@pytest.mark.usefixtures("cluster")
class TestRay(ExecutorContract):
    kind = "ray"

    def test_a_worker_that_dies_loses_its_trial_and_no_other(self, tmp_path: Path) -> None:
        victim = TRIALS[0].architecture

        def die(proposal: Proposal, report: Report) -> dict[str, float]:
            import os

            if proposal.architecture == victim:
                os._exit(1)
            return {"accuracy": 0.5}

        with opened("ray", Task(Behave(die), load_space("nas-bench-201")), 2) as executor:
            for trial in TRIALS[:3]:
                executor.submit(trial)
            found = drain(executor, 3)
        lost = found[0]
        assert isinstance(lost, Broken)
        assert lost.kind is BrokenKind.LOST
        assert isinstance(found[1], Measured)
        assert isinstance(found[2], Measured)
