"""Whatever is done to a store in memory and to one in SQLite, in whatever order, they answer alike."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from stored import BEGUN, PROPOSALS, SPEC

from nas.contracts import JobFilter
from nas.job import Job, JobSpec, JobState
from nas.storage import open_store
from nas.storage.memory import MemoryStore
from nas.storage.sql import SqlStore
from nas.trial import Broken, BrokenKind, Measured, Trial

NUMBERS = st.integers(-1, 6)
OUTCOMES = st.one_of(
    st.builds(
        lambda accuracy, params: Measured({"accuracy": accuracy, "params": params}),
        st.floats(0, 1),
        st.floats(0, 2e6),
    ),
    st.just(Measured({})),
    st.builds(Broken, st.sampled_from(BrokenKind), st.text(st.characters(), max_size=9)),
)


@cache
def empty_database() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        open_store(f"sqlite:///{path}").close()
        return path.read_bytes()


def timeless(value: Any) -> Any:
    """The value without what differs between two stores: times, and ids of jobs."""
    if isinstance(value, Trial):
        return replace(value, created_at=0.0, finished_at=None if value.finished_at is None else 0.0)
    if isinstance(value, Job):
        started, finished = value.started_at is None, value.finished_at is None
        return (value.spec, value.revision, value.state, value.reason, dict(value.counts), started, finished)
    if isinstance(value, list | tuple):
        return [timeless(v) for v in value]
    return value


def answer(ask: Callable[[], Any]) -> Any:
    try:
        return timeless(ask())
    except Exception as error:
        return type(error)


class StoresAgree(RuleBasedStateMachine):
    jobs = Bundle("jobs")
    leases = Bundle("leases")

    @initialize(seconds=st.sampled_from([0.0, 0.0, 60.0]))
    def begin(self, seconds: float) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "nas.db"
        path.write_bytes(empty_database())
        self.memory = MemoryStore(lease_seconds=seconds)
        self.sql = SqlStore(f"sqlite:///{path}", lease_seconds=seconds)
        self.pairs: list[tuple[str, str]] = []

    def teardown(self) -> None:
        self.sql.close()
        self.folder.cleanup()

    def both(self, memory: Callable[[], Any], sql: Callable[[], Any]) -> None:
        assert answer(memory) == answer(sql)

    @rule(target=jobs, queued=st.booleans(), begun=st.sampled_from([[], BEGUN[:2], BEGUN]))
    def submit(self, queued: bool, begun: Any) -> Any:
        one, two = (store.submit(SPEC, queued=queued, trials=begun) for store in (self.memory, self.sql))
        assert timeless(one) == timeless(two)
        pair = (one.id, two.id)
        self.pairs.append(pair)
        return pair

    @rule(job=jobs, request=st.sampled_from(["cancel", "pause", "resume"]))
    def request(self, job: Any, request: Any) -> None:
        self.both(lambda: self.memory.request(job[0], request), lambda: self.sql.request(job[1], request))

    @rule(target=leases, job=st.none() | jobs)
    def claim(self, job: Any) -> Any:
        one = self.memory.claim(job and job[0])
        two = self.sql.claim(job and job[1])
        assert (one is None) == (two is None)
        if one is None or two is None:
            return multiple()
        assert (one.renew().id, two.renew().id) in self.pairs
        return one, two

    @rule(
        lease=leases,
        new=st.lists(st.sampled_from(PROPOSALS[:9]), max_size=3),
        again=st.lists(NUMBERS, max_size=2),
    )
    def open(self, lease: Any, new: Any, again: Any) -> None:
        known = {t.number: t for t in lease[0].trials()}
        work = [*new, *(known[n] for n in again if n in known)]
        self.both(lambda: lease[0].open(work), lambda: lease[1].open(work))

    @rule(lease=leases)
    def open_what_waits(self, lease: Any) -> None:
        waiting = [t for t in lease[0].trials() if t.state == "PENDING"]
        self.both(lambda: lease[0].open(waiting), lambda: lease[1].open(waiting))

    @rule(lease=leases, outcomes=st.lists(st.tuples(NUMBERS, OUTCOMES), max_size=2))
    def close(self, lease: Any, outcomes: Any) -> None:
        self.both(lambda: lease[0].close(outcomes), lambda: lease[1].close(outcomes))

    @rule(
        lease=leases,
        outcomes=st.lists(OUTCOMES, min_size=1, max_size=3),
        new=st.lists(st.sampled_from(PROPOSALS[:9]), max_size=3),
    )
    def close_what_runs(self, lease: Any, outcomes: Any, new: Any) -> None:
        numbers = [t.number for t in lease[0].trials() if t.state == "RUNNING"]
        running = list(zip(numbers, cycle(outcomes), strict=False))
        self.both(lambda: lease[0].preview(running), lambda: lease[1].preview(running))
        self.both(lambda: lease[0].close(running, new), lambda: lease[1].close(running, new))

    @rule(
        lease=leases,
        state=st.sampled_from(JobState),
        reason=st.none() | st.text(max_size=5),
        revision=st.none() | st.integers(0, 2),
    )
    def release(self, lease: Any, state: JobState, reason: str | None, revision: int | None) -> None:
        one, two = (partial(held.release, state, reason, revision) for held in lease)
        self.both(one, two)

    @rule(job=jobs, name=st.sampled_from("ab"))
    def edit(self, job: Any, name: str) -> None:
        def change(before: Job) -> JobSpec:
            return before.spec.model_copy(update={"name": name})

        self.both(lambda: self.memory.edit(job[0], change), lambda: self.sql.edit(job[1], change))

    @rule(lease=leases)
    def renew(self, lease: Any) -> None:
        self.both(lease[0].renew, lease[1].renew)

    @rule(
        states=st.lists(st.sampled_from(JobState), max_size=3),
        limit=st.integers(0, 4),
        after=st.none() | jobs,
    )
    def listing(self, states: Any, limit: int, after: Any) -> None:
        one = self.memory.jobs(JobFilter(tuple(states)), after and after[0], limit)
        two = self.sql.jobs(JobFilter(tuple(states)), after and after[1], limit)
        assert timeless(one) == timeless(two)
        assert all((a.id, b.id) in self.pairs for a, b in zip(one, two, strict=True))

    @invariant()
    def all_is_alike(self) -> None:
        for one, two in getattr(self, "pairs", []):
            job, trials = self.memory.job(one), self.memory.trials(one)
            assert timeless(job) == timeless(self.sql.job(two))
            assert timeless(trials) == timeless(self.sql.trials(two))
            self.lawful(job, trials)

    @staticmethod
    def lawful(job: Job, trials: Any) -> None:
        assert [t.number for t in trials] == list(range(len(trials)))
        orders = sorted(t.order for t in trials if t.order is not None)
        assert orders == list(range(len(orders)))
        assert sum(job.counts.values()) == len(trials)
        if job.state.over:
            assert not any(t.state.open for t in trials)
        if not job.state.held:
            assert not any(t.state == "RUNNING" for t in trials)


TestStoresAgree = StoresAgree.TestCase
TestStoresAgree.settings = settings(max_examples=40, stateful_step_count=30)
