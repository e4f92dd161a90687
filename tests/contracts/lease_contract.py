"""What every store must keep as runners see it: claims, leases, and the trials that are written by them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from stored import ARCHITECTURES, GOOD, LOST, PROPOSALS, SPEC, Make, everything, job_in, states

from nas.contracts import LeaseLost
from nas.job import JobState
from nas.trial import (
    MAX_ATTEMPTS,
    MAX_LOSSES,
    Broken,
    BrokenKind,
    Measured,
    Outcome,
    Proposal,
    TrialState,
)


class LeaseContract:
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

    def test_one_write_closes_trials_and_opens_what_is_proposed_then(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        lease = store.claim()
        opened = lease.open(PROPOSALS[:3])
        outcomes = [(1, GOOD), (0, LOST)]
        foreseen = lease.preview(outcomes)
        assert store.trials(job_id) == opened
        written = lease.close(outcomes, PROPOSALS[3:5])
        assert list(written[:2]) == [
            replace(t, finished_at=w.finished_at) for t, w in zip(foreseen, written, strict=False)
        ]
        assert [(t.number, t.state, t.order) for t in written] == [
            (1, TrialState.SUCCEEDED, 0),
            (0, TrialState.PENDING, None),
            (3, TrialState.RUNNING, None),
            (4, TrialState.RUNNING, None),
        ]
        by_number = {t.number: t for t in (*opened, *written)}
        assert list(store.trials(job_id)) == list(lease.trials()) == [by_number[n] for n in range(5)]
        want = {TrialState.SUCCEEDED: 1, TrialState.PENDING: 1, TrialState.RUNNING: 3}
        assert dict(lease.renew().counts) == dict(store.job(job_id).counts) == want

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
            lambda lease: lease.close([(0, GOOD)], PROPOSALS[5:6]),
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
