from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api import create_app
from nas.job import Job, JobSpec, JobState
from nas.storage import open_store
from nas.storage.memory import MemoryStore
from nas.trial import Broken, BrokenKind, Measured, Outcome, Proposal, Trial
from search_spaces.load import space_of
from tests.documents import CELLS


class Client:
    """HTTP requests to an application, without a socket."""

    def __init__(self, app: FastAPI, *, raises: bool = True) -> None:
        self.app = app
        self._raises = raises

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=self._raises)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, url, **options)

        return asyncio.run(send())

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.request("POST", url, **options)

    def patch(self, url: str, **options: Any) -> httpx.Response:
        return self.request("PATCH", url, **options)

    def delete(self, url: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", url, **options)


class Search:
    """A job on a store, driven by hand as a runner would drive it."""

    def __init__(self, store: Any, document: dict[str, Any] | None = None) -> None:
        self.store = store
        self.id: str = store.submit(JobSpec.parse(document or CELLS)).id
        self.space = space_of(self.job.spec.space)
        self.lease: Any = None

    @property
    def job(self) -> Job:
        return self.store.job(self.id)

    def open(self, n: int, seed: int = 0) -> list[Trial]:
        self.lease = self.lease or self.store.claim(self.id)
        return list(self.lease.open([Proposal(a) for a in self.space.sample(n, seed)]))

    def close(self, number: int, outcome: Outcome | None = None) -> None:
        if outcome is None:
            trial = self.lease.trials()[number]
            outcome = Measured(self.space.cost(trial.architecture))
        self.lease.close([(number, outcome)])

    def run(self, n: int, seed: int = 0) -> None:
        """Open `n` trials and close every one, each fifth as one that cannot be built."""
        for trial in self.open(n, seed):
            broken = Broken(BrokenKind.INFEASIBLE, "no path to the output")
            self.close(trial.number, broken if trial.number % 5 == 4 else None)

    def release(self, state: JobState, reason: str | None = None) -> None:
        self.lease.release(state, reason)
        self.lease = None


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryStore()
        return
    opened = open_store(f"sqlite:///{tmp_path}/nas.db")
    yield opened
    opened.close()


@pytest.fixture
def client(store: Any) -> Client:
    return Client(create_app(store))


@pytest.fixture
def search(store: Any) -> Search:
    return Search(store)


@pytest.fixture
def document() -> dict[str, Any]:
    return dict(CELLS)


@pytest.fixture(scope="session")
def new_client() -> type[Client]:
    return Client


@pytest.fixture
def new_search(store: Any) -> Any:
    return lambda document=None: Search(store, document)
