"""Equal shares, as properties: whoever comes, goes and finishes, in whatever order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.executors import slots as slots_module
from nas.executors.slots import REST, TURN, Resources, Slots, Standing, move

pytestmark = pytest.mark.law

WANTS = st.lists(st.integers(0, 9), min_size=1, max_size=5)
CPUS = st.integers(1, 8)


def dealt(standings: list[Standing], cpus: int, count: int = 0) -> list[Standing]:
    """All that can start has started."""
    while (step := move(standings, cpus)) is not None:
        if step.ends is not None:
            assert standings[step.ends].idle
            standings[step.ends] = replace(standings[step.ends], idle=standings[step.ends].idle - 1)
        s, count = standings[step.starts], count + 1
        standings[step.starts] = replace(
            s, waiting=s.waiting - 1, running=s.running + 1, idle=s.idle - (s.idle > 0), served=count
        )
        assert sum(s.workers for s in standings) <= cpus
    return standings


@given(WANTS, CPUS)
def test_each_gets_the_same_unless_it_wants_less(wants: list[int], cpus: int) -> None:
    found = dealt([Standing(waiting=n, most=9) for n in wants], cpus)
    assert sum(s.running for s in found) == min(cpus, sum(wants))
    least = min((s.running for s in found if s.waiting), default=cpus)
    assert all(s.running <= least + 1 for s in found)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), CPUS, st.data())
def test_nobody_waits_for_ever(most: list[int], cpus: int, data: st.DataObject) -> None:
    """Jobs always want more, and of what runs, anything may end next: by then each has had its turn."""
    standings = dealt([Standing(waiting=10_000, most=m, held=TURN) for m in most], cpus)
    for count in range(20 * len(most)):
        ends = data.draw(st.sampled_from([i for i, s in enumerate(standings) if s.running]))
        s = standings[ends]
        standings[ends] = replace(s, running=s.running - 1, idle=s.idle + 1)
        standings = dealt(standings, cpus, 1000 * (count + 1))
    assert all(s.served for s in standings)


@given(st.integers(1, 4), st.integers(1, 4))
def test_a_job_that_thinks_for_a_moment_keeps_its_share(jobs: int, each: int) -> None:
    greedy = Standing(waiting=9, running=each, most=99)
    thinking = Standing(waiting=0, running=each - 1, idle=1, most=each, held=9 * TURN)
    assert move([thinking, *[greedy] * jobs], each * (jobs + 1)) is None
    found = move([replace(thinking, resting=REST), *[greedy] * jobs], each * (jobs + 1))
    assert found is not None
    assert found.ends == 0


@dataclass(eq=False)
class Job:
    """A job's side, which counts."""

    most: int
    waiting: int = 0
    running: int = 0
    idle: int = 0

    def standing(self, served: int) -> Standing:
        return Standing(self.waiting, self.running, self.idle, self.most, served, resting=REST)

    def start(self) -> None:
        self.waiting -= 1
        self.running += 1
        self.idle -= self.idle > 0

    def end_idle(self) -> None:
        assert self.idle
        self.idle -= 1


EVENTS = st.lists(
    st.tuples(st.sampled_from(["submit", "finish", "lose", "leave"]), st.integers(0, 3)), max_size=60
)


@given(EVENTS, CPUS, st.integers(1, 8))
def test_no_more_workers_than_there_are_and_none_idle_while_a_trial_waits(
    events: list[tuple[str, int]], cpus: int, most: int
) -> None:
    slots, jobs = Slots(lambda: Resources(cpus)), [Job(most) for _ in range(4)]
    for job in jobs:
        slots.join(job)
    for event, which in events:
        job = jobs[which]
        with slots.changing():
            if event == "submit":
                job.waiting += 1
            elif event == "leave":
                job.waiting = job.running = job.idle = 0
            elif job.running:
                job.running -= 1
                job.idle += event == "finish"
        assert sum(j.running + j.idle for j in jobs) <= cpus
        room = cpus - sum(j.running for j in jobs)
        assert not room or all(not j.waiting or j.running == most for j in jobs)


@pytest.fixture
def looking_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots_module, "LOOK", 0.0)


@pytest.mark.usefixtures("looking_always")
def test_the_cluster_may_grow_and_shrink() -> None:
    there = [2]
    slots, job = Slots(lambda: Resources(there[0])), Job(most=8, waiting=8)
    slots.join(job)

    def now(cpus: int, change: Callable[[], None] = lambda: None) -> tuple[int, int]:
        there[0] = cpus
        with slots.changing():
            change()
        return job.running, job.idle

    def finish() -> None:
        job.running -= 1
        job.idle += 1

    assert now(2) == (2, 0)
    assert now(4) == (4, 0)
    assert now(1) == (4, 0)  # what runs is left alone
    assert now(1, finish) == (3, 0)  # and what has ended makes room


def test_parts_of_gpus_are_such_that_every_worker_finds_one() -> None:
    slots, first, second = Slots(lambda: Resources(8, 2.0)), Job(most=2), Job(most=4)
    slots.join(first)
    assert slots.gpus == 1.0
    first.idle = 2
    slots.join(second)
    assert slots.gpus == pytest.approx(1 / 3, abs=0.01)
    assert 6 * slots.gpus <= 2
    assert first.idle == 0  # its workers held more
    slots.leave(second)
    assert slots.gpus == 1.0
