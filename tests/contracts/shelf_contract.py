"""What every shelf of predictors must keep."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from stored import SPEC

from nas.fitted import FitState

Make = Callable[[], Any]
QUALITY = {"predictor_quality": [{"metric": "accuracy", "kendall": {"value": 0.25}}], "remarks": ["so ☃"]}


class ShelfContract:
    """Subclasses give the fixture `store`: a store that holds no job yet."""

    def test_a_new_predictor_is_fitting(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        made = store.shelf.add(job_id, ["accuracy", "params"], 17)
        assert store.shelf.predictor(made.id) == made
        assert (made.job_id, made.metrics, made.trials) == (job_id, ("accuracy", "params"), 17)
        assert (made.state, made.reason, made.quality) == (FitState.FITTING, None, None)
        assert made.created_at > 0

    def test_what_came_of_it_is_written_once(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        good, bad = (store.shelf.add(job_id, ["accuracy"], 17) for _ in range(2))
        store.shelf.settle(good.ready(QUALITY))
        store.shelf.settle(bad.failed("too few ☃"))
        for predictor, other in ((good, good.failed("late")), (bad, bad.ready(QUALITY))):
            before = store.shelf.predictor(predictor.id)
            store.shelf.settle(other)
            assert store.shelf.predictor(predictor.id) == before
        assert store.shelf.predictor(good.id) == good.ready(QUALITY)
        assert store.shelf.predictor(bad.id) == bad.failed("too few ☃")

    def test_any_reason_can_be_kept(self, store: Any) -> None:
        made = store.shelf.add(store.submit(SPEC).id, ["accuracy"], 1)
        store.shelf.settle(made.failed("a\0b \ud800"))
        assert "a" in store.shelf.predictor(made.id).reason

    def test_of_a_job_they_come_newest_first_and_in_pages(self, store: Any) -> None:
        one, other = store.submit(SPEC).id, store.submit(SPEC).id
        made = [store.shelf.add(one, ["accuracy"], n) for n in range(5)]
        store.shelf.add(other, ["accuracy"], 9)
        newest = sorted(made, key=lambda p: p.id, reverse=True)
        assert list(store.shelf.of_job(one)) == newest
        assert list(store.shelf.of_job(one, limit=2)) == newest[:2]
        assert list(store.shelf.of_job(one, newest[1].id, 2)) == newest[2:4]
        assert list(store.shelf.of_job(one, newest[-1].id)) == []
        assert list(store.shelf.of_job("nowhere")) == []

    def test_a_removed_one_is_gone(self, store: Any) -> None:
        job_id = store.submit(SPEC).id
        gone, stays = (store.shelf.add(job_id, ["accuracy"], 3) for _ in range(2))
        store.shelf.remove(gone.id)
        assert list(store.shelf.of_job(job_id)) == [stays]
        self.is_not_there(store, gone)

    def test_with_its_job_a_predictor_is_forgotten(self, store: Any) -> None:
        job_id, other = store.submit(SPEC).id, store.submit(SPEC).id
        gone, stays = store.shelf.add(job_id, ["accuracy"], 3), store.shelf.add(other, ["accuracy"], 3)
        store.delete(job_id)
        assert list(store.shelf.of_job(job_id)) == []
        assert store.shelf.predictor(stays.id) == stays
        self.is_not_there(store, gone)

    def test_without_a_job_there_is_no_predictor(self, store: Any) -> None:
        with pytest.raises(KeyError):
            store.shelf.add("nowhere", ["accuracy"], 3)

    def test_of_many_who_settle_at_once_one_is_heard(self, store: Any) -> None:
        made = store.shelf.add(store.submit(SPEC).id, ["accuracy"], 3)
        ends = [made.failed(str(n)) for n in range(8)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(store.shelf.settle, ends))
        assert store.shelf.predictor(made.id) in ends

    def is_not_there(self, store: Any, predictor: Any) -> None:
        for act in (
            lambda: store.shelf.predictor(predictor.id),
            lambda: store.shelf.remove(predictor.id),
            lambda: store.shelf.settle(predictor.ready(QUALITY)),
        ):
            with pytest.raises(KeyError):
                act()
