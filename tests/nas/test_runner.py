"""The runner: several jobs side by side, stopped in order, edited meanwhile, and with a database that is away."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import create_engine, exc, make_url, text
from structlog.testing import capture_logs

from nas import executors, loop, runner
from nas.contracts import LeaseLost, WorkersAway
from nas.executors import ExecutorKind
from nas.job import JobSpec, JobState
from nas.journal import Journal
from nas.local import drive, study_of, submit
from nas.metrics import MeteredJournal, pages, watch
from nas.outages import EnduringLease, Unwritable, when_there
from nas.runner import Stop, run, serve
from nas.storage import DatabaseError, DatabaseOutOfDate, open_store
from nas.storage.memory import MemoryStore
from nas.trial import TrialState
from search_spaces import Architecture

HERE = "test_runner"
GATES: dict[str, threading.Event] = {}
"""What evaluations of this process wait for, by the name of their job's function."""


def evaluate(arch: Architecture) -> dict[str, float]:
    return {"accuracy": int(arch.key[:4], 16) / 1e5}


def gated(arch: Architecture) -> dict[str, float]:
    assert GATES["gated"].wait(60)
    return evaluate(arch)


def unhurried(arch: Architecture) -> dict[str, float]:
    time.sleep(0.02)
    return evaluate(arch)


def broken(arch: Architecture) -> dict[str, float]:
    raise RuntimeError("no such file")


def spec(function: str = "evaluate", trials: int = 12, parallel: int = 1, **more: Any) -> JobSpec:
    return JobSpec.parse(
        {
            "space": "nas-bench-201",
            "objectives": ["max accuracy", "min params"],
            "searcher": {"kind": "regularized_evolution", "population": 4},
            "evaluator": {"kind": "callable", "function": f"{HERE}:{function}"},
            "budget": {"max_trial_count": trials, "parallel_trial_count": parallel},
            **more,
        }
    )


def until(ready: Callable[[], Any], seconds: float = 40) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def history(store: Any, job_id: str) -> list[Any]:
    return [(t.number, t.architecture.key, t.state, dict(t.metrics), t.order) for t in store.trials(job_id)]


def calm(document: JobSpec) -> list[Any]:
    """The trials of an undisturbed run."""
    store = MemoryStore()
    job_id = store.submit(document).id
    run(store.claim(job_id), "inline")
    return history(store, job_id)


@pytest.fixture(autouse=True)
def gates() -> Iterator[None]:
    GATES["gated"] = threading.Event()
    yield
    GATES["gated"].set()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    opened = open_store(None if request.param == "memory" else f"sqlite:///{tmp_path}/nas.db", lease_seconds=20)
    yield opened
    opened.close()


@contextmanager
def serving(
    store: Any, stop: Stop, executor: ExecutorKind = "inline", **options: Any
) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=serve, args=(store, executor, stop), kwargs=options, daemon=True)
    thread.start()
    try:
        yield thread
    finally:
        stop.ask()
        stop.ask()
        thread.join(30)
        assert not thread.is_alive()


# Several jobs at once


def test_jobs_run_side_by_side_and_none_touches_another(store: Any) -> None:
    slow = [store.submit(spec("gated")).id for _ in range(2)]
    bad, good = store.submit(spec("broken")).id, store.submit(spec()).id
    with serving(store, Stop(), jobs=4):
        until(lambda: store.job(good).state.over and store.job(bad).state.over)
        assert [store.job(j).state for j in slow] == [JobState.RUNNING] * 2
        GATES["gated"].set()
        until(lambda: all(store.job(j).state.over for j in slow))
    assert [store.job(j).state for j in (*slow, bad, good)] == [JobState.SUCCEEDED] * 2 + [
        JobState.FAILED,
        JobState.SUCCEEDED,
    ]
    assert history(store, good) == calm(spec())


def test_a_runner_takes_no_more_jobs_than_it_may(store: Any) -> None:
    jobs = [store.submit(spec("gated", trials=1)).id for _ in range(3)]

    def held() -> list[str]:
        return [j for j in jobs if store.job(j).state is JobState.RUNNING]

    with serving(store, Stop(), jobs=2):
        until(lambda: len(held()) == 2)
        assert store.job(jobs[2]).state is JobState.QUEUED
        GATES["gated"].set()
        until(lambda: all(store.job(j).state is JobState.SUCCEEDED for j in jobs))


