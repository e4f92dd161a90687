"""Trials on Ray: dead workers, dead children, and several jobs on one cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_contract import SPACE, TRIALS, Behave, ExecutorContract, drain
from test_child import gone, wait_for

from nas.contracts import Report
from nas.executors import opened, session
from nas.executors.attempt import Task
from nas.executors.slots import Slots
from nas.trial import Broken, BrokenKind, Measured, Outcome, Proposal, Trial
from search_spaces import SpecError

pytestmark = pytest.mark.law


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slots]:
    with session("ray", 2) as slots:
        assert slots is not None
        yield slots


def free(proposal: Proposal, report: Report) -> dict[str, float]:
    return {"accuracy": 0.5}


@pytest.mark.usefixtures("cluster")
class TestRay(ExecutorContract):
    kind = "ray"

    def test_a_child_that_dies_loses_its_trial_and_no_other(self) -> None:
        victim = TRIALS[0].architecture

        def die(proposal: Proposal, report: Report) -> dict[str, float]:
            import os

            if proposal.architecture == victim:
                os._exit(1)
            return {"accuracy": 0.5}

        with opened("ray", Task(Behave(die), SPACE), 2) as executor:
            for trial in TRIALS[:3]:
                executor.submit(trial)
            found = drain(executor, 3)
        assert found[0] == Broken(BrokenKind.LOST, "the trial's process died: exit code 1")
        assert isinstance(found[1], Measured)
        assert isinstance(found[2], Measured)

    def test_what_cannot_be_sent_is_told_before_anything_runs(self) -> None:
        lock = threading.Lock()

        def locked(proposal: Proposal, report: Report) -> dict[str, float]:
            with lock:
                return {"accuracy": 0.5}

        told = pytest.raises(SpecError, match=r"evaluator: cannot be sent to Ray workers \(.*lock.*\)")
        with told, opened("ray", Task(Behave(locked), SPACE), 2):
            pass

    @pytest.mark.parametrize("how", ["kill -9", "cancel", "close"])
    def test_nothing_outlives_its_worker(self, tmp_path: Path, how: str) -> None:
        told, victim = tmp_path / "pids", TRIALS[0].architecture

        def hang(proposal: Proposal, report: Report) -> dict[str, float]:
            if proposal.architecture != victim:
                return {"accuracy": 0.5}
            another = subprocess.Popen(["sleep", "1000"])
            told.write_text(f"{os.getppid()} {os.getpid()} {another.pid}\n")
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                pass

        with opened("ray", Task(Behave(hang), SPACE), 1) as executor:
            executor.submit(TRIALS[0])
            pids = [int(pid) for pid in wait_for(told).split()]
            if how == "kill -9":
                os.kill(pids[0], signal.SIGKILL)
                lost = drain(executor, 1)[0]
                assert isinstance(lost, Broken)
                assert lost.kind is BrokenKind.LOST
            elif how == "cancel":
                executor.cancel([0])
            if how != "close":
                executor.submit(TRIALS[1])
                assert isinstance(drain(executor, 1)[1], Measured)
        assert len(pids) == 3
        assert all(gone(pid) for pid in pids)


def test_a_job_that_comes_later_gets_its_share(cluster: Slots, tmp_path: Path) -> None:
    done, quick = tmp_path / "done", {t.architecture.key for t in TRIALS[:2]}

    def wait(proposal: Proposal, report: Report) -> dict[str, float]:
        while proposal.architecture.key not in quick and not done.exists():
            time.sleep(0.05)
        return {"accuracy": 0.5}

    with (
        opened("ray", Task(Behave(wait), SPACE), 8, slots=cluster) as first,
        opened("ray", Task(Behave(free), SPACE), 8, slots=cluster) as second,
    ):
        for trial in TRIALS[:6]:  # two run, and two more would wait for the other job to end
            first.submit(trial)
        for trial in TRIALS[:2]:
            second.submit(trial)
        late: dict[int, Outcome] = {}
        early: dict[int, Outcome] = {}
        end = time.monotonic() + 120
        while second.in_flight and time.monotonic() < end:
            early.update(first.outcomes(0.1))
            late.update(second.outcomes(0.1))
        assert late.keys() == {0, 1}
        done.touch()
        assert len(early) + len(drain(first, 6 - len(early))) == 6


def test_an_idle_worker_makes_room_for_another_job(cluster: Slots) -> None:
    task = Task(Behave(free), SPACE)
    with opened("ray", task, 2, slots=cluster) as first, opened("ray", task, 2, slots=cluster) as second:
        for turn in range(3):
            for executor in (first, second):
                for number in range(2):
                    executor.submit(Trial(2 * turn + number, TRIALS[number].proposal))
                assert len(drain(executor, 2)) == 2


def test_jobs_in_threads_of_their_own_all_come_to_an_end(cluster: Slots) -> None:
    done: list[int] = []

    def job() -> None:
        with opened("ray", Task(Behave(free), SPACE), 4, slots=cluster) as executor:
            for trial in TRIALS:
                executor.submit(trial)
            done.append(len(drain(executor, len(TRIALS), 120)))

    threads = [threading.Thread(target=job) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(150)
    assert done == [len(TRIALS)] * 4


NODES = """
import sys, time
sys.path[:0] = sys.argv[1:]
import ray
from ray.cluster_utils import Cluster
from executor_contract import SPACE, TRIALS, Behave, drain
from nas.executors import opened, session
from nas.executors.attempt import Task
import nas.executors.slots
nas.executors.slots.LOOK = 0.5

def slow(proposal, report):
    time.sleep(3)
    return {"accuracy": 0.5}

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.connect()
with session("ray", 1) as slots, opened("ray", Task(Behave(slow), SPACE), 4, slots=slots) as executor:
    for trial in TRIALS[:2]:
        executor.submit(trial)
    node = cluster.add_node(num_cpus=1)
    end = time.monotonic() + 60
    while executor.standing(0).running < 2 and time.monotonic() < end:
        list(executor.outcomes(0.1))
        executor.submit(TRIALS[2]) if executor.in_flight < 2 else None
    print("grown", executor.standing(0).running)
    time.sleep(2)
    cluster.remove_node(node, allow_graceful=False)
    found = drain(executor, 2, 90)
    print("lost", sum(getattr(o, "kind", None) == "LOST" for o in found.values()), "of", len(found))
    executor.submit(TRIALS[3])
    print("then", type(drain(executor, 1, 60)[3]).__name__)
ray.shutdown()
cluster.shutdown()
"""


def test_nodes_may_join_and_die() -> None:
    contracts = str(Path(sys.modules["executor_contract"].__file__ or "").parent)
    ran = subprocess.run(
        [sys.executable, "-c", NODES, contracts, str(Path.cwd())],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": os.pathsep.join([contracts, *sys.path])},
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith(("grown", "lost", "then"))]
    assert lines == ["grown 2", "lost 1 of 2", "then Measured"], ran.stderr[-2000:]
