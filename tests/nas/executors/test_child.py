"""Runaway candidates in real processes: each costs its own trial, and says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest
from executor_contract import SPACE, TRIALS, Behave

from nas.contracts import Report
from nas.executors import child as module
from nas.executors.attempt import Task
from nas.executors.child import Child, Limits
from nas.executors.trace import LOG, STEPS
from nas.job import JobSpec
from nas.runner import Study
from nas.trial import Broken, BrokenKind, Measured, Outcome, Proposal, Trace

FIRST, SECOND = (cloudpickle.dumps(t.proposal) for t in TRIALS[:2])
Do = Callable[[Proposal, Report], Mapping[str, float]]


@contextmanager
def child_of(do: Do, seconds: float | None = None, memory: float | None = None) -> Iterator[Child]:
    child = Child(cloudpickle.dumps(Task(Behave(do), SPACE, seconds)), Limits(seconds, memory))
    try:
        yield child
    finally:
        child.close()


def only_first(bad: Callable[[Report], Any]) -> Do:
    """Does it in the first trial; all others go well."""
    victim = TRIALS[0].architecture.key

    def do(proposal: Proposal, report: Report) -> Mapping[str, float]:
        if proposal.architecture.key == victim:
            bad(report)
        return {"accuracy": 0.5}

    return do


def traced(outcome: Outcome) -> Trace:
    assert outcome.trace is not None
    return outcome.trace


def process(outcome: Outcome) -> int:
    return int(traced(outcome).worker.rpartition(":")[2])


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether the process ends in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def wait_for(path: Path) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end and not (path.exists() and path.read_text().endswith("\n")):
        time.sleep(0.05)
    return path.read_text()


def block_the_alarm_and_loop(report: Report) -> None:
    report(1, {"loss": 2.0})
    print("no end", end="")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    while True:
        pass


def crash(report: Report) -> None:
    import ctypes

    print("before")
    ctypes.string_at(0)


def swell(report: Report) -> None:
    held = []
    while len(held) < 1000:
        held.append(bytearray(b"x") * 20_000_000)
        time.sleep(0.01)


def let_another_swell(report: Report) -> None:
    code = "import time; x = bytearray(b'x') * 600_000_000; time.sleep(60)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("bad", "kind", "reason"),
    [
        (block_the_alarm_and_loop, BrokenKind.INFEASIBLE, "took longer than 2 s"),
        (crash, BrokenKind.LOST, "the trial's process died: SIGSEGV"),
        (lambda report: os._exit(7), BrokenKind.LOST, "the trial's process died: exit code 7"),
        (lambda report: os.kill(os.getpid(), 9), BrokenKind.LOST, "the trial's process died: SIGKILL"),
        (lambda report: os.killpg(0, 9), BrokenKind.LOST, "the trial's process died: SIGKILL"),
        (lambda report: os.closerange(3, 100), BrokenKind.LOST, "the trial's process died: exit code 1"),
    ],
)
def test_a_runaway_costs_one_trial(bad: Callable[[Report], Any], kind: BrokenKind, reason: str) -> None:
    with child_of(only_first(bad), seconds=2.0) as child:
        before, broken, after = child.attempt(SECOND), child.attempt(FIRST), child.attempt(SECOND)
        assert broken == Broken(kind, reason)
        assert isinstance(before, Measured)
        assert isinstance(after, Measured)
        assert process(before) == process(broken)
        assert process(after) != process(broken)
        assert gone(process(broken))


@pytest.mark.parametrize("bad", [swell, let_another_swell])
def test_memory_has_a_limit_that_holds_for_all_that_a_trial_starts(bad: Callable[[Report], Any]) -> None:
    with child_of(only_first(bad), seconds=60.0, memory=400e6) as child:
        assert child.attempt(FIRST) == Broken(BrokenKind.INFEASIBLE, "used more than 400 MB of memory")
        assert isinstance(child.attempt(SECOND), Measured)


def test_what_earlier_trials_hold_does_not_count_against_a_trial() -> None:
    def leak(proposal: Proposal, report: Report) -> Mapping[str, float]:
        sys.held = [*getattr(sys, "held", ()), bytearray(b"x") * 200_000_000]  # type: ignore[attr-defined]
        time.sleep(0.6)
        return {"held": len(sys.held)}  # type: ignore[attr-defined]

    with child_of(leak, memory=400e6) as child:
        outcomes = [child.attempt(FIRST) for _ in range(3)]
    assert [o.metrics["held"] for o in outcomes if isinstance(o, Measured)] == [1, 1, 1]


def test_what_a_killed_trial_reported_and_printed_is_kept() -> None:
    with child_of(only_first(block_the_alarm_and_loop), seconds=1.0) as child:
        before = time.time()
        trace = traced(child.attempt(FIRST))
    assert trace.curve == ((1, {"loss": 2.0}),)
    assert trace.log == "no end"
    assert before <= trace.started_at <= time.time()


def test_all_that_a_trial_prints_is_kept_and_nothing_of_others() -> None:
    def talk(proposal: Proposal, report: Report) -> Mapping[str, float]:
        import ctypes

        print("python", proposal.architecture.key)
        print("to stderr", file=sys.stderr)
        subprocess.run(["echo", "a process"], check=True)
        ctypes.CDLL(None).puts(b"native code")
        print("a \0 and bytes that are no text", end="")
        os.write(1, b"\xff\n")
        return {"accuracy": 0.5}

    with child_of(talk) as child:
        for trial, proposal in zip(TRIALS, (FIRST, SECOND), strict=False):
            log = traced(child.attempt(proposal)).log
            lines = log.splitlines()
            assert lines[:3] == [f"python {trial.architecture.key}", "to stderr", "a process"]
            assert "native code" in lines
            assert "a  and bytes that are no text\ufffd" in lines
            assert log.count("python") == 1


def test_a_crash_says_where() -> None:
    with child_of(only_first(crash)) as child:
        log = traced(child.attempt(FIRST)).log
    assert log.startswith("before\nFatal Python error: Segmentation fault")
    assert "string_at" in log


def test_a_trial_that_never_stops_printing_fills_nothing() -> None:
    with child_of(only_first(lambda report: subprocess.run(["yes", "no end"], check=True)), seconds=1.0) as child:
        broken = child.attempt(FIRST)
        assert broken == Broken(BrokenKind.INFEASIBLE, "took longer than 1 s")
        assert len(traced(broken).log) == LOG
        assert isinstance(child.attempt(SECOND), Measured)


def test_a_long_curve_is_thinned() -> None:
    def learn(proposal: Proposal, report: Report) -> Mapping[str, float]:
        for step in range(1, 5001):
            report(step, {"loss": 1 / step})
        return {"accuracy": 0.5}

    with child_of(learn) as child:
        curve = traced(child.attempt(FIRST)).curve
    assert 0.4 * STEPS < len(curve) <= STEPS
    assert curve[0] == (1, {"loss": 1.0})
    assert curve[-1] == (5000, {"loss": 1 / 5000})


def test_a_copy_of_the_process_does_not_answer_for_it() -> None:
    def fork(proposal: Proposal, report: Report) -> Mapping[str, float]:
        return {"accuracy": 0.5, "copy": float(os.fork() == 0)}

    with child_of(fork) as child:
        outcomes = [child.attempt(FIRST) for _ in range(3)]
    assert [o.metrics["copy"] for o in outcomes if isinstance(o, Measured)] == [0, 0, 0]


def test_a_process_that_reads_nothing_costs_one_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STALL", 0.5)
    with child_of(lambda proposal, report: {"accuracy": 0.5}) as child:
        first = child.attempt(FIRST)
        os.kill(process(first), signal.SIGSTOP)
        large = child.attempt(FIRST + bytes(10**7))  # more than a socket holds
        assert large == Broken(BrokenKind.LOST, "the trial's process read nothing for 0.5 s")
        assert gone(process(first))
        assert isinstance(child.attempt(FIRST), Measured)


def test_a_process_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = psutil.Process().num_fds()
    with child_of(lambda proposal, report: {"accuracy": 0.5}) as child:
        monkeypatch.setattr(sys, "executable", "/no/such/program")
        outcome = child.attempt(FIRST)
        assert isinstance(outcome, Broken)
        assert outcome.kind is BrokenKind.LOST
        assert psutil.Process().num_fds() == before
        monkeypatch.undo()
        assert isinstance(child.attempt(FIRST), Measured)


def test_a_task_that_cannot_be_read_says_so() -> None:
    child = Child(b"cno_such_module\nthing\n.", Limits())
    reason = "the task cannot be read: ModuleNotFoundError: No module named 'no_such_module'"
    assert child.attempt(FIRST) == Broken(BrokenKind.FAILED, reason)
    child.close()


LOADED = """
import pickle, sys
from pathlib import Path
task, proposal = (pickle.loads(Path(p).read_bytes()) for p in sys.argv[1:])
from nas.executors.attempt import attempt
assert attempt(task, proposal).metrics
print(*{name.partition(".")[0] for name in sys.modules})
"""
TABLE = {"kind": "tabular", "table": "nas-bench-201", "metrics": {"accuracy": "accuracy"}}


@pytest.mark.parametrize(("evaluator", "objective"), [(TABLE, "max accuracy"), ("cost", "max macs")])
def test_what_is_slow_to_load_is_left_to_those_who_train(evaluator: Any, objective: str, tmp_path: Path) -> None:
    document = {"space": "nas-bench-201", "evaluator": evaluator, "objectives": [objective]}
    study = Study.of(JobSpec.parse(document))
    files = [tmp_path / "task", tmp_path / "proposal"]
    work = Task(study.evaluator, study.space), Proposal(study.space.sample(1, 0)[0])
    for file, value in zip(files, work, strict=True):
        file.write_bytes(cloudpickle.dumps(value))
    told = subprocess.run(
        [sys.executable, "-c", LOADED, *map(str, files)], capture_output=True, text=True, check=True, timeout=200
    )
    assert {"torch", "ray", "sklearn", "pandas", "scipy", "pyarrow"}.isdisjoint(told.stdout.split())


PARENT = """
import sys
from pathlib import Path
import cloudpickle
from nas.executors.child import Child, Limits
Child(Path(sys.argv[1]).read_bytes(), Limits()).attempt(Path(sys.argv[2]).read_bytes())
"""


def test_nothing_outlives_its_parent(tmp_path: Path) -> None:
    told = tmp_path / "pids"

    def spawn_and_hang(proposal: Proposal, report: Report) -> Mapping[str, float]:
        another = subprocess.Popen(["sleep", "1000"])
        told.write_text(f"{os.getpid()} {another.pid}\n")
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            pass

    (tmp_path / "task").write_bytes(cloudpickle.dumps(Task(Behave(spawn_and_hang), SPACE)))
    (tmp_path / "proposal").write_bytes(FIRST)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "task"), str(tmp_path / "proposal")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    pids = [int(pid) for pid in wait_for(told).split()]
    parent.kill()
    parent.wait()
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)