def test_a_lost_lease_ends_its_job_alone(store: Any) -> None:
    registry = CollectorRegistry()
    taken = store.submit(spec("gated", trials=3)).id
    with serving(store, Stop(), jobs=2, journal=MeteredJournal(registry)), capture_logs():
        until(lambda: store.job(taken).counts.get(TrialState.RUNNING))
        take_away(store, taken)
        other = store.submit(spec()).id
        until(lambda: store.job(other).state is JobState.SUCCEEDED)
        GATES["gated"].set()
        until(lambda: registry.get_sample_value("nas_leases_lost_total") == 1)
    assert store.job(taken).state is JobState.RUNNING
    assert not store.job(taken).counts.get(TrialState.SUCCEEDED)


def take_away(store: Any, job_id: str) -> None:
    """Have another runner claim the job although its lease is good."""
    if isinstance(store, MemoryStore):
        store._records[job_id].lease_expires_at = 0.0
    else:
        with store.database.writing() as connection:
            connection.execute(text("UPDATE jobs SET lease_expires_at = 0 WHERE id = :id"), {"id": job_id})
    assert store.claim(job_id) is not None


# Stopped


def test_a_stop_lets_running_evaluations_finish_and_hands_the_rest_back(store: Any) -> None:
    job_id = store.submit(spec("gated", parallel=3)).id
    stop = Stop(30)
    with serving(store, stop, jobs=2) as runner:
        until(lambda: store.job(job_id).counts.get(TrialState.RUNNING) == 3)
        stop.ask()
        GATES["gated"].set()
        runner.join(30)
        assert not runner.is_alive()
    assert store.job(job_id).state is JobState.QUEUED
    assert [t.state for t in store.trials(job_id)] == [TrialState.SUCCEEDED] * 3
    run(store.claim(job_id), "inline")
    assert [t.attempt for t in store.trials(job_id)] == [1] * 12


def test_a_second_stop_hands_back_at_once_without_a_counted_attempt(store: Any) -> None:
    jobs = [store.submit(spec("gated", parallel=2)).id for _ in range(2)]
    stop = Stop(3600)
    with serving(store, stop, jobs=2) as runner:
        until(lambda: all(store.job(j).counts.get(TrialState.RUNNING) == 2 for j in jobs))
        stop.ask()
        stop.ask()
        runner.join(30)
        assert not runner.is_alive()
    for job_id in jobs:
        assert store.job(job_id).state is JobState.QUEUED
        assert [(t.state, t.attempt) for t in store.trials(job_id)] == [(TrialState.PENDING, 1)] * 2
    GATES["gated"].set()
    run(store.claim(jobs[0]), "inline")
    assert [h[:2] for h in history(store, jobs[0])][:2] == [h[:2] for h in calm(spec(parallel=2))][:2]


def test_a_stopping_runner_claims_nothing(store: Any) -> None:
    job_id = store.submit(spec()).id
    stop = Stop()
    stop.ask()
    with serving(store, stop):
        pass
    assert store.job(job_id).state is JobState.QUEUED


# Edited


def test_a_budget_that_is_raised_while_the_job_runs_is_spent(store: Any) -> None:
    job_id = store.submit(spec("gated", trials=3)).id
    with serving(store, Stop()):
        until(lambda: store.job(job_id).counts.get(TrialState.RUNNING))
        edit(store, job_id, max_trial_count=20, parallel_trial_count=4)
        GATES["gated"].set()
        until(lambda: store.job(job_id).state.over)
    assert store.job(job_id).state is JobState.SUCCEEDED
    assert [t.state for t in store.trials(job_id)] == [TrialState.SUCCEEDED] * 20


def test_a_budget_that_is_lowered_ends_the_job(store: Any) -> None:
    job_id = store.submit(spec("unhurried", trials=100_000)).id
    with serving(store, Stop()):
        until(lambda: store.job(job_id).counts.get(TrialState.SUCCEEDED, 0) >= 2)
        edit(store, job_id, max_duration=0.5)
        until(lambda: store.job(job_id).state.over)
    assert store.job(job_id).state is JobState.SUCCEEDED
    assert str(store.job(job_id).reason) == "max_duration of 0.5 s is spent"


def edit(store: Any, job_id: str, **budget: Any) -> None:
    def change(job: Any) -> JobSpec:
        return JobSpec.parse({**job.spec.dump(), "budget": {**job.spec.dump()["budget"], **budget}})

    store.edit(job_id, change)


