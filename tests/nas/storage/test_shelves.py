from collections.abc import Iterator
from typing import Any

import pytest
from shelf_contract import QUALITY, ShelfContract
from stored import SPEC

from nas.fitted import FittedPredictor
from nas.storage import open_store
from nas.storage.memory import MemoryStore


class TestMemoryShelf(ShelfContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class TestSqlShelf(ShelfContract):
    @pytest.fixture
    def store(self, database: str) -> Iterator[Any]:
        opened = open_store(database)
        yield opened
        opened.close()

    def test_another_process_would_see_the_same(self, store: Any, database: str) -> None:
        made = store.shelf.add(store.submit(SPEC).id, ["accuracy"], 3)
        other = open_store(database)
        other.shelf.settle(made.ready(QUALITY))
        assert store.shelf.predictor(made.id) == other.shelf.predictor(made.id) == made.ready(QUALITY)
        other.close()


def test_a_predictor_is_settled_once() -> None:
    made = FittedPredictor("p", "j", ("accuracy",), 10)
    for settled in (made.ready({}), made.failed("why")):
        for again in (lambda settled=settled: settled.ready({}), lambda settled=settled: settled.failed("x")):
            with pytest.raises(ValueError, match="already"):
                again()
