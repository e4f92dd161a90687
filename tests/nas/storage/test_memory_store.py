import pytest
from lease_contract import LeaseContract
from store_contract import StoreContract
from stored import Make

from nas.storage import open_store
from nas.storage.memory import MemoryStore

pytestmark = pytest.mark.law


class TestMemoryStore(StoreContract, LeaseContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda seconds: MemoryStore(lease_seconds=seconds)


def test_without_a_url_everything_is_kept_in_memory() -> None:
    store = open_store(None)
    assert isinstance(store, MemoryStore)
    store.close()
