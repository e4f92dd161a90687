"""Law 3: killed anywhere and started again, a search ends with exactly the trials of an undisturbed run."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from nas import loop
from nas.contracts import LeaseLost, Store
from nas.evaluators.infeasible import Infeasible
from nas.job import JobSpec, JobState
from nas.local import study_of
from nas.runner import run
from nas.storage import open_store
from nas.storage.memory import MemoryStore
from nas.trial import TrialState
from search_spaces import Architecture

pytestmark = pytest.mark.law

SEARCHERS = ["random", "regularized_evolution", "nsga2", "predictor_guided"]
LEASE_SECONDS = 0.3


class Killed(BaseException):
    """Stands for a kill: nothing may catch it, nothing is cleaned up."""


class DoomedLease:
    """A lease whose holder dies before or after its n-th write; it passes everything else on."""

    def __init__(self, lease: Any, dies_at: int, after_write: bool) -> None:
        self._lease, self._left, self._after = lease, dies_at, after_write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name)

    def _write(self, write: Callable[[], Any]) -> Any:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Killed
        written = write()
        if self._left == 0:
            raise Killed
        return written

    def open(self, work: Sequence[Any]) -> Any:
        return self._write(lambda: self._lease.open(work))

    def close(self, outcomes: Sequence[Any], *then: Any) -> Any:
        return self._write(lambda: self._lease.close(outcomes, *then))


def spec(searcher: str, trials: int = 24, parallel: int = 1, **more: Any) -> JobSpec:
    return JobSpec.parse(
        {
            "space": "nas-bench-201",
            "objectives": ["max accuracy", "min params"],
            "constraints": ["params <= 1.2e6"],
            "searcher": searcher
            if searcher == "predictor_guided" or searcher == "random"
            else {"kind": searcher, "population": 8},
            "evaluator": {"kind": "callable", "function": "test_loop:evaluate"},
            "budget": {"max_trial_count": trials, "parallel_trial_count": parallel},
            "initial": [{"edge_*": "nor_conv_3x3"}, {"edge_0_1": "none"}],
            **more,
        }
    )


def evaluate(arch: Architecture) -> dict[str, float]:
    if sum(v == "none" for v in arch.values()) >= 4:
        raise Infeasible("nothing left of it")
    return {"accuracy": sum(len(str(v)) for v in arch.values()) / 100 + int(arch.key[:4], 16) / 1e6}


def claimed(store: Any, job_id: str) -> Any:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        lease = store.claim(job_id)
        if lease is not None:
            return lease
        time.sleep(0.05)
    raise AssertionError("the lease of a dead runner never ran out")


def history(store: Store, job_id: str) -> list[Any]:
    return [(t.number, t.architecture.key, t.state, dict(t.metrics), t.order) for t in store.trials(job_id)]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    url = None if request.param == "memory" else f"sqlite:///{tmp_path}/nas.db"
    opened = open_store(url, lease_seconds=LEASE_SECONDS)
    yield opened
    opened.close()


@pytest.fixture(params=[0.0, 60.0], ids=["one-write-each", "one-write-for-both"])
def brief(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """Evaluations of so many seconds are closed by the write that opens the next ones."""
    monkeypatch.setattr(loop, "BRIEF", request.param)
    seconds: float = request.param
    return seconds


@pytest.mark.parametrize("searcher", SEARCHERS)
@pytest.mark.parametrize("after_write", [False, True])
def test_a_killed_search_ends_like_an_undisturbed_one(
    store: Any, searcher: str, after_write: bool, brief: float
) -> None:
    calm = MemoryStore()
    undisturbed = calm.submit(spec(searcher)).id
    run(calm.claim(undisturbed), "inline", study=study_of(spec(searcher), evaluator=evaluate))

    job_id = store.submit(spec(searcher)).id
    for dies_at in (1, 2, 3, 7, 9) if brief else (1, 2, 3, 8, 13):
        lease = DoomedLease(claimed(store, job_id), dies_at, after_write)
        with pytest.raises(Killed):
            run(lease, "inline", study=study_of(spec(searcher), evaluator=evaluate))
    run(claimed(store, job_id), "inline", study=study_of(spec(searcher), evaluator=evaluate))
    assert store.job(job_id).state is JobState.SUCCEEDED
    assert history(store, job_id) == history(calm, undisturbed)


def test_the_initial_trials_come_first(store: Any) -> None:
    job_id = store.submit(spec("random")).id
    run(store.claim(job_id), "inline", study=study_of(spec("random"), evaluator=evaluate))
    first, second = store.trials(job_id)[:2]
    assert set(first.architecture.values()) == {"nor_conv_3x3"}
    assert second.architecture["edge_0_1"] == "none"


def test_parallel_trials_stay_within_the_budget_and_are_distinct(store: Any) -> None:
    job_id = store.submit(spec("nsga2", trials=30, parallel=4, initial=[])).id
    run(store.claim(job_id), "inline", study=study_of(spec("nsga2", 30, 4, initial=[]), evaluator=evaluate))
    trials = store.trials(job_id)
    assert [t.number for t in trials] == list(range(30))
    assert len({t.architecture.key for t in trials}) == 30


def test_an_exhausted_space_ends_the_search(store: Any) -> None:
    tiny = {
        "family": "cell",
        "input": [3, 8, 8],
        "classes": 2,
        "architecture": {"nodes": 2, "operations": ["none", "skip_connect", "nor_conv_1x1"]},
    }
    small = spec("regularized_evolution", space=tiny, initial=[])
    job_id = store.submit(small).id
    ending = run(store.claim(job_id), "inline", study=study_of(small, evaluator=evaluate))
    assert (ending.state, len(store.trials(job_id))) == (JobState.SUCCEEDED, 3)
    assert ending.reason == "nothing new is left to propose after 3 trials"


def test_an_evaluator_that_never_works_fails_the_job_with_its_reason(store: Any) -> None:
    def broken(arch: Architecture) -> dict[str, float]:
        raise RuntimeError("no such file")

    job_id = store.submit(spec("random")).id
    ending = run(store.claim(job_id), "inline", study=study_of(spec("random"), evaluator=broken))
    assert ending.state is JobState.FAILED
    assert "10 trials failed; the last, trial 9: RuntimeError: no such file" in str(ending.reason)
    assert all(t.state is TrialState.FAILED for t in store.trials(job_id))


@pytest.mark.parametrize(("request_", "ends"), [("cancel", JobState.CANCELLED), ("pause", JobState.PAUSED)])
def test_a_request_stops_a_running_search(store: Any, request_: Any, ends: JobState) -> None:
    long = spec("random", trials=5000)
    job_id = store.submit(long).id

    def slow(arch: Architecture) -> dict[str, float]:
        if len(store.trials(job_id)) == 3:
            store.request(job_id, request_)
        time.sleep(0.05)
        return {"accuracy": 0.5}

    run(store.claim(job_id), "inline", study=study_of(long, evaluator=slow))
    assert store.job(job_id).state is ends
    states = {t.state for t in store.trials(job_id)}
    assert states <= {TrialState.SUCCEEDED, TrialState.CANCELLED, TrialState.PENDING}
    assert len(store.trials(job_id)) < 200


def test_an_interrupt_leaves_the_job_paused_and_it_goes_on(store: Any) -> None:
    def interrupted(arch: Architecture) -> dict[str, float]:
        if len(store.trials(job_id)) == 5:
            raise KeyboardInterrupt
        return evaluate(arch)

    job_id = store.submit(spec("random")).id
    with pytest.raises(KeyboardInterrupt):
        run(store.claim(job_id), "inline", study=study_of(spec("random"), evaluator=interrupted))
    assert store.job(job_id).state is JobState.PAUSED
    run(store.claim(job_id), "inline", study=study_of(spec("random"), evaluator=evaluate))
    assert [t.attempt for t in store.trials(job_id)] == [1] * 24
    assert store.job(job_id).state is JobState.SUCCEEDED


def test_a_runner_that_lost_its_lease_is_refused(store: Any) -> None:
    job_id = store.submit(spec("random")).id
    slow_runner = store.claim(job_id)
    time.sleep(2 * LEASE_SECONDS)
    claimed(store, job_id)
    with pytest.raises(LeaseLost):
        run(slow_runner, "inline", study=study_of(spec("random"), evaluator=evaluate))
    assert store.trials(job_id) == []


# One write for both: what was measured is written before anything that takes its time


class Watched:
    """A searcher that passes everything on; `before` is called before each question but the first."""

    def __init__(self, searcher: Any, before: Callable[[], None]) -> None:
        self._searcher, self._before, self._asked = searcher, before, 0

    def ask(self, n: int) -> Any:
        self._asked += 1
        if self._asked > 1:
            self._before()
        return self._searcher.ask(n)

    def tell(self, trials: Any) -> None:
        self._searcher.tell(trials)


def watched(document: JobSpec, before: Callable[[], None], evaluator: Any = evaluate) -> Any:
    study = study_of(document, evaluator=evaluator)
    return replace(study, searcher=Watched(study.searcher, before))


def test_brief_evaluations_are_closed_by_the_write_that_opens_the_next(store: Any, brief: float) -> None:
    document = spec("random", trials=5, initial=[])
    job_id = store.submit(document).id
    counts: list[Any] = []

    def look() -> None:
        counts.append({state: n for state, n in store.job(job_id).counts.items() if n})

    run(store.claim(job_id), "inline", study=watched(document, look))
    left = {TrialState.RUNNING: 1} if brief else {}
    done = [{TrialState.SUCCEEDED: n} if n else {} for n in range(5)]
    want = [{**done[n], **left} if brief else done[n + 1] for n in range(4)]
    assert counts[:4] == want


def test_a_searcher_that_fails_costs_nothing_that_was_measured(store: Any, brief: float) -> None:
    document = spec("random", trials=5, initial=[])
    job_id = store.submit(document).id

    def broken() -> None:
        raise ArithmeticError("no such number")

    with capture_logs():
        ending = run(store.claim(job_id), "inline", study=watched(document, broken))
    assert ending.reason == "internal error: ArithmeticError: no such number"
    assert [t.state for t in store.trials(job_id)] == [TrialState.SUCCEEDED]


def test_a_job_that_is_over_while_the_searcher_thinks_opens_nothing_more(store: Any, brief: float) -> None:
    document = spec("random", trials=5, initial=[])
    document = document.model_copy(update={"budget": document.budget.model_copy(update={"max_duration": 0.3})})
    job_id = store.submit(document).id
    ending = run(store.claim(job_id), "inline", study=watched(document, lambda: time.sleep(0.4)))
    assert ending.reason == "max_duration of 0.3 s is spent"
    assert TrialState.CANCELLED not in {t.state for t in store.trials(job_id)}


@pytest.mark.parametrize(("to_answer", "to_measure"), [(1.1, 0.0), (0.0, 1.1)])
def test_where_searcher_or_evaluator_takes_its_time_an_outcome_is_written_by_itself(
    store: Any, to_answer: float, to_measure: float
) -> None:
    document = spec("random", trials=4, initial=[])
    job_id = store.submit(document).id
    running = []

    def look() -> None:
        running.append(store.job(job_id).counts.get(TrialState.RUNNING, 0))
        time.sleep(loop.BRIEF * to_answer)

    def measured(arch: Architecture) -> dict[str, float]:
        time.sleep(loop.BRIEF * to_measure)
        return evaluate(arch)

    run(store.claim(job_id), "inline", study=watched(document, look, measured))
    assert running[1:] == [0] * len(running[1:])
    assert len(running) >= 3
