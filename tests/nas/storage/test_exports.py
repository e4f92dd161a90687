from collections.abc import Iterator
from typing import Any

import pytest
from exports_contract import AT, ExportsContract, spec_of

from nas.exports import Export, ExportSpec, ExportState
from nas.storage import open_store
from nas.storage.memory import MemoryStore
from search_spaces import SpecError

INSTANT = 0.2


class TestMemoryExports(ExportsContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()

    @pytest.fixture
    def hasty(self) -> MemoryStore:
        return MemoryStore(lease_seconds=INSTANT)


class TestSqlExports(ExportsContract):
    @pytest.fixture
    def store(self, database: str) -> Iterator[Any]:
        opened = open_store(database)
        yield opened
        opened.close()

    @pytest.fixture
    def hasty(self, database: str) -> Iterator[Any]:
        opened = open_store(database, lease_seconds=INSTANT)
        yield opened
        opened.close()


def test_only_legal_transitions() -> None:
    queued = Export("e", spec_of("j"))
    running = queued.claimed(AT)
    for over in (running.succeeded(AT), running.failed("why", AT), running.cancelled(AT), queued.cancelled(AT)):
        assert over.state.over
        for again in (
            over.claimed,
            over.succeeded,
            lambda at, over=over: over.failed("x", at),
            lambda at, over=over: over.given_back(),
        ):
            with pytest.raises(ValueError, match=f"{over.state}"):
                again(AT)
    for early in (queued.succeeded, lambda at: queued.given_back()):
        with pytest.raises(ValueError, match="QUEUED"):
            early(AT)
    assert running.given_back().state is ExportState.QUEUED
    assert (running.state, running.attempt) == (ExportState.RUNNING, 1)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"trial": 1}, "job"),
        ({"job": "j"}, "trial"),
        ({"job": "j", "trial": -1}, "trial"),
        ({"job": "j", "trial": "first"}, "trial"),
        ({"job": "j", "trial": 1, "format": "tflite"}, "format"),
        ({"job": "j", "trial": 1, "weights": "best"}, "weights"),
        ({"job": "j", "trial": 1, "data_licence": "a\nb"}, "data_licence"),
        ({"job": "j", "trial": 1, "path": "/etc"}, "path"),
        ({"job": "../j", "trial": 1}, "job"),
    ],
)
def test_a_wrong_document_is_told_with_its_path(document: dict[str, Any], path: str) -> None:
    with pytest.raises(SpecError) as refused:
        ExportSpec.parse(document)
    assert [fault.path for fault in refused.value.faults] == [path]
