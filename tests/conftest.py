"""What tests share: where benchmark data lies, and which databases there are."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, make_url, text

if TYPE_CHECKING:
    from nas.storage.memory import MemoryStore

sys.path.insert(0, str(Path(__file__).parent / "contracts"))  # classes that several test files share

settings.register_profile(
    "nas",
    deadline=None,  # a timing never decides a test
    max_examples=60,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],  # contracts have subclasses
)
settings.load_profile("nas")

SHARED = Path(__file__).parents[2] / "shared" / "data"


def _give_memory_back() -> None:
    """What networks have left behind: the C library keeps it for later, in sum more than a gigabyte."""
    gc.collect()
    with suppress(AttributeError):  # of glibc alone
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(autouse=True, scope="module")
def _memory_of_the_module() -> Iterator[None]:
    yield
    _give_memory_back()


@pytest.fixture
def large_networks() -> Iterator[None]:
    """For a test that builds some: their memory is given back right after it."""
    yield
    _give_memory_back()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public benchmark tables; a test that needs it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"benchmark tables are not at {SHARED}")
    return SHARED


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database that is this test's own: a SQLite file, and one on the PostgreSQL server given."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/nas.db"
        return
    server = os.environ.get("NAS_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("NAS_TEST_POSTGRES_URL names no PostgreSQL server")
    name = f"nas_test_{uuid.uuid4().hex[:12]}"
    engine = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    try:
        yield make_url(str(server)).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        engine.dispose()


@pytest.fixture(scope="module")
def searched() -> MemoryStore:
    """A store with a job that has trained a network of digits."""
    from nas.job import JobSpec
    from nas.runner import run
    from nas.storage.memory import MemoryStore
    from tests.documents import DIGITS

    store = MemoryStore()
    lease = store.claim(store.submit(JobSpec.parse(DIGITS)).id)
    assert lease is not None
    run(lease, "inline")
    return store