class EditedAtTheEnd:
    """A queue whose leases are given back, for the first time, just after an edit that the holder did not see."""

    def __init__(self, store: Any, edit: Callable[[], None]) -> None:
        self._store, self._edit = store, edit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def claim(self, job_id: str | None = None) -> Any:
        lease, edit = self._store.claim(job_id), self._edit
        if lease is not None:
            release = lease.release

            def late(*how: Any) -> JobState:
                if lease.release is late:
                    lease.release = release
                    edit()
                return release(*how)

            lease.release = late
        return lease


def test_a_budget_that_is_raised_at_the_last_moment_is_spent(store: Any) -> None:
    job_id = store.submit(spec(trials=3)).id
    edited = EditedAtTheEnd(store, lambda: edit(store, job_id, max_trial_count=12))
    with capture_logs() as lines, serving(edited, Stop()):
        until(lambda: store.job(job_id).state.over)
    released = [line["state"] for line in lines if line["event"] == "job released"]
    assert released == ["SUCCEEDED"]
    assert (store.job(job_id).state, store.job(job_id).reason) == (JobState.SUCCEEDED, None)
    assert history(store, job_id) == calm(spec())


def test_failures_that_are_allowed_at_the_last_moment_are_not_too_many(store: Any) -> None:
    document = spec("broken", trials=3)
    document = document.model_copy(
        update={"budget": document.budget.model_copy(update={"max_failed_trial_count": 2})}
    )
    job_id = store.submit(document).id
    edited = EditedAtTheEnd(store, lambda: edit(store, job_id, max_failed_trial_count=3))
    with serving(edited, Stop()):
        until(lambda: store.job(job_id).state.over)
    assert str(store.job(job_id).reason).startswith("3 trials failed; the last, trial 2: RuntimeError")


def test_a_local_search_goes_on_by_what_it_was_edited_to_at_the_last_moment(store: Any) -> None:
    document = spec(trials=3)
    study = study_of(document)
    job_id = submit(store, study)
    edited = EditedAtTheEnd(store, lambda: edit(store, job_id, max_trial_count=12))
    result = drive(edited, study, job_id, "inline")  # type: ignore[arg-type]
    assert result.state is JobState.SUCCEEDED
    assert history(store, job_id) == calm(spec())


def test_a_local_search_that_is_edited_and_paused_at_the_last_moment_is_paused(store: Any) -> None:
    document = spec(trials=3)
    study = study_of(document)
    job_id = submit(store, study)

    def edit_and_pause() -> None:
        edit(store, job_id, max_trial_count=12)
        store.request(job_id, "pause")

    result = drive(EditedAtTheEnd(store, edit_and_pause), study, job_id, "inline")  # type: ignore[arg-type]
    assert result.state is JobState.PAUSED
    assert len(store.trials(job_id)) == 3


# A database that is away


class Flaky:
    """A lease whose every write meets an outage, before it takes place or after; the next call finds all well."""

    def __init__(self, lease: Any, *, after: bool) -> None:
        self._lease, self._after = lease, after
        self._failed: set[Any] = set()
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lease, name)

    def _write(self, write: Callable[[], Any]) -> Any:
        self._count += 1
        if self._count % 2:
            if self._after:
                write()
            raise DatabaseError("the server closed the connection")
        return write()

    def open(self, work: Sequence[Any]) -> Any:
        return self._write(lambda: self._lease.open(work))

    def close(self, outcomes: Sequence[Any], *then: Any) -> Any:
        return self._write(lambda: self._lease.close(outcomes, *then))

    def release(self, *how: Any) -> Any:
        return self._write(lambda: self._lease.release(*how))


