"""What every store must keep as its clients see it: jobs, their trials, and whose they are."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from stored import ARCHITECTURES, BEGUN, GOOD, LOST, PROPOSALS, SPEC, Make, everything, job_in, states

from nas.contracts import JobFilter, Stale, Submitter, TokenReused, TrialFilter
from nas.job import REQUESTS, JobSpec, JobState, WrongState, requested
from nas.trial import (
    Broken,
    BrokenKind,
    Measured,
    Origin,
    Trace,
    TrialState,
)


class StoreContract:
    """Subclasses give the fixture `make`: a store, by the seconds that a lease lasts."""

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
