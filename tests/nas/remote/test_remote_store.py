"""A store over HTTP answers as the store behind the server does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nas.contracts import JobFilter, Stale, Submitter, TrialFilter
from nas.edits import edited
from nas.job import Job, JobSpec, JobState, WrongState
from nas.remote import store as remote_store
from nas.remote.errors import ApiError
from nas.remote.events import JobChanged, JobOver, TrialsFinished, events
from nas.remote.http import Http
from nas.remote.store import RemoteStore
from nas.runner import run
from nas.trial import Broken, BrokenKind, Measured, Proposal, Trace, Trial, TrialState
from search_spaces import SpecError
from search_spaces.load import space_of
from tests.documents import CELLS

SPEC = JobSpec.parse({**CELLS, "budget": {"max_trial_count": 10, "max_duration": 1000}})
SPACE = space_of(SPEC.space)


@pytest.fixture
def remote(served: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteStore]:
    monkeypatch.setattr(remote_store, "PAGE", 3)  # so that there are many pages
    store = RemoteStore(Http(served.url))
    yield store
    store.close()


def plain(value: Any) -> Any:
    """The value as far as it goes over the wire: times in milliseconds, and no count of lost workers."""
    if isinstance(value, Trial):
        value = replace(value, losses=0)
    if isinstance(value, Trial | Job):
        moments = ("created_at", "started_at", "finished_at")
        times = {m: getattr(value, m) for m in moments if getattr(value, m, None) is not None}
        found = replace(value, **{m: int(t * 1000) / 1000 for m, t in times.items()})
        return (
            replace(found, counts={s: found.counts.get(s, 0) for s in TrialState})
            if isinstance(found, Job)
            else found
        )
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def half_done(store: Any) -> str:
    """A job with finished, broken, waiting and running trials, which finished in another order than they began."""
    job_id: str = store.submit(SPEC).id
    lease = store.claim(job_id)
    trials = lease.open([Proposal(a) for a in SPACE.sample(11, 3)])
    trace = Trace("host:1", 5.0, ((1, {"loss": 0.5}),), "said\n")
    for trial in reversed(trials[:9]):
        if trial.number % 4 == 1:
            outcome: Any = Broken(BrokenKind.INFEASIBLE, "no path")
        else:
            outcome = Measured(SPACE.cost(trial.architecture), trace)
        lease.close([(trial.number, outcome)])
    lease.close([(9, Broken(BrokenKind.LOST, "died"))])
    return job_id


def test_trials_are_those_of_the_store(served: Any, remote: RemoteStore) -> None:
    job_id = half_done(served.store)
    assert plain(remote.job(job_id)) == plain(served.store.job(job_id))
    for after in (-1, 0, 4, 10, 99):
        for limit in (None, 1, 2, 5, 50):
            asked = (job_id, after, limit)
            assert remote.trials(*asked) == plain(list(served.store.trials(*asked))), asked
            assert remote.finished(*asked) == plain(list(served.store.finished(*asked))), asked
    key = SPACE.sample(11, 3)[2].key
    for which in (
        TrialFilter((TrialState.SUCCEEDED, TrialState.PENDING)),
        TrialFilter(feasible=True),
        TrialFilter(feasible=False),
        TrialFilter(key=key),
    ):
        for after, limit in ((-1, None), (2, 1), (2, 4)):
            asked = (job_id, after, limit, which)
            assert remote.trials(*asked) == plain(list(served.store.trials(*asked))), asked
    assert remote.trace(job_id, 0) == served.store.trace(job_id, 0)
    assert remote.trace(job_id, 10) is None


def test_measurements_are_those_of_the_store(served: Any, remote: RemoteStore) -> None:
    job_id = half_done(served.store)
    for after in (-1, 3, 99):
        here, there = served.store.measurements(job_id, after), remote.measurements(job_id, after)
        assert np.array_equal(here.numbers, there.numbers)
        assert np.array_equal(here.orders, there.orders)
        assert np.array_equal(here.feasible, there.feasible)
        assert there.values.shape == (len(there.numbers), len(there.names))
        for name in there.names:
            columns = [m.values[:, m.names.index(name)] for m in (here, there)]
            assert np.array_equal(*columns, equal_nan=True)


def test_jobs_are_those_of_the_store(served: Any, remote: RemoteStore) -> None:
    store = served.store
    ids = [store.submit(SPEC.model_copy(update={"name": f"n{i % 2}"})).id for i in range(8)]
    store.request(ids[3], "cancel")
    for which in (JobFilter(), JobFilter(states=(JobState.QUEUED,)), JobFilter(name="n1"), JobFilter(project="x")):
        for oldest_first in (False, True):
            for limit in (1, 3, 100):
                found: list[Job] = []
                while page := remote.jobs(
                    which, found[-1].id if found else None, limit, oldest_first=oldest_first
                ):
                    assert len(page) <= limit
                    found += page
                assert found == plain(list(store.jobs(which, oldest_first=oldest_first)))
    with pytest.raises(KeyError):
        remote.jobs(after="nothing")
    census = remote.census()
    assert dict(census.jobs) == dict(store.census().jobs)
    assert census.waiting_seconds >= 0


def test_a_submission_and_its_token(served: Any, remote: RemoteStore) -> None:
    first = remote.submit(SPEC, by=Submitter(token="t1"))
    assert remote.submit(SPEC, by=Submitter(token="t1")).id == first.id
    assert remote.submit(SPEC).id != remote.submit(SPEC).id
    with pytest.raises(SpecError):  # the token stands for something else
        remote.submit(SPEC.model_copy(update={"seed": 9}), by=Submitter(token="t1"))
    assert len(served.store.jobs()) == 3
    assert first.spec == SPEC
    with pytest.raises(ValueError, match="a server queues every job"):
        remote.submit(SPEC, queued=False)


def test_requests_edits_and_deletion(served: Any, remote: RemoteStore) -> None:
    job = remote.submit(SPEC)
    assert remote.request(job.id, "pause").state is JobState.PAUSED

    def more(found: Job) -> JobSpec:
        patch = {"name": "new", "budget": {"max_trial_count": 77, "max_duration": None}}
        return edited(found, patch, now=time.time())

    changed = remote.edit(job.id, more, job.revision)
    assert (changed.spec.name, changed.spec.budget.max_trial_count) == ("new", 77)
    assert changed.spec.budget.max_duration is None
    assert plain(served.store.job(job.id)) == plain(changed)
    with pytest.raises(Stale):
        remote.edit(job.id, more, job.revision)
    with pytest.raises(SpecError, match="seed"):
        remote.edit(job.id, lambda found: found.spec.model_copy(update={"seed": 5}))
    remote.request(job.id, "cancel")
    with pytest.raises(WrongState):
        remote.request(job.id, "resume")
    remote.delete(job.id)
    for ask in (remote.job, remote.trials, remote.finished, remote.measurements, remote.delete):
        with pytest.raises(KeyError, match=job.id):
            ask(job.id)
    with pytest.raises(KeyError):
        remote.trials(job.id, limit=1)


def test_an_edit_that_others_come_before_is_made_after_theirs(served: Any, remote: RemoteStore) -> None:
    job = remote.submit(SPEC)
    others = [11, 12]

    def mine(found: Job) -> JobSpec:
        if others:  # somebody else is quicker
            count = others.pop()
            served.store.edit(job.id, lambda j: edited(j, {"budget": {"max_trial_count": count}}, now=0.0))
        return found.spec.model_copy(update={"name": "mine"})

    changed = remote.edit(job.id, mine)
    assert (changed.spec.name, changed.spec.budget.max_trial_count) == ("mine", 11)


@pytest.mark.parametrize("job_id", ["nothing", "../capabilities", "a/b", "a:b", "?x=1", " ", "ä"])
def test_ids_that_no_job_has(remote: RemoteStore, job_id: str) -> None:
    with pytest.raises((KeyError, ApiError)):
        remote.job(job_id)


def test_events_of_a_job_from_its_beginning_to_its_end(served: Any, remote: RemoteStore) -> None:
    job = remote.submit(SPEC)
    run(served.store.claim(job.id), "inline")
    seen = list(events(remote, job.id, after=-1))
    assert isinstance(seen[0], JobChanged)
    assert isinstance(seen[-1], JobOver)
    assert seen[-1].job.state is JobState.SUCCEEDED
    trials = [t for e in seen if isinstance(e, TrialsFinished) for t in e.trials]
    assert trials == plain(list(served.store.finished(job.id)))
    with pytest.raises(KeyError):
        next(events(remote, "nothing", after=-1))


def test_events_end_with_the_patience_for_a_server_that_is_gone(served: Any) -> None:
    store = RemoteStore(Http(served.url, patience=1.0))
    told = events(store, store.submit(SPEC).id, after=-1)
    assert isinstance(next(told), JobChanged)
    served.stop()
    with pytest.raises(ApiError, match="no answer from") as caught:
        list(told)
    assert caught.value.code == "UNAVAILABLE"
    store.close()