@pytest.mark.law
@pytest.mark.parametrize("brief", [0.0, 60.0], ids=["one-write-each", "one-write-for-both"])
@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("after", [False, True])
def test_every_write_may_meet_an_outage_and_nothing_is_lost_or_written_twice(
    store: Any, after: bool, parallel: int, brief: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BRIEF", brief)
    document = spec(parallel=parallel)
    job_id = store.submit(document).id
    ending = run(Flaky(store.claim(job_id), after=after), "inline")
    assert ending.state is store.job(job_id).state is JobState.SUCCEEDED
    trials = store.trials(job_id)
    assert [t.number for t in trials] == list(range(12))
    assert sorted(t.order for t in trials) == list(range(12))
    assert [t.attempt for t in trials] == [1] * 12
    if parallel == 1:
        assert history(store, job_id) == calm(document)


class CutAfterCommit:
    """A database whose transactions take place, and every third of which ends in an error for all that."""

    def __init__(self, database: Any) -> None:
        self._database, self._count, self.cut = database, 0, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @contextmanager
    def writing(self) -> Iterator[Any]:
        with self._database.writing() as connection:
            yield connection
        self._count += 1
        if self.cut and self._count % 3 == 0:
            raise DatabaseError("the server closed the connection")


@pytest.mark.law
def test_a_commit_whose_answer_was_lost_is_neither_repeated_nor_forgotten(database: str) -> None:
    store = open_store(database)
    job_id = store.submit(spec(trials=30)).id
    cut = store.database = CutAfterCommit(store.database)  # type: ignore[union-attr, assignment]
    lease = store.claim(job_id)
    cut.cut = True
    assert run(lease, "inline").state is JobState.SUCCEEDED  # type: ignore[arg-type]
    cut.cut = False
    assert history(store, job_id) == calm(spec(trials=30))
    counts = store.job(job_id).counts
    assert {state: n for state, n in counts.items() if n} == {TrialState.SUCCEEDED: 30}
    store.close()


def test_a_search_outlasts_a_database_that_is_away_with_its_evaluations(database: str) -> None:
    store: Any = open_store(database, lease_seconds=60)
    job_id = store.submit(spec("gated", parallel=2)).id
    registry = CollectorRegistry()
    journal = MeteredJournal(registry)
    with capture_logs() as lines, serving(store, Stop(), journal=journal):
        until(lambda: store.job(job_id).counts.get(TrialState.RUNNING) == 2)
        with away(store, database):
            GATES["gated"].set()
            until(lambda: (registry.get_sample_value("nas_database_failures_total") or 0) >= 2)
        until(lambda: store.job(job_id).state.over)
    assert store.job(job_id).state is JobState.SUCCEEDED
    assert [t.attempt for t in store.trials(job_id)] == [1] * 12
    told = [line["event"] for line in lines if line["event"].startswith("database")]
    assert told == ["database away", "database back"]
    store.close()


@contextmanager
def away(store: Any, url: str) -> Iterator[None]:
    """The database takes no connections, and has cut those that were; for SQLite, the file is nowhere."""
    if store.database.is_sqlite:
        engine, writer = store.database.engine, store.database._writer
        gone = create_engine("sqlite:////proc/nowhere/nas.db")
        store.database.engine = store.database._writer = gone
        try:
            yield
        finally:
            store.database.engine, store.database._writer = engine, writer
            gone.dispose()
        return
    name = make_url(url).database
    server = create_engine(
        make_url(os.environ["NAS_TEST_POSTGRES_URL"]).set(drivername="postgresql+psycopg"),
        isolation_level="AUTOCOMMIT",
    )
    with server.connect() as connection:
        connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'))
        cut = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
        connection.execute(cut, {"name": name})
        try:
            yield
        finally:
            connection.execute(text(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))
    server.dispose()


def test_patience_ends_with_the_stop_and_with_the_lease() -> None:
    store = MemoryStore(lease_seconds=0.0)
    lease = store.claim(store.submit(spec()).id)

    class Away:
        renewed = 0

        def renew(self) -> Any:
            self.renewed += 1
            if self.renewed < 3:
                raise DatabaseError("no answer")
            return lease.renew()  # type: ignore[union-attr]

    stop = Stop()
    stop.ask()
    with pytest.raises(DatabaseError, match="no answer"):
        EnduringLease(Away(), stop.hold_on).renew()  # type: ignore[arg-type]
    store.claim()
    away = Away()
    with pytest.raises(LeaseLost):
        EnduringLease(away, lambda seconds: False).renew()  # type: ignore[arg-type]
    assert away.renewed == 3


def test_what_the_database_refuses_fails_the_job_instead_of_being_tried_for_ever() -> None:
    store = MemoryStore()
    job_id = store.submit(spec()).id
    lease = store.claim(job_id)

    class Refusing(Flaky):
        def close(self, outcomes: Sequence[Any], *then: Any) -> Any:
            raise DatabaseError("out of range") from exc.DataError("", {}, ValueError("out of range"))

    with capture_logs():
        ending = run(Refusing(lease, after=False), "inline")
    assert ending.state is JobState.FAILED
    assert Unwritable.__name__ in str(ending.reason)


def test_a_runner_waits_for_its_database_unless_waiting_is_of_no_use() -> None:
    answers: list[Any] = [DatabaseError("starting up"), DatabaseError("starting up"), "store"]

    def opened() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, DatabaseError):
            raise answer from OSError()
        return answer

    def outdated() -> Any:
        raise DatabaseOutOfDate("run: nas db upgrade")

    with capture_logs() as lines:
        assert when_there(opened, Journal()) == "store"
        with pytest.raises(DatabaseOutOfDate):
            when_there(outdated, Journal())
    assert [line["event"] for line in lines] == ["database away", "database back"]


