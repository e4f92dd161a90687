"""What every list of exports must keep."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from stored import SPEC

from nas.contracts import LeaseLost, Submitter, TokenReused
from nas.exports import MAX_ATTEMPTS, ON_REQUEST, Export, ExportSpec, ExportState
from nas.job import WrongState

AT = 1234.5
ANNA, BEN = Submitter("vision", "anna"), Submitter("audio", "ben")


def spec_of(job_id: str, **changes: Any) -> ExportSpec:
    return ExportSpec.parse({"job": job_id, "trial": 3, **changes})


class ExportsContract:
    """Subclasses give the fixtures `store`, which holds no job yet, and `hasty`, whose leases last an instant."""

    def test_a_new_export_is_queued(self, store: Any) -> None:
        spec = spec_of(store.submit(SPEC).id, format="pt2", weights="final", data_licence="CC0 ☃")
        made = store.exports.add(spec)
        assert store.exports.export(made.id) == made
        assert (made.spec, made.state, made.attempt, made.reason) == (spec, ExportState.QUEUED, 0, None)
        assert made.created_at > 0

    def test_they_are_claimed_once_each_the_oldest_first(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        made = [store.exports.add(spec_of(job_id, trial=n)) for n in range(3)]
        claimed = [store.exports.claim() for _ in made]
        assert [c.id for c in claimed] == sorted(m.id for m in made)
        assert {(c.state, c.attempt) for c in claimed} == {(ExportState.RUNNING, 1)}
        assert store.exports.claim() is None
        assert store.exports.export(made[0].id) == claimed[0]

    def test_what_came_of_it_is_written_once(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        for _ in range(2):
            store.exports.add(spec_of(job_id))
        good, bad = store.exports.claim(), store.exports.claim()
        for ended in (good.succeeded(AT), bad.failed("accuracy ☃", AT)):
            store.exports.settle(ended)
            assert store.exports.export(ended.id) == ended
            with pytest.raises(LeaseLost):
                store.exports.settle(ended)
            with pytest.raises(LeaseLost):
                store.exports.renew(ended)
        assert store.exports.claim() is None

    def test_any_reason_can_be_kept(self, store: Any) -> None:
        store.exports.add(spec_of(store.submit(SPEC).id))
        store.exports.settle(store.exports.claim().failed("a\0b \ud800", AT))
        (export,) = store.exports.of_job(store.jobs()[0].id)
        assert "a" in export.reason

    def test_one_whose_runner_is_silent_is_claimed_again_and_only_the_last_can_write(self, hasty: Any) -> None:
        hasty.exports.add(spec_of(hasty.submit(SPEC).id))
        first = hasty.exports.claim()
        second = self.claimed_again(hasty)
        assert (second.id, second.attempt) == (first.id, 2)
        assert first.folder != second.folder
        for write in (lambda: hasty.exports.renew(first), lambda: hasty.exports.settle(first.succeeded(AT))):
            with pytest.raises(LeaseLost):
                write()
        hasty.exports.renew(second)
        hasty.exports.settle(second.succeeded(AT))
        assert hasty.exports.export(first.id) == second.succeeded(AT)

    def test_one_that_kills_its_runners_fails(self, hasty: Any) -> None:
        made = hasty.exports.add(spec_of(hasty.submit(SPEC).id))
        assert hasty.exports.claim().attempt == 1
        for attempt in range(2, MAX_ATTEMPTS + 1):
            assert self.claimed_again(hasty).attempt == attempt
        end = time.monotonic() + 20
        while not hasty.exports.export(made.id).state.over and time.monotonic() < end:
            assert hasty.exports.claim() is None
            time.sleep(0.01)
        found = hasty.exports.export(made.id)
        assert (found.state, found.attempt) == (ExportState.FAILED, MAX_ATTEMPTS)
        assert "the runner died while it ran" in found.reason

    def test_one_that_is_given_back_is_claimed_again_at_once_however_often(self, store: Any) -> None:
        made = store.exports.add(spec_of(store.submit(SPEC).id))
        for attempt in range(1, 2 * MAX_ATTEMPTS):
            claimed = store.exports.claim()
            assert (claimed.id, claimed.state, claimed.attempt) == (made.id, ExportState.RUNNING, attempt)
            store.exports.settle(claimed.given_back())
            found = store.exports.export(made.id)
            assert (found.state, found.reason, found.finished_at) == (ExportState.QUEUED, None, None)
        again = store.exports.claim()
        assert again.folder != claimed.folder
        for write in (store.exports.renew, lambda e: store.exports.settle(e.succeeded(AT))):
            with pytest.raises(LeaseLost):
                write(claimed)
        store.exports.settle(again.succeeded(AT))

    def test_giving_back_does_not_make_up_for_runners_that_died(self, hasty: Any) -> None:
        made = hasty.exports.add(spec_of(hasty.submit(SPEC).id))
        hasty.exports.settle(hasty.exports.claim().given_back())
        for attempt in range(2, MAX_ATTEMPTS + 2):
            assert self.claimed_again(hasty).attempt == attempt
        end = time.monotonic() + 20
        while not hasty.exports.export(made.id).state.over and time.monotonic() < end:
            assert hasty.exports.claim() is None
            time.sleep(0.01)
        assert hasty.exports.export(made.id).state is ExportState.FAILED

    def test_one_that_waits_or_runs_can_be_cancelled(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        runs, waits = (store.exports.add(spec_of(job_id)) for _ in range(2))
        claimed = store.exports.claim()
        for export in (runs, waits, runs):
            cancelled = store.exports.cancel(export.id)
            assert (cancelled.state, cancelled.reason) == (ExportState.CANCELLED, ON_REQUEST)
            assert cancelled.finished_at is not None
            assert store.exports.export(export.id) == cancelled
        assert store.exports.claim() is None
        for write in (store.exports.renew, lambda e: store.exports.settle(e.succeeded(AT))):
            with pytest.raises(LeaseLost):
                write(claimed)
        assert store.exports.export(runs.id).state is ExportState.CANCELLED

    def test_what_is_over_cannot_be_cancelled(self, store: Any) -> None:
        store.exports.add(spec_of(store.submit(SPEC).id))
        claimed = store.exports.claim()
        store.exports.settle(claimed.succeeded(AT))
        with pytest.raises(WrongState, match="SUCCEEDED cannot be cancelled"):
            store.exports.cancel(claimed.id)
        with pytest.raises(KeyError):
            store.exports.cancel("nowhere")
        assert store.exports.export(claimed.id) == claimed.succeeded(AT)

    def test_projects_take_turns(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        annas = [store.exports.add(spec_of(job_id), ANNA).id for _ in range(3)]
        bens = [store.exports.add(spec_of(job_id), BEN).id for _ in range(2)]
        served = []
        for _ in range(5):  # by one runner, one after the other
            claimed = store.exports.claim()
            served.append(claimed.id)
            store.exports.settle(claimed.succeeded(AT))
        assert served == [annas[0], bens[0], annas[1], bens[1], annas[2]]

    def test_the_project_with_the_fewest_in_hand_comes_first(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        annas = [store.exports.add(spec_of(job_id), ANNA).id for _ in range(2)]
        assert store.exports.claim().id == annas[0]  # and it is kept in hand
        bens = [store.exports.add(spec_of(job_id), BEN).id for _ in range(2)]
        for ben in bens:
            claimed = store.exports.claim()
            assert claimed.id == ben
            store.exports.settle(claimed.succeeded(AT))
        assert store.exports.claim().id == annas[1]

    def test_a_token_stands_for_one_export(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        spec, by = spec_of(job_id), Submitter("vision", "anna", "t", "digest")
        assert store.exports.asked(by) is None
        made = store.exports.add(spec, by)
        assert store.exports.add(spec, by) == store.exports.asked(by) == made
        claimed = store.exports.claim()
        assert store.exports.add(spec, by) == claimed
        with pytest.raises(TokenReused):
            store.exports.add(spec, Submitter("vision", "anna", "t", "other"))
        with pytest.raises(TokenReused):
            store.exports.asked(Submitter("vision", "carl", "t", "other"))
        others = [store.exports.add(spec, Submitter("audio", "ben", "t", "other")), store.exports.add(spec, ANNA)]
        assert len({made.id, *(o.id for o in others), store.exports.add(spec, ANNA).id}) == 4
        store.delete(job_id)
        assert store.exports.asked(by) is None

    def test_of_many_with_one_token_at_once_there_is_one(self, store: Any) -> None:
        spec, by = spec_of(store.submit(SPEC).id), Submitter("vision", "anna", "t", "digest")
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _: store.exports.add(spec, by), range(8)))
        assert len({e.id for e in made}) == len(store.exports.of_job(spec.job)) == 1

    def test_of_a_job_they_come_newest_first_and_in_pages(self, store: Any) -> None:
        one, other = store.submit(SPEC).id, store.submit(SPEC).id
        made = [store.exports.add(spec_of(one, trial=n)) for n in range(5)]
        store.exports.add(spec_of(other))
        newest = sorted(made, key=lambda e: e.id, reverse=True)
        assert list(store.exports.of_job(one)) == newest
        assert list(store.exports.of_job(one, limit=2)) == newest[:2]
        assert list(store.exports.of_job(one, newest[1].id, 2)) == newest[2:4]
        assert list(store.exports.of_job("nowhere")) == []

    def test_with_its_job_an_export_is_forgotten(self, store: Any) -> None:
        job_id, other = store.submit(SPEC).id, store.submit(SPEC).id
        gone, stays = store.exports.add(spec_of(job_id)), store.exports.add(spec_of(other))
        claimed = store.exports.claim()
        store.delete(job_id)
        with pytest.raises(KeyError):
            store.exports.export(gone.id)
        for write in (store.exports.renew, lambda e: store.exports.settle(e.succeeded(AT))):
            with pytest.raises(LeaseLost):
                write(claimed)
        assert store.exports.claim().id == stays.id

    def test_without_a_job_there_is_no_export(self, store: Any) -> None:
        with pytest.raises(KeyError):
            store.exports.add(spec_of("nowhere"))
        with pytest.raises(KeyError):
            store.exports.export("nowhere")

    def test_of_many_who_claim_at_once_each_has_another(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        made = [store.exports.add(spec_of(job_id)) for _ in range(6)]
        with ThreadPoolExecutor(8) as pool:
            claimed = [e for e in pool.map(lambda _: store.exports.claim(), range(12)) if e is not None]
        assert len({e.id for e in claimed}) == len(claimed)
        assert {e.id for e in claimed} <= {e.id for e in made}

    def claimed_again(self, store: Any) -> Export:
        """Once the lease has run out, and not before."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            export: Export | None = store.exports.claim()
            if export is not None:
                return export
            time.sleep(0.01)
        raise AssertionError("the lease has not run out")
