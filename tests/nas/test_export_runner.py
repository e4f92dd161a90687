"""Runners and the exports that were asked for over HTTP: what they leave, hand back, and outlast."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from nas.artifacts import Artifacts
from nas.contracts import LeaseLost
from nas.deploy.checkpoint import trial_checkpoint
from nas.deploy.export import MODEL
from nas.executors import session
from nas.executors.slots import Slots
from nas.export_runner import ExportRunner
from nas.exports import Export, ExportSpec, ExportState
from nas.job import JobSpec, JobState
from nas.stopping import Stop
from nas.storage import DatabaseError
from nas.storage.memory import MemoryStore
from nas.trial import Measured, Proposal
from search_spaces.load import space_of
from tests.documents import DIGITS
from tests.waiting import until


@pytest.fixture
def files(tmp_path: Path) -> Artifacts:
    return Artifacts(f"file:{tmp_path}")


def runner(store: Any, files: Artifacts, stop: Stop | None = None) -> ExportRunner:
    return ExportRunner(store, files, "inline", stop or Stop())


def asked(store: Any, **changes: Any) -> Export:
    (job,) = store.jobs()
    made: Export = store.exports.add(ExportSpec.parse({"job": job.id, "trial": 0, **changes}))
    return made


class Meddled:
    """A store where something happens whenever a runner reads the trial that it exports."""

    def __init__(self, store: Any, meddle: Callable[[], object]) -> None:
        self._store, self._meddle = store, meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def trials(self, *arguments: Any, **options: Any) -> Any:
        self._meddle()
        return self._store.trials(*arguments, **options)


class Cut:
    """A store whose exports meet an outage of the database where their end is written: before or after it is."""

    def __init__(self, store: Any, before: int = 0, after: int = 0, meanwhile: Callable[[], object] = int) -> None:
        self._store, self.exports = store, self
        self._before, self._after, self._meanwhile = before, after, meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store.exports if hasattr(self._store.exports, name) else self._store, name)

    def settle(self, export: Export) -> None:
        if self._before:
            self._before -= 1
            self._meanwhile()
            raise DatabaseError("the server closed the connection")
        self._store.exports.settle(export)
        if self._after:
            self._after -= 1
            raise DatabaseError("the server closed the connection")


def test_a_runner_says_why_there_is_no_file(searched: MemoryStore, files: Artifacts) -> None:
    (job,) = searched.jobs()
    files.put(job.id, trial_checkpoint(0), b"no weights at all")
    made, gone = asked(searched, weights="checkpoint"), asked(searched, weights="final")
    exporter = runner(searched, files)
    assert exporter.turn()
    assert exporter.turn()
    reasons = [searched.exports.export(e.id).reason or "" for e in (made, gone)]
    assert "the weights of trial 0: it cannot be read" in reasons[0]
    assert "there are no final weights" in reasons[1]
    assert files.list(job.id) == [trial_checkpoint(0)]


class Forgetful:
    """A store of which the exports are lost to another runner once they were claimed."""

    def __init__(self, store: Any) -> None:
        self._store, self.exports = store, self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def claim(self) -> Any:
        return self._store.exports.claim()

    def renew(self, export: Any) -> None:
        raise LeaseLost("gone")

    def settle(self, export: Any) -> None:
        raise LeaseLost("gone")


def test_what_another_runner_took_over_leaves_no_files(searched: MemoryStore, files: Artifacts) -> None:
    (job,) = searched.jobs()
    asked(searched)
    assert runner(Forgetful(searched), files).turn()
    assert files.list(job.id) == [trial_checkpoint(0)]


def test_a_job_deleted_meanwhile_leaves_no_files(files: Artifacts) -> None:
    store = MemoryStore()
    job_id = store.submit(JobSpec.parse(DIGITS), queued=False).id
    store.exports.add(ExportSpec.parse({"job": job_id, "trial": 0}))
    claimed = store.exports.claim
    store.exports.claim = lambda: (claimed(), files.put(job_id, "a", b"x"), store.delete(job_id))[0]  # type: ignore[method-assign]
    assert runner(store, files).turn()
    assert files.list(job_id) == []


def test_a_runner_that_is_asked_to_stop_stops(searched: MemoryStore, files: Artifacts) -> None:
    stop = Stop()
    exporter = runner(searched, files, stop)
    exporter.start()
    stop.ask()
    exporter.leave()


def test_what_is_under_way_when_a_runner_must_end_is_handed_back(searched: MemoryStore, files: Artifacts) -> None:
    made, stop = asked(searched), Stop(seconds=0)

    def end() -> None:
        files.put(made.spec.job, f"exports/{made.id}-1/0/{MODEL}", b"half a")
        stop.ask()

    assert runner(Meddled(searched, end), files, stop).turn()
    found = searched.exports.export(made.id)
    assert (found.state, found.attempt, found.handed_back) == (ExportState.QUEUED, 1, 1)
    assert files.list(made.spec.job) == []
    assert runner(searched, files).turn()
    found = searched.exports.export(made.id)
    assert (found.state, found.attempt) == (ExportState.SUCCEEDED, 2)
    assert f"{found.folder}/0/{MODEL}" in files.list(made.spec.job)


def test_what_hangs_in_the_process_of_a_runner_is_handed_back_too(searched: MemoryStore, files: Artifacts) -> None:
    made, stop, hangs, freed = asked(searched), Stop(seconds=0), threading.Event(), threading.Event()

    def hang() -> None:
        files.put(made.spec.job, f"exports/{made.id}-1/0/{MODEL}", b"half a")
        hangs.set()
        freed.wait(60)

    exporter = runner(Meddled(searched, hang), files, stop)
    exporter.start()
    assert hangs.wait(60)
    stop.ask()
    exporter.leave()
    assert searched.exports.export(made.id).state is ExportState.QUEUED
    assert files.list(made.spec.job) == []
    freed.set()
    searched.exports.cancel(made.id)


def test_a_cancelled_export_leaves_no_files(searched: MemoryStore, files: Artifacts) -> None:
    made = asked(searched)
    assert runner(Meddled(searched, lambda: searched.exports.cancel(made.id)), files).turn()
    assert searched.exports.export(made.id).state is ExportState.CANCELLED
    assert [name for name in files.list(made.spec.job) if name.startswith("exports/")] == []


@pytest.mark.parametrize("when", [{"before": 3}, {"after": 1}, {"before": 1, "after": 1}], ids=str)
def test_an_outage_at_the_end_costs_no_export(
    searched: MemoryStore, files: Artifacts, when: dict[str, int]
) -> None:
    made = asked(searched)
    assert runner(Cut(searched, **when), files).turn()
    found = searched.exports.export(made.id)
    assert (found.state, found.attempt) == (ExportState.SUCCEEDED, 1)
    assert f"{found.folder}/0/{MODEL}" in files.list(made.spec.job)
    assert searched.exports.claim() is None


def test_one_that_was_lost_in_an_outage_leaves_no_files(searched: MemoryStore, files: Artifacts) -> None:
    made = asked(searched)
    lost = Cut(searched, before=1, meanwhile=lambda: searched.exports.cancel(made.id))
    assert runner(lost, files).turn()
    assert [name for name in files.list(made.spec.job) if name.startswith("exports/")] == []


def test_an_outage_outlasts_no_runner_that_must_end(searched: MemoryStore, files: Artifacts) -> None:
    made, stop = asked(searched), Stop(seconds=0)
    with pytest.raises(DatabaseError):
        runner(Cut(searched, before=100, meanwhile=stop.ask), files, stop).turn()
    assert searched.exports.export(made.id).state is ExportState.RUNNING
    searched.exports.cancel(made.id)


def test_whoever_takes_an_export_over_deletes_what_a_dead_runner_left(files: Artifacts) -> None:
    store = MemoryStore(lease_seconds=0)
    lease = store.claim(store.submit(JobSpec.parse(DIGITS)).id)
    assert lease is not None
    lease.open([Proposal(a) for a in space_of(lease.renew().spec.space).sample(1, 0)])
    lease.release(JobState.PAUSED)
    asked(store)
    dead = store.exports.claim()
    assert dead is not None
    files.put(dead.spec.job, f"{dead.folder}/0/{MODEL}", b"half a")
    assert runner(store, files).turn()
    assert files.list(dead.spec.job) == []


ENDLESS = {**DIGITS, "evaluator": {"kind": "training", "epochs": 1_000_000}}


def endless(**budget: Any) -> tuple[MemoryStore, Export]:
    """An export whose training does not end."""
    store = MemoryStore()
    spec = JobSpec.parse({**ENDLESS, "budget": {"max_trial_count": 1, **budget}})
    lease = store.claim(store.submit(spec).id)
    assert lease is not None
    (architecture,) = space_of(spec.space).sample(1, 0)
    lease.open([Proposal(architecture)])
    lease.close([(0, Measured({"accuracy": 0.5}))])
    lease.release(JobState.PAUSED)
    return store, asked(store)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slots]:
    with session("ray", 1) as slots:
        assert slots is not None
        yield slots


def evaluating() -> bool:
    """Whether a worker has a process that evaluates."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if any(part.endswith("child_main.py") for part in process.cmdline()):
                return True
    return False