# What it says of itself


def test_a_runner_tells_and_counts_what_it_does(tmp_path: Path) -> None:
    store: Any = open_store(f"sqlite:///{tmp_path}/nas.db")
    registry = CollectorRegistry()
    watch(store.database, registry)
    journal = MeteredJournal(registry)
    good, bad = store.submit(spec()).id, store.submit(spec("broken")).id
    with capture_logs() as lines, serving(store, Stop(), jobs=2, journal=journal):
        until(lambda: all(store.job(j).state.over for j in (good, bad)))
        until(lambda: registry.get_sample_value("nas_runner_jobs") == 0)
    told = [line["event"] for line in lines]
    assert (told.count("job claimed"), told.count("job released")) == (2, 2)
    failed = [line for line in lines if line["event"] == "trial failed"]
    assert [line["trial"] for line in failed] == list(range(10))
    assert all("no such file" in line["reason"] for line in failed)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert value("nas_trials_total", state="SUCCEEDED") == 12
    assert value("nas_trials_total", state="FAILED") == 10
    assert value("nas_trial_duration_seconds_count", state="SUCCEEDED") == 12
    assert value("nas_jobs_released_total", state="FAILED") == 1
    assert (value("nas_database_seconds_count") or 0) > 40
    store.close()


def test_the_metrics_port_tells_whether_the_loop_turns_and_the_database_answers() -> None:
    registry = CollectorRegistry()
    journal = MeteredJournal(registry)
    application = pages(registry, journal)

    def status(path: str) -> str:
        seen: list[str] = []
        body = b"".join(application({"PATH_INFO": path, "REQUEST_METHOD": "GET"}, lambda s, h: seen.append(s)))
        assert body
        return seen[0][:3]

    assert [status(p) for p in ("/metrics", "/healthz", "/readyz", "/")] == ["200", "200", "200", "404"]
    journal._turned -= 1000
    assert (status("/healthz"), status("/readyz")) == ("503", "200")
    journal._answered -= 1000
    journal.turned()
    assert (status("/healthz"), status("/readyz")) == ("200", "503")


def test_a_cluster_that_is_away_costs_the_job_nothing(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    want, opened, falls = calm(spec()), executors.opened, iter([True, True, False])

    @contextmanager
    def falling(*given: Any) -> Iterator[Any]:
        with opened(*given) as executor:
            if next(falls):
                ask, calls = executor.outcomes, iter(range(9))

                def outcomes(timeout: float) -> Iterator[Any]:
                    if next(calls) == 2:
                        raise WorkersAway("gone")
                    return ask(timeout)

                monkeypatch.setattr(executor, "outcomes", outcomes)
            yield executor

    monkeypatch.setattr(runner, "opened", falling)
    monkeypatch.setattr(runner, "AWAY", 0.01)
    job_id = store.submit(spec()).id
    ending = run(store.claim(job_id), "inline")
    assert (ending.state, ending.reason) == (JobState.QUEUED, "gone")
    waiting = store.trials(job_id)[-1]
    assert (waiting.state, waiting.attempt, waiting.losses) == (TrialState.PENDING, 1, 0)
    with serving(store, Stop()):
        until(lambda: store.job(job_id).state.over)
    assert history(store, job_id) == want


def test_a_job_of_this_process_needs_no_runner(store: Any) -> None:
    job_id = store.submit(spec()).id
    run(store.claim(job_id), "inline", study=study_of(spec(), evaluator=evaluate))
    assert history(store, job_id) == calm(spec())
