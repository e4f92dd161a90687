"""What every list of exports must keep."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from store_contract import SPEC

from nas.contracts import LeaseLost
from nas.exports import MAX_ATTEMPTS, Export, ExportSpec, ExportState

AT = 1234.5


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
