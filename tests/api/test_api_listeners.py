"""Event streams belong to a key or an address: so many at once, and none that outlives the key."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import create_app, listeners
from api.guard import Guard
from nas.access import ApiKey, Role, new_key
from nas.contracts import Submitter
from nas.job import JobSpec
from nas.storage import DatabaseError, open_store
from nas.storage.memory import MemoryStore
from tests.waiting import free_port, until

DOCUMENT = {"space": "nas-bench-201", "objectives": ["max macs"], "searcher": "random", "evaluator": "cost"}
MOST = 3
PATIENCE = 30.0


class Server:
    """The API as a process of its own, which asks for keys, on a database that this process writes."""

    def __init__(self, folder: Path, port: int) -> None:
        database = f"sqlite:///{folder}/nas.db"
        self.store = open_store(database)
        self.job = self.store.submit(JobSpec.parse(DOCUMENT), by=Submitter("default", "al"), queued=False).id
        self.url = f"http://127.0.0.1:{port}"
        settings = {"NAS_DATABASE_URL": database, "NAS_AUTH": "keys", "NAS_EVENT_STREAMS": str(MOST)}
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "api", "--port", str(port)],
                env={**os.environ, **settings},
                stderr=log,
                stdout=log,
            )

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def key(self, name: str, **changes: Any) -> dict[str, str]:
        key, text = new_key(name, Role.VIEWER, "default", time.time())
        self.store.keys.add(replace(key, **changes))
        return {"Authorization": f"Bearer {text}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("listeners"), free_port())
    try:
        until(started.answers)
        yield started
    finally:
        started.process.kill()
        started.process.wait(10)
        started.store.close()


@pytest.fixture
def stream(server: Server) -> Iterator[Callable[..., httpx.Response]]:
    """Opens a stream of the job's events, which stays open until the test ends."""
    with ExitStack() as opened:
        client = opened.enter_context(httpx.Client(base_url=server.url, timeout=PATIENCE))

        def begin(headers: dict[str, str], timeout: float = PATIENCE) -> httpx.Response:
            how = client.stream("GET", f"/v1/jobs/{server.job}/events", headers=headers, timeout=timeout)
            return opened.enter_context(how)

        yield begin


def ends(answer: httpx.Response) -> bool:
    """Wait until the stream ends, as streams end and not cut off."""
    return b"event: job" in b"".join(answer.iter_raw())


def test_a_revoked_key_ends_its_streams_and_no_others(server: Server, stream: Any) -> None:
    mine, another = server.key("revoked"), server.key("stays")
    streams = [stream(mine) for _ in range(2)]
    kept = stream(another, timeout=1.0)
    assert {answer.status_code for answer in (*streams, kept)} == {200}
    server.store.keys.revoke("revoked", time.time())
    assert all(map(ends, streams))
    with pytest.raises(httpx.ReadTimeout):  # it is open, and nothing happens
        ends(kept)


def test_a_key_that_expires_ends_its_streams(server: Server, stream: Any) -> None:
    answer = stream(server.key("expires", expires_at=time.time() + 2.0))
    assert answer.status_code == 200
    assert ends(answer)


def test_a_key_holds_so_many_streams_and_one_more_once_it_closed_one(server: Server, stream: Any) -> None:
    mine = server.key("greedy")
    streams = [stream(mine) for _ in range(MOST)]
    assert [answer.status_code for answer in streams] == [200] * MOST
    refused = stream(mine)
    refused.read()
    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (429, "RESOURCE_EXHAUSTED")
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["retry-after"] in problem["detail"]
    assert stream(server.key("modest")).status_code == 200, "each key has its own"
    assert httpx.get(f"{server.url}/v1/jobs", headers=mine).status_code == 200, "other requests go on"
    streams[0].close()
    until(lambda: stream(mine).status_code == 200)


def test_what_is_refused_holds_no_stream(server: Server, stream: Any) -> None:
    mine = server.key("careless")
    for _ in range(2 * MOST):
        events = f"{server.url}/v1/jobs/{server.job}/events"
        assert httpx.get(f"{events}?after=-7", headers=mine).status_code == 422
        assert httpx.get(f"{server.url}/v1/jobs/0123abc/events", headers=mine).status_code == 404
        assert httpx.get(events, headers={**mine, "Last-Event-ID": "x"}).status_code == 400
    assert [stream(mine).status_code for _ in range(MOST)] == [200] * MOST


class Watched:
    """Keys that count how often they are looked up, and may be away."""

    def __init__(self, store: MemoryStore) -> None:
        self.store, self.asked, self.away = store, 0, False

    def get(self, key_id: str) -> ApiKey | None:
        self.asked += 1
        if self.away:
            raise DatabaseError("the database is away")
        return self.store.keys.get(key_id)


def test_one_look_serves_all_streams_of_a_key_and_the_last_stream_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setattr(listeners, "LOOK", 0.05)
    store = MemoryStore()
    keys = Watched(store)
    app = create_app(store, Guard(keys=keys))  # type: ignore[arg-type]
    job = store.submit(JobSpec.parse(DOCUMENT), queued=False)
    key, _ = new_key("al", Role.VIEWER, "default", time.time())
    store.keys.add(key)

    async def listen() -> None:
        with app.state.listeners.admitted(key, "") as holder:
            async for _ in app.state.watches.events(job, -1, lambda: holder.over):
                pass

    async def main() -> None:
        tasks = [asyncio.create_task(listen()) for _ in range(100)]
        await asyncio.sleep(0.5)
        assert 2 <= keys.asked < len(tasks)
        keys.away = True
        await asyncio.sleep(0.2)
        assert not any(t.done() for t in tasks), "a database that is away ends nothing"
        keys.away = False
        store.keys.revoke("al", time.time())
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        asked = keys.asked
        await asyncio.sleep(0.2)
        assert keys.asked == asked

    asyncio.run(main())
    assert not app.state.listeners._holders


def test_without_keys_an_address_holds_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    from api.problems import Refused

    app = create_app(MemoryStore(), Guard(streams=2))
    with ExitStack() as held:
        for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2"):
            held.enter_context(app.state.listeners.admitted(None, address))
        with pytest.raises(Refused, match="this address holds 2 event streams"):
            held.enter_context(app.state.listeners.admitted(None, "10.0.0.1"))
    with app.state.listeners.admitted(None, "10.0.0.1"):
        pass


def test_by_default_there_is_room_for_the_listeners_of_the_benchmark() -> None:
    from nas.settings import Settings

    assert Settings.model_fields["event_streams"].default == Guard().streams >= 200