@pytest.mark.parametrize("end", ["cancelled", "deleted", "handed back"])
def test_a_worker_is_stopped_when_its_export_is(cluster: Slots, files: Artifacts, end: str) -> None:
    store, made = endless()
    stop = Stop(seconds=0)
    exporter = ExportRunner(store, files, "ray", stop, cluster)
    thread = threading.Thread(target=exporter.turn)
    thread.start()
    until(evaluating)
    {
        "cancelled": lambda: store.exports.cancel(made.id),
        "deleted": lambda: store.delete(made.spec.job),
        "handed back": stop.ask,
    }[end]()
    thread.join(60)
    assert not thread.is_alive()
    until(lambda: not evaluating())
    assert files.list(made.spec.job) == []
    if end == "handed back":
        assert store.exports.export(made.id).state is ExportState.QUEUED


def test_an_export_has_limits(cluster: Slots, files: Artifacts) -> None:
    store, made = endless()
    assert ExportRunner(store, files, "ray", Stop(), cluster, seconds=1.0).turn()
    assert store.exports.export(made.id).reason == "took longer than 1 s"
    store, made = endless(max_trial_memory=1e6)
    assert ExportRunner(store, files, "ray", Stop(), cluster).turn()
    assert store.exports.export(made.id).reason == "used more than 1 MB of memory"
