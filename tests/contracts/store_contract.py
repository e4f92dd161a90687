"""What every store must keep, as its clients and as runners see it."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nas.contracts import JobFilter, LeaseLost, Stale, Submitter, TokenReused, TrialFilter
from nas.job import REQUESTS, JobSpec, JobState, WrongState, requested
from nas.trial import (
    MAX_ATTEMPTS,
    MAX_LOSSES,
    Broken,
    BrokenKind,
    Measured,
    Origin,
    Outcome,
    Proposal,
    Trace,
    Trial,
    TrialState,
)
from search_spaces import load_space

SPEC = JobSpec.parse(
    {
        "name": "stored",
        "space": "digits-tiny",
        "objectives": ["max accuracy", "min params"],
        "constraints": ["params <= 1e6"],
        "searcher": {"kind": "regularized_evolution"},
        "evaluator": "cost",
        "budget": {"max_trial_count": 50, "max_duration": 12.5},
        "seed": 2**62,
    }
)
ARCHITECTURES = load_space("digits-tiny").sample(200, 7)
PROPOSALS = [Proposal(a) for a in ARCHITECTURES]
GOOD = Measured({"accuracy": 0.9, "params": 1000.0})
LOST = Broken(BrokenKind.LOST, "the worker died")
BEGUN = [
    *(
        replace(
            Trial(n, PROPOSALS[n]).close(end, SPEC.problem, n, 9.5), attempt=0, origin=Origin(f"job{n}", 7 - n)
        )
        for n, end in enumerate([GOOD, Broken(BrokenKind.INFEASIBLE, "too deep ☃")])
    ),
    Trial(2, PROPOSALS[2], TrialState.PENDING, origin=Origin("job2", 5)),
    Trial(3, PROPOSALS[3], TrialState.PENDING),
]
"""Trials that a job may begin with."""

Make = Callable[[float], Any]


def states(store: Any, job_id: str) -> list[TrialState]:
    return [t.state for t in store.trials(job_id)]


def everything(store: Any, job_id: str) -> tuple[Any, Any]:
    return store.job(job_id), list(store.trials(job_id))


def job_in(store: Any, state: JobState) -> str:
    """A job that came to `state` the way jobs do, with a trial that was open then."""
    job_id: str = store.submit(SPEC).id
    if state is JobState.QUEUED:
        return job_id
    lease = store.claim(job_id)
    lease.open(PROPOSALS[:1])
    if state is JobState.PAUSING:
        store.request(job_id, "pause")
    elif state is JobState.CANCELLING:
        store.request(job_id, "cancel")
    elif state is not JobState.RUNNING:
        lease.release(state, "because")
    assert store.job(job_id).state is state
    return job_id


class StoreContract:
    """Subclasses give the fixture `make`: a store, by the seconds that a lease lasts.

    A lease of 0 seconds has run out as soon as it is given: whoever claims next takes the job.
    """

    @pytest.fixture
    def store(self, make: Make) -> Any:
        return make(60.0)

    @pytest.fixture
    def hasty(self, make: Make) -> Any:
        """A store whose leases have always run out."""
        return make(0.0)

    # Jobs, as clients see them

    def test_a_submitted_job_reads_back_as_it_was_given(self, store: Any) -> None:
        before = time.time()
        job = store.submit(SPEC)
        assert store.job(job.id) == job
        assert (job.spec, job.state, job.reason, dict(job.counts)) == (SPEC, JobState.QUEUED, None, {})
        assert before <= job.created_at <= time.time()
        assert (job.started_at, job.finished_at) == (None, None)
        assert re.fullmatch(r"[0-9a-z]{10,32}", job.id)
        assert list(store.trials(job.id)) == []

    def test_a_name_that_databases_refuse_is_kept(self, store: Any) -> None:
        spec = JobSpec.parse({**SPEC.dump(), "name": "nul \0 snow ☃"})
        assert store.job(store.submit(spec).id).spec == spec

    def test_a_job_begins_with_the_trials_that_it_is_given(self, store: Any) -> None:
        job = store.submit(SPEC, trials=BEGUN)
        assert store.job(job.id) == job
        want = {TrialState.SUCCEEDED: 1, TrialState.INFEASIBLE: 1, TrialState.PENDING: 2}
        assert dict(job.counts) == dict(store.jobs()[0].counts) == want
        assert list(store.trials(job.id)) == BEGUN
        lease = store.claim(job.id)
        assert list(lease.trials()) == BEGUN
        opened = lease.open([BEGUN[3], PROPOSALS[9], BEGUN[2]])
        assert [(t.number, t.attempt, t.origin) for t in opened] == [
            (3, 1, None),
            (4, 1, None),
            (2, 1, Origin("job2", 5)),
        ]
        assert [t.order for t in lease.close([(4, GOOD), (2, GOOD)])] == [2, 3]
        assert list(store.trials(job.id))[:2] == BEGUN[:2]
        assert store.trials(job.id)[2].origin == Origin("job2", 5)
        lease.release(JobState.CANCELLED)
        assert states(store, job.id)[3] is TrialState.CANCELLED

    def test_a_job_held_back_is_claimed_by_its_id_only(self, store: Any) -> None:
        job = store.submit(SPEC, queued=False)
        assert job.state is JobState.PAUSED
        assert store.job(job.id) == job
        assert store.claim() is None
        assert store.claim(job.id).renew().state is JobState.RUNNING

    def test_a_job_that_is_not_there_is_a_key_error(self, store: Any) -> None:
        store.submit(SPEC)
        for ask in (store.job, store.trials, lambda job_id: store.request(job_id, "cancel")):
            with pytest.raises(KeyError, match="nothing"):
                ask("nothing")
        assert store.claim("nothing") is None

    def test_jobs_are_listed_newest_first_in_pages(self, store: Any) -> None:
        assert list(store.jobs()) == []
        ids = [store.submit(SPEC).id for _ in range(7)][::-1]
        assert [j.id for j in store.jobs()] == ids
        assert [j.id for j in store.jobs(limit=3)] == ids[:3]
        assert [j.id for j in store.jobs(after=ids[2], limit=3)] == ids[3:6]
        assert [j.id for j in store.jobs(after=ids[5], limit=3)] == ids[6:]
        assert list(store.jobs(after=ids[6])) == []
        assert store.jobs(limit=1)[0] == store.job(ids[0])

    def test_jobs_are_listed_by_state(self, store: Any) -> None:
        ids = {state: job_in(store, state) for state in JobState}
        for state in JobState:
            assert [j.id for j in store.jobs(JobFilter((state,)))] == [ids[state]]
        both = (JobState.RUNNING, JobState.FAILED)
        assert {j.id for j in store.jobs(JobFilter(both))} == {ids[s] for s in both}
        assert len(store.jobs(JobFilter(both), limit=1)) == 1

    @pytest.mark.parametrize("request_", REQUESTS)
    @pytest.mark.parametrize("state", JobState)
    def test_a_request_does_what_the_table_says_or_nothing(
        self, store: Any, state: JobState, request_: Any
    ) -> None:
        job_id = job_in(store, state)
        before = everything(store, job_id)
        if state not in REQUESTS[request_]:
            with pytest.raises(WrongState, match=f"{state} cannot {request_}"):
                store.request(job_id, request_)
            assert everything(store, job_id) == before
            return
        answer = store.request(job_id, request_)
        assert answer == store.job(job_id)
        assert answer.state is requested(state, request_)
        if answer.state is state:
            assert everything(store, job_id) == before
        assert (answer.finished_at is not None) == answer.state.over

    def test_cancelling_a_job_that_waits_ends_its_trials(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim(job_id)
        lease.open(PROPOSALS[:3])
        lease.close([(1, GOOD)])
        lease.release(JobState.PAUSED)
        job = store.request(job_id, "cancel")
        assert (job.state, job.reason) == (JobState.CANCELLED, "cancelled on request")
        trials = store.trials(job_id)
        assert [t.order for t in trials] == [1, 0, 2]
        assert [t.reason for t in trials] == ["cancelled on request", None, "cancelled on request"]
        assert job.counts == {TrialState.SUCCEEDED: 1, TrialState.CANCELLED: 2}

    def test_a_resumed_job_forgets_why_it_waited(self, store: Any) -> None:
        job_id = job_in(store, JobState.PAUSED)
        assert store.job(job_id).reason == "because"
        assert store.request(job_id, "resume").reason is None
        assert store.claim().renew().id == job_id

    # Claims

    def test_the_oldest_job_is_claimed_first_and_none_twice(self, store: Any) -> None:
        ids = [store.submit(SPEC).id for _ in range(3)]
        assert [store.claim().renew().id for _ in ids] == ids
        assert store.claim() is None
        assert [store.claim(job_id) for job_id in ids] == [None] * 3

    def test_a_claimed_job_runs(self, store: Any) -> None:
        job = store.submit(SPEC)
        before = time.time()
        seen = store.claim().renew()
        assert seen == store.job(job.id)
        assert (seen.state, seen.spec, seen.created_at) == (JobState.RUNNING, SPEC, job.created_at)
        assert before <= seen.started_at <= time.time()

    @pytest.mark.parametrize("state", [s for s in JobState if s.over])
    def test_a_job_that_is_over_is_not_claimed(self, hasty: Any, state: JobState) -> None:
        assert hasty.claim(job_in(hasty, state)) is None
        assert hasty.claim() is None

    def test_threads_that_race_never_claim_the_same_job(self, store: Any) -> None:
        ids = {store.submit(SPEC).id for _ in range(24)}
        start = threading.Barrier(8)

        def greedy() -> list[str]:
            start.wait()
            claimed = []
            while (lease := store.claim()) is not None:
                claimed.append(lease.renew().id)
            return claimed

        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(greedy) for _ in range(8)]
            claimed = [job_id for f in futures for job_id in f.result()]
        # a claimer passes over a job that another one looks at; what all passed over is claimed next
        while (lease := store.claim()) is not None:
            claimed.append(lease.renew().id)
        assert len(claimed) == 24
        assert set(claimed) == ids

    # Trials

    def test_what_was_opened_and_closed_reads_back_as_it_was_answered(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        work = [
            *PROPOSALS[:5],
            Proposal(ARCHITECTURES[5], fidelity=0.1),
            Proposal(ARCHITECTURES[5], fidelity=1.0, resume_from=5),
        ]
        before = time.time()
        opened = lease.open(work)
        assert [t.proposal for t in opened] == work
        assert [t.number for t in opened] == list(range(7))
        assert {(t.state, t.attempt, t.order) for t in opened} == {(TrialState.RUNNING, 1, None)}
        assert all(before <= t.created_at <= time.time() for t in opened)
        assert list(store.trials(job_id)) == list(opened)
        outcomes: list[tuple[int, Outcome]] = [
            (3, Measured({"accuracy": 1 / 3, "params": 2**53, "latency_ms": 5e-324, "größe": -0.0})),
            (0, Measured({"accuracy": np.float32(0.1), "params": np.int64(7)})),
            (6, Measured({"accuracy": 0.5, "params": 1e6 + 1})),
            (1, Broken(BrokenKind.INFEASIBLE, "too deep ☃")),
            (2, Broken(BrokenKind.FAILED, "nul \0 and half a pair \ud800")),
            (4, Broken(BrokenKind.LOST, "the worker died")),
            (5, Measured({"accuracy": 0.5, "params": 1e6})),
        ]
        closed = lease.close(outcomes)
        assert [t.number for t in closed] == [n for n, _ in outcomes]
        assert [t.order for t in closed] == [0, 1, 2, 3, 4, None, 5]
        assert [t.feasible for t in closed] == [False, True, False, None, None, None, True]
        assert closed[0].metrics == {"accuracy": 1 / 3, "params": 2**53, "latency_ms": 5e-324, "größe": -0.0}
        assert closed[1].metrics == {"accuracy": float(np.float32(0.1)), "params": 7}
        expected = {t.number: t for t in [*opened, *closed]}
        assert list(store.trials(job_id)) == [expected[n] for n in range(7)]
        assert list(lease.trials()) == list(store.trials(job_id))
        for read, given in zip(store.trials(job_id), work, strict=True):
            assert read.architecture.genes == given.architecture.genes
            assert read.architecture.key == given.architecture.key
            assert dict(read.architecture) == dict(given.architecture)

    def test_an_outcome_without_a_needed_metric_is_a_failed_trial(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:1])
        (trial,) = lease.close([(0, Measured({"accuracy": 0.5}))])
        assert trial.state is TrialState.FAILED
        assert "no params" in trial.reason
        assert store.trials(job_id) == [trial]

    def test_nothing_is_opened_and_closed_without_harm(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        assert list(lease.open([])) == []
        assert list(lease.close([])) == []
        assert list(store.trials(job_id)) == []

    def test_counts_follow_the_trials(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:6])
        lease.close([(0, GOOD), (1, GOOD), (2, Broken(BrokenKind.FAILED, "no")), (3, LOST)])
        want = {
            TrialState.SUCCEEDED: 2,
            TrialState.FAILED: 1,
            TrialState.PENDING: 1,
            TrialState.RUNNING: 2,
        }
        assert dict(store.job(job_id).counts) == want
        assert dict(lease.renew().counts) == want
        assert dict(store.jobs()[0].counts) == want

    def test_trials_come_in_pages_by_number(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        other = store.submit(SPEC).id
        trials = list(store.claim(job_id).open(PROPOSALS[:10]))
        store.claim(other).open(PROPOSALS[10:12])
        assert store.trials(job_id, limit=4) == trials[:4]
        assert store.trials(job_id, after=3, limit=4) == trials[4:8]
        assert store.trials(job_id, after=7, limit=4) == trials[8:]
        assert store.trials(job_id, after=6) == trials[7:]
        assert list(store.trials(job_id, after=9)) == []
        assert list(store.trials(job_id, limit=0)) == []

    def test_what_a_reader_does_to_its_page_stays_its_own(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:2])
        for page in (store.trials(job_id), lease.trials()):
            page.clear()
        assert len(store.trials(job_id)) == 2

    @pytest.mark.parametrize(
        "outcomes", [[(2, GOOD)], [(1, GOOD), (0, GOOD)], [(1, GOOD), (1, GOOD)], [(-1, GOOD)]]
    )
    def test_closing_what_is_not_open_is_refused_whole(
        self, store: Any, outcomes: Sequence[tuple[int, Outcome]]
    ) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:2])
        lease.close([(0, GOOD)])
        before = everything(store, job_id)
        with pytest.raises(ValueError, match=r"trial -?\d is"):
            lease.close(outcomes)
        assert everything(store, job_id) == before
        assert lease.close([(1, GOOD)])[0].order == 1

    def test_starting_what_does_not_wait_is_refused_whole(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        running, done, waiting = lease.open(PROPOSALS[:3])
        lease.close([(1, GOOD), (2, LOST)])
        before = everything(store, job_id)
        for wrong in (running, done, replace(waiting, number=9)):
            with pytest.raises(ValueError, match=r"trial \d is"):
                lease.open([PROPOSALS[4], wrong])
        with pytest.raises(ValueError, match="trial 2 is"):
            lease.open([waiting, waiting])
        assert everything(store, job_id) == before
        assert [t.number for t in lease.open([PROPOSALS[4], waiting])] == [3, 2]

    def test_a_lost_worker_costs_an_attempt_and_the_last_one_the_trial(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        (trial,) = lease.open(PROPOSALS[:1])
        for attempt in range(1, MAX_LOSSES):
            (trial,) = lease.close([(0, LOST)])
            assert (trial.state, trial.attempt, trial.order) == (TrialState.PENDING, attempt + 1, None)
            assert store.trials(job_id) == [trial]
            (trial,) = lease.open([trial])
            assert (trial.state, trial.attempt) == (TrialState.RUNNING, attempt + 1)
        (trial,) = lease.close([(0, LOST)])
        assert (trial.state, trial.order) == (TrialState.FAILED, 0)
        assert trial.reason == f"the worker died ({MAX_LOSSES} attempts)"
        assert store.trials(job_id) == [trial]

    # Letting go

    @pytest.mark.parametrize("state", [JobState.PAUSED, JobState.QUEUED])
    def test_trials_handed_back_are_started_again_by_the_next_runner(self, store: Any, state: JobState) -> None:
        job_id = store.submit(SPEC).id
        first = store.claim()
        first.open(PROPOSALS[:4])
        first.close([(2, GOOD), (0, LOST)])
        first.release(state, "tea")
        job = store.job(job_id)
        assert (job.state, job.reason, job.finished_at) == (state, "tea", None)
        assert [t.attempt for t in store.trials(job_id)] == [2, 1, 1, 1]
        assert states(store, job_id)[3] is TrialState.PENDING
        second = store.claim(job_id)
        assert second.renew().reason is None
        assert second.renew().started_at == job.started_at
        waiting = [t for t in second.trials() if t.state is TrialState.PENDING]
        opened = second.open([*waiting, PROPOSALS[9]])
        assert [t.number for t in opened] == [0, 1, 3, 4]
        assert [t.proposal for t in opened[:3]] == [PROPOSALS[0], PROPOSALS[1], PROPOSALS[3]]
        assert [t.order for t in second.close([(4, GOOD), (0, GOOD)])] == [1, 2]

    @pytest.mark.parametrize("state", [s for s in JobState if s.over])
    def test_the_end_of_a_job_ends_its_trials(self, store: Any, state: JobState) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:4])
        lease.close([(1, GOOD), (2, LOST)])
        before = time.time()
        lease.release(state, "half a pair \udfff")
        job = store.job(job_id)
        assert (job.state, job.reason) == (state, "half a pair \\udfff")
        assert before <= job.finished_at <= time.time()
        trials = store.trials(job_id)
        assert [t.order for t in trials] == [1, 0, 2, 3]
        assert {t.state for t in trials} == {TrialState.SUCCEEDED, TrialState.CANCELLED}
        assert trials[0].reason == job.reason

    @pytest.mark.parametrize("state", [s for s in JobState if s.held])
    def test_a_job_is_not_released_into_a_state_that_needs_a_runner(self, store: Any, state: JobState) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        before = everything(store, job_id)
        with pytest.raises(ValueError, match=f"cannot be released {state}"):
            lease.release(state)
        assert everything(store, job_id) == before
        assert lease.renew().state is JobState.RUNNING

    @pytest.mark.parametrize(
        ("request_", "released", "final"),
        [
            ("cancel", JobState.QUEUED, JobState.CANCELLED),
            ("cancel", JobState.PAUSED, JobState.CANCELLED),
            ("cancel", JobState.CANCELLED, JobState.CANCELLED),
            ("cancel", JobState.SUCCEEDED, JobState.SUCCEEDED),
            ("pause", JobState.QUEUED, JobState.PAUSED),
            ("pause", JobState.PAUSED, JobState.PAUSED),
            ("pause", JobState.FAILED, JobState.FAILED),
        ],
    )
    def test_a_request_that_the_runner_did_not_see_is_honoured(
        self, store: Any, request_: Any, released: JobState, final: JobState
    ) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:1])
        store.request(job_id, request_)
        assert lease.release(released, "the runner stops") is final
        job = store.job(job_id)
        assert job.state is final
        assert job.reason == ("the runner stops" if released is final else None)
        assert states(store, job_id) == [TrialState.CANCELLED if final.over else TrialState.PENDING]

    @pytest.mark.parametrize(
        ("released", "request_", "final"),
        [
            (JobState.SUCCEEDED, None, JobState.RUNNING),
            (JobState.FAILED, None, JobState.RUNNING),
            (JobState.SUCCEEDED, "pause", JobState.PAUSED),
            (JobState.SUCCEEDED, "cancel", JobState.CANCELLED),
            (JobState.PAUSED, None, JobState.PAUSED),
        ],
    )
    @pytest.mark.parametrize("seen", [False, True])
    def test_a_job_that_was_edited_is_not_over_by_its_old_document(
        self, store: Any, released: JobState, request_: Any, final: JobState, seen: bool
    ) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        decided = lease.renew().revision
        lease.close([(lease.open(PROPOSALS[:1])[0].number, GOOD)])
        lease.open(PROPOSALS[1:2])
        edited = store.edit(job_id, lambda job: job.spec.model_copy(update={"name": "edited"}))
        if seen:  # by the heartbeat, and not by who decides
            assert lease.renew().revision == edited.revision
        if request_ is not None:
            store.request(job_id, request_)
        assert lease.release(released, "the budget is spent", decided) is final
        job = store.job(job_id)
        assert (job.state, job.revision) == (final, edited.revision)
        assert job.reason == ("the budget is spent" if final is released else None)
        assert (job.finished_at is not None) == final.over
        ended = TrialState.CANCELLED if final.over else TrialState.PENDING
        assert states(store, job_id) == [TrialState.SUCCEEDED, ended]
        if not final.held:
            with pytest.raises(LeaseLost):
                lease.renew()
            return
        assert store.claim() is None  # it is in the same hands
        assert lease.renew().spec.name == "edited"
        assert lease.trials()[1].attempt == 1
        lease.close([(t.number, GOOD) for t in lease.open(lease.trials()[1:])])
        assert lease.release(released, "the new one, too", edited.revision) is released
        assert (store.job(job_id).state, store.job(job_id).reason) == (released, "the new one, too")
        assert states(store, job_id) == [TrialState.SUCCEEDED] * 2

    def test_a_trial_that_is_lost_and_found_in_one_batch_is_found(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        first, second = lease.open(PROPOSALS[:2])
        lost = Broken(BrokenKind.LOST, "its worker is gone")
        lease.close([(first.number, lost), (second.number, GOOD), (first.number, GOOD)])
        assert states(store, job_id) == [TrialState.SUCCEEDED] * 2
        assert store.job(job_id).counts[TrialState.SUCCEEDED] == 2
        assert [t.number for t in store.finished(job_id)] == [second.number, first.number]

    def test_a_job_may_be_over_whatever_its_document_says(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        store.edit(job_id, lambda job: job.spec.model_copy(update={"name": "edited"}))
        lease.release(JobState.FAILED, "no such data set")
        assert (store.job(job_id).state, store.job(job_id).reason) == (JobState.FAILED, "no such data set")

    # Law 4: only the holder of the lease can write

    @pytest.mark.parametrize(
        "write",
        [
            lambda lease: lease.renew(),
            lambda lease: lease.open(PROPOSALS[:1]),
            lambda lease: lease.open([]),
            lambda lease: lease.close([(0, GOOD)]),
            lambda lease: lease.close([(77, GOOD)]),
            lambda lease: lease.release(JobState.SUCCEEDED),
            lambda lease: lease.release(JobState.QUEUED),
        ],
    )
    @pytest.mark.parametrize("how", ["taken", "released", "ended"])
    def test_who_lost_the_lease_writes_nothing(self, hasty: Any, write: Any, how: str) -> None:
        job_id = hasty.submit(SPEC).id
        old = hasty.claim()
        old.open(PROPOSALS[:2])
        if how == "taken":
            assert hasty.claim() is not None
        else:
            old.release(JobState.PAUSED if how == "released" else JobState.SUCCEEDED)
        before = everything(hasty, job_id)
        with pytest.raises(LeaseLost, match=job_id):
            write(old)
        assert everything(hasty, job_id) == before

    def test_a_runner_that_is_robbed_while_it_writes_is_stopped(self, hasty: Any) -> None:
        job_id = hasty.submit(SPEC).id
        old = hasty.claim()
        started = threading.Event()

        def write() -> None:
            for _ in range(100_000):
                (trial,) = old.open(PROPOSALS[:1])
                old.close([(trial.number, GOOD)])
                started.set()

        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(write)
            started.wait(30)
            new = hasty.claim(job_id)
            seen = list(hasty.trials(job_id))
            with pytest.raises(LeaseLost):
                writer.result(30)
        assert hasty.trials(job_id) == seen
        assert new.open(PROPOSALS[:1])[0].number == len(seen)

    def test_the_trials_of_a_dead_runner_are_tried_again_but_not_for_ever(self, hasty: Any) -> None:
        job_id = hasty.submit(SPEC).id
        lease = hasty.claim()
        lease.open(PROPOSALS[:2])
        lease.close([(1, GOOD)])
        (finished,) = hasty.trials(job_id, after=0)
        for attempt in range(2, MAX_ATTEMPTS + 1):
            lease = hasty.claim()
            trial = lease.trials()[0]
            assert (trial.state, trial.attempt) == (TrialState.PENDING, attempt)
            lease.open([trial])
        lease = hasty.claim()
        trial, other = lease.trials()
        assert (trial.state, trial.order, trial.attempt) == (TrialState.FAILED, 1, MAX_ATTEMPTS)
        assert trial.reason == f"the runner died while it ran ({MAX_ATTEMPTS} attempts)"
        assert other == finished
        assert lease.open(PROPOSALS[5:6])[0].number == 2

    def test_the_deaths_of_runners_do_not_count_as_losses_of_workers(self, hasty: Any) -> None:
        job_id = hasty.submit(SPEC).id
        lease = hasty.claim()
        lease.open(PROPOSALS[:1])
        for losses in range(1, MAX_LOSSES + 1):
            for _ in range(2):
                lease = hasty.claim()
                lease.open(lease.trials())
            (trial,) = lease.close([(0, LOST)])
            assert trial.losses == losses
            assert trial.state is (TrialState.PENDING if losses < MAX_LOSSES else TrialState.FAILED)
            if losses < MAX_LOSSES:
                lease.open([trial])
        assert list(hasty.trials(job_id)) == [trial]

    def test_a_runner_that_died_with_nothing_running_costs_no_attempt(self, hasty: Any) -> None:
        hasty.submit(SPEC)
        hasty.claim().open(PROPOSALS[:1])
        for _ in range(5):
            (trial,) = hasty.claim().trials()
            assert (trial.state, trial.attempt) == (TrialState.PENDING, 2)

    def test_what_was_requested_of_a_dead_runner_reaches_the_next(self, hasty: Any) -> None:
        for request_, state in (("cancel", JobState.CANCELLING), ("pause", JobState.PAUSING)):
            job_id = hasty.submit(SPEC).id
            hasty.claim(job_id)
            hasty.request(job_id, request_)
            assert hasty.claim(job_id).renew().state is state

    def test_a_lease_that_ran_out_is_good_until_somebody_takes_it(self, hasty: Any) -> None:
        job_id = hasty.submit(SPEC).id
        lease = hasty.claim()
        lease.open(PROPOSALS[:1])
        assert lease.renew().state is JobState.RUNNING
        lease.close([(0, GOOD)])
        lease.release(JobState.SUCCEEDED)
        assert hasty.job(job_id).state is JobState.SUCCEEDED

    def test_a_lease_lasts_as_long_as_it_is_renewed(self, make: Make) -> None:
        store = make(1.0)
        job_id = store.submit(SPEC).id
        lease = store.claim()
        for _ in range(3):
            time.sleep(0.5)
            lease.renew()
            assert store.claim(job_id) is None
        time.sleep(1.1)
        assert store.claim(job_id) is not None

    def test_a_heartbeat_may_beat_while_a_search_writes(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        done = threading.Event()

        def beat() -> int:
            beats = 0
            while not done.is_set():
                assert lease.renew().state is JobState.RUNNING
                beats += 1
            return beats

        with ThreadPoolExecutor(1) as pool:
            beats = pool.submit(beat)
            try:
                for proposal in PROPOSALS[:50]:
                    (trial,) = lease.open([proposal])
                    lease.close([(trial.number, GOOD)])
            finally:
                done.set()
            assert beats.result(30) > 0
        assert lease.renew().counts == {TrialState.SUCCEEDED: 50}
        assert states(store, job_id) == [TrialState.SUCCEEDED] * 50

    def test_jobs_that_run_at_once_do_not_touch_each_other(self, store: Any) -> None:
        ids = [store.submit(SPEC).id for _ in range(4)]

        def drive(job_id: str) -> None:
            rng = random.Random(job_id)
            lease = store.claim(job_id)
            for _ in range(10):
                trials = lease.open(rng.sample(PROPOSALS, 3))
                lease.close([(t.number, Measured({"accuracy": 0.5, "params": t.number})) for t in trials])
            lease.release(JobState.SUCCEEDED)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(drive, ids))
        for job_id in ids:
            trials = store.trials(job_id)
            assert [t.number for t in trials] == [t.order for t in trials] == list(range(30))
            assert [t.metrics["params"] for t in trials] == list(range(30))
            assert store.job(job_id).state is JobState.SUCCEEDED

    # What clients ask of many trials

    def test_trials_are_found_by_state_feasibility_and_key(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:6])
        bad = Measured({"accuracy": 0.9, "params": 2e6})
        lease.close([(4, GOOD), (1, bad), (3, Broken(BrokenKind.FAILED, "no")), (0, GOOD)])

        def found(after: int = -1, limit: int | None = None, **which: Any) -> list[int]:
            return [t.number for t in store.trials(job_id, after, limit, TrialFilter(**which))]

        assert found(states=(TrialState.SUCCEEDED,)) == [0, 1, 4]
        assert found(states=(TrialState.FAILED, TrialState.RUNNING)) == [2, 3, 5]
        assert found(feasible=True) == [0, 4]
        assert found(feasible=False) == [1]
        assert found(0, 1, states=(TrialState.SUCCEEDED,)) == [1]
        assert found(key=ARCHITECTURES[3].key) == [3]
        assert found(key="none") == []
        assert found(states=(TrialState.SUCCEEDED,), feasible=True, key=ARCHITECTURES[4].key) == [4]

    def test_finished_trials_come_in_the_order_in_which_they_finished(self, store: Any) -> None:
        job_id = store.submit(SPEC, trials=BEGUN).id
        lease = store.claim()
        lease.open([*PROPOSALS[10:14], BEGUN[2]])
        lease.close([(6, GOOD), (4, LOST), (2, GOOD), (5, Broken(BrokenKind.INFEASIBLE, "deep"))])
        numbers = [0, 1, 6, 2, 5]
        trials = store.trials(job_id)
        assert list(store.finished(job_id)) == [trials[n] for n in numbers]
        for after in range(-1, 6):
            assert [t.number for t in store.finished(job_id, after)] == numbers[after + 1 :]
            assert [t.number for t in store.finished(job_id, after, 2)] == numbers[after + 1 : after + 3]
        lease.release(JobState.CANCELLED)
        assert [t.order for t in store.finished(job_id)] == list(range(8))

    def test_measurements_are_those_of_the_trials(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        nothing = store.measurements(job_id)
        assert (len(nothing.numbers), nothing.values.shape[0]) == (0, 0)
        lease = store.claim()
        lease.open(PROPOSALS[:8])
        lease.close([(3, GOOD), (5, Broken(BrokenKind.FAILED, "no"))])
        lease.close([(0, Measured({"params": 2e6, "accuracy": 0.1, "latency_ms": 7.0})), (7, GOOD)])
        lease.close([(2, Measured({"accuracy": 0.25, "params": 3, "energy_mj": 1 / 3}))])
        for after in range(-1, 6):
            found = store.measurements(job_id, after)
            want = [t for t in store.finished(job_id, after) if t.measured]
            assert found.numbers.tolist() == [t.number for t in want]
            assert found.orders.tolist() == [t.order for t in want]
            assert found.feasible.tolist() == [t.feasible for t in want]
            assert set(found.names) == {"accuracy", "params", "latency_ms", "energy_mj"}
            for row, trial in zip(found.values, want, strict=True):
                pairs = zip(found.names, row.tolist(), strict=True)
                assert {n: v for n, v in pairs if v == v} == trial.metrics

    def test_how_an_evaluation_went_is_kept_beside_its_trial(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:3])
        first = Trace("host:1", 12.5, ((1, {"loss": 2.0}), (2, {"loss": 1.5})), "half a pair \ud800, nul \0\n")
        broken = Broken(BrokenKind.LOST, "gone", Trace("host:2", 1.0))
        (_, lost) = lease.close([(0, replace(GOOD, trace=first)), (1, broken)])
        want = replace(first, log="half a pair \\ud800, nul \\x00\n")
        assert store.trace(job_id, 0) == want
        assert store.trace(job_id, 1) == Trace("host:2", 1.0)
        assert store.trace(job_id, 2) is None
        lease.open([lost])
        strange = Trace("host:3", 2.0, ((1, {"loss": float("nan"), "accuracy": 0.5}),))
        lease.close([(1, replace(GOOD, trace=strange))])
        assert store.trace(job_id, 1) == replace(strange, curve=((1, {"accuracy": 0.5}),))
        with pytest.raises(KeyError):
            store.trace("nothing", 0)

    # Whose jobs they are, and what their owners may do with them

    def test_a_job_is_its_submitters(self, store: Any) -> None:
        job = store.submit(SPEC, by=Submitter("vision", "anna"))
        assert (job.project, job.owner, job.revision) == ("vision", "anna", 0)
        assert store.job(job.id) == job
        other = store.submit(JobSpec.parse({**SPEC.dump(), "name": "other"}))
        assert (other.project, other.owner) == ("default", None)

        def found(**which: Any) -> list[str]:
            return [j.id for j in store.jobs(JobFilter(**which))]

        assert found(project="vision") == found(owner="anna") == found(name="stored") == [job.id]
        assert found(project="default", name="other") == [other.id]
        assert found(project="vision", name="other") == found(project="speech") == []
        assert [j.id for j in store.jobs(oldest_first=True)] == [job.id, other.id]
        assert [j.id for j in store.jobs(after=job.id, oldest_first=True)] == [other.id]

    def test_a_token_submits_once(self, store: Any) -> None:
        by = Submitter("vision", "anna", "t-1", "digest")
        assert store.submitted(by) is None
        job = store.submit(SPEC, by=by)
        assert store.submitted(by) == job
        assert store.submit(SPEC, by=by).id == job.id
        store.request(job.id, "pause")
        for ask in (store.submitted, lambda by: store.submit(SPEC, by=by)):
            assert ask(by=replace(by, owner="ben")) == store.job(job.id)
            with pytest.raises(TokenReused, match=job.id):
                ask(by=replace(by, digest="another"))
        assert store.submitted(replace(by, project="speech")) is None
        assert store.submitted(replace(by, token=None)) is None
        assert store.submit(SPEC, by=replace(by, project="speech")).id != job.id
        assert store.submit(SPEC, by=replace(by, token=None)).id != store.submit(SPEC).id
        assert len(store.jobs()) == 4
        store.delete(job.id)
        assert store.submitted(by) is None
        assert store.submit(SPEC, by=by).id != job.id

    def test_threads_that_submit_with_one_token_get_one_job(self, store: Any) -> None:
        start = threading.Barrier(6)

        def submit() -> str:
            start.wait()
            return str(store.submit(SPEC, by=Submitter(token="once", digest="d")).id)

        with ThreadPoolExecutor(6) as pool:
            ids = {f.result() for f in [pool.submit(submit) for _ in range(6)]}
        assert {j.id for j in store.jobs()} == ids
        assert len(ids) == 1

    def test_an_edit_reaches_the_runner_and_the_reader(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:1])

        def larger(job: Any) -> JobSpec:
            budget = job.spec.budget.model_copy(update={"max_trial_count": job.spec.budget.max_trial_count + 1})
            return job.spec.model_copy(update={"budget": budget, "name": "edited"})  # type: ignore[no-any-return]

        edited = store.edit(job_id, larger, revision=0)
        assert (edited.revision, edited.spec.budget.max_trial_count, edited.spec.name) == (1, 51, "edited")
        assert edited == store.job(job_id) == lease.renew()
        assert [j.id for j in store.jobs(JobFilter(name="edited"))] == [job_id]
        with pytest.raises(Stale, match="revision 1"):
            store.edit(job_id, larger, revision=0)
        assert store.edit(job_id, lambda job: job.spec) == edited
        assert store.edit(job_id, larger).spec.budget.max_trial_count == 52

        def refuse(job: Any) -> JobSpec:
            raise WrongState("no")

        with pytest.raises(WrongState):
            store.edit(job_id, refuse)
        with pytest.raises(KeyError):
            store.edit("nothing", larger)
        assert store.job(job_id).revision == 2
        assert lease.close([(0, GOOD)])[0].order == 0

    @pytest.mark.parametrize("state", JobState)
    def test_a_job_that_no_runner_holds_can_be_deleted(self, store: Any, state: JobState) -> None:
        other = store.submit(SPEC, trials=BEGUN).id
        store.request(other, "pause")
        job_id = job_in(store, state)
        before = everything(store, other)
        if state.held:
            with pytest.raises(WrongState, match="cancel it first"):
                store.delete(job_id)
            assert store.job(job_id).state is state
            return
        store.delete(job_id)
        for ask in (store.job, store.trials, store.finished, store.measurements, store.delete):
            with pytest.raises(KeyError):
                ask(job_id)
        assert [j.id for j in store.jobs()] == [other]
        assert everything(store, other) == before

    def test_owners_take_turns(self, store: Any) -> None:
        anna, ben = Submitter("vision", "anna"), Submitter("vision", "ben")
        of_anna = [store.submit(SPEC, by=anna).id for _ in range(4)]
        of_ben = [store.submit(SPEC, by=ben).id for _ in range(2)]
        leases = [store.claim() for _ in range(4)]
        claimed = [lease.renew().id for lease in leases]
        assert claimed[0] == of_anna[0]
        assert sorted(claimed) == sorted([*of_anna[:2], *of_ben])
        leases[claimed.index(of_anna[0])].release(JobState.SUCCEEDED)
        leases[claimed.index(of_anna[1])].release(JobState.SUCCEEDED)
        late = store.submit(SPEC, by=ben).id
        assert [store.claim().renew().id for _ in range(3)] == [*of_anna[2:], late]

    def test_the_census_counts_jobs_of_all_projects(self, store: Any) -> None:
        assert (dict(store.census().jobs), store.census().waiting_seconds) == ({}, 0.0)
        store.submit(SPEC, by=Submitter("vision"))
        store.submit(SPEC)
        store.submit(SPEC, queued=False)
        assert store.claim() is not None
        found = store.census()
        assert dict(found.jobs) == {JobState.QUEUED: 1, JobState.PAUSED: 1, JobState.RUNNING: 1}
        assert 0 <= found.waiting_seconds < 60
