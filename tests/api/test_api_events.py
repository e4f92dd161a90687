from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from api import create_app, watches
from nas.job import JobState
from nas.storage import open_store
from nas.trial import Broken, BrokenKind
from nas.wire import job_dict, trial_dict

PATIENCE = 30.0


def wait(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)


@dataclass
class Server:
    """The API as a process of its own, on a database that this process writes."""

    url: str
    process: subprocess.Popen[bytes]
    store: Any


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = start(tmp_path_factory.mktemp("events"))
    yield started
    stop(started)


def start(folder: Path) -> Server:
    database = f"sqlite:///{folder}/nas.db"
    store = open_store(database)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {**os.environ, "NAS_DATABASE_URL": database}
    command = [sys.executable, "-m", "api", "--port", str(port)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=settings, stderr=log, stdout=log)
    url = f"http://127.0.0.1:{port}"
    wait(lambda: answers(url), 60)
    return Server(url, process, store)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def stop(server: Server) -> None:
    server.process.kill()
    server.process.wait(10)
    server.store.close()


class Listener(threading.Thread):
    """Reads the events of a job until the stream ends, or until so many trials have come."""

    def __init__(self, server: Server, job_id: str, last: int | None = None, trials: float = 1e9, **query: Any):
        super().__init__(daemon=True)
        self._url = f"{server.url}/v1/jobs/{job_id}/events"
        self._headers = {} if last is None else {"Last-Event-ID": str(last)}
        self._query, self._enough = query, trials
        self.events: list[ServerSentEvent] = []
        self.start()

    def run(self) -> None:
        with (
            suppress(httpx.RemoteProtocolError),  # a server that stops cuts its streams off
            httpx.Client(timeout=PATIENCE) as client,
            connect_sse(client, "GET", self._url, headers=self._headers, params=self._query) as source,
        ):
            for event in source.iter_sse():
                self.events.append(event)
                if len(self.trials) >= self._enough:
                    return

    @property
    def kinds(self) -> list[str]:
        return [e.event for e in self.events]

    @property
    def trials(self) -> list[dict[str, Any]]:
        return [t for e in self.events if e.event == "trials" for t in json.loads(e.data)["trials"]]

    @property
    def orders(self) -> list[int]:
        return [t["order"] for t in self.trials]

    def listens(self) -> bool:
        return bool(self.events)

    def finish(self) -> None:
        self.join(PATIENCE)
        assert not self.is_alive()


@pytest.fixture
def new_job(server: Server, search: Any) -> Any:
    kind = type(search)
    return lambda: kind(server.store)


@pytest.fixture
def store(server: Server) -> Any:
    return server.store


def test_a_listener_sees_the_job_its_trials_and_the_end(server, search):
    search.open(5)
    listener = Listener(server, search.id)
    wait(listener.listens)
    for number in (3, 0, 4):
        search.close(number)
    wait(lambda: len(listener.trials) == 3)
    server.store.request(search.id, "cancel")
    wait(lambda: listener.kinds.count("job") == 2)
    search.release(JobState.CANCELLED)
    listener.finish()
    stored = server.store.finished(search.id)
    assert listener.trials == [trial_dict(t, search.id) for t in stored]
    assert [t.number for t in stored[:3]] == [3, 0, 4]
    states = [json.loads(e.data)["state"] for e in listener.events if e.event == "job"]
    assert states[:2] == ["RUNNING", "CANCELLING"]
    assert listener.kinds[-1] == "end"
    assert json.loads(listener.events[-1].data) == job_dict(search.job)
    assert [e.id for e in listener.events if e.event == "trials"][-1] == str(stored[-1].order)


def test_a_listener_begins_where_it_says(server, search):
    search.run(6)
    now, all_of_them, some = (Listener(server, search.id, **q) for q in ({}, {"after": -1}, {"after": 3}))
    resumed = Listener(server, search.id, last=4, after=-1)
    wait(lambda: all(x.listens() for x in (now, all_of_them, some, resumed)))
    assert now.events[0].id == "5"
    search.run(1, seed=1)
    search.release(JobState.SUCCEEDED)
    for listener, first in ((now, 6), (all_of_them, 0), (some, 4), (resumed, 5)):
        listener.finish()
        assert listener.orders == list(range(first, 7))


def test_a_job_that_is_over_is_told_at_once(server, search):
    search.run(450)  # more than a batch holds
    search.release(JobState.SUCCEEDED)
    listener = Listener(server, search.id, after=-1)
    listener.finish()
    assert listener.orders == list(range(450))
    assert (listener.kinds[0], listener.kinds[-1]) == ("job", "end")
    assert Listener(server, search.id).finish() is None


def test_a_listener_that_comes_again_and_again_loses_nothing_and_sees_nothing_twice(server, search):
    count = 150
    trials = search.open(count)

    def work() -> None:
        for trial in trials:
            search.close(trial.number, Broken(BrokenKind.INFEASIBLE, "no path"))
        search.release(JobState.SUCCEEDED)

    worker = threading.Thread(target=work, daemon=True)
    steady = Listener(server, search.id, after=-1)
    wait(steady.listens)
    worker.start()
    seen, last, ended = [], -1, False
    while not ended:
        listener = Listener(server, search.id, last=last, trials=17)
        listener.finish()
        ids = [int(e.id) for e in listener.events if e.event == "trials"]
        seen += listener.orders
        last = ids[-1] if ids else last
        ended = "end" in listener.kinds
    worker.join(PATIENCE)
    steady.finish()
    assert seen == steady.orders == list(range(count))


def test_many_listeners_are_sent_the_same_by_one_watch(server, new_job):
    search = new_job()
    search.open(30)
    listeners = [Listener(server, search.id, after=-1) for _ in range(20)]
    wait(lambda: all(x.listens() for x in listeners))
    for number in range(30):
        search.close(number)
    search.release(JobState.SUCCEEDED)
    for listener in listeners:
        listener.finish()
        assert listener.orders == list(range(30))
        assert listener.kinds[-1] == "end"


@pytest.mark.parametrize(
    ("header", "query"), [("x", ""), ("-2", ""), ("1e3", ""), (None, "?after=-2"), (None, "?aft=1")]
)
def test_a_position_that_cannot_be(server, search, header, query):
    headers = {} if header is None else {"Last-Event-ID": header}
    answer = httpx.get(f"{server.url}/v1/jobs/{search.id}/events{query}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422 if query else 400, "INVALID_ARGUMENT")


def test_the_events_of_a_job_that_is_not_there(server):
    assert httpx.get(f"{server.url}/v1/jobs/0123abc/events").status_code == 404


def test_a_deleted_job_ends_its_streams(server, search):
    listener = Listener(server, search.id)
    wait(listener.listens)
    server.store.delete(search.id)
    listener.finish()
    assert listener.kinds == ["job"]


def test_a_server_that_is_asked_to_stop_does_not_wait_for_its_listeners(tmp_path, search):
    server = start(tmp_path)
    try:
        job = type(search)(server.store)
        listeners = [Listener(server, job.id) for _ in range(3)]
        wait(lambda: all(x.listens() for x in listeners))
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(PATIENCE)
        for listener in listeners:
            listener.join(PATIENCE)
    finally:
        stop(server)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_one_watch_looks_for_all_and_stops_with_the_last(search, monkeypatch):
    import asyncio

    monkeypatch.setattr(watches, "TICK", 0.01)
    app = create_app(search.store)
    looks, read = [], []
    job, finished = search.store.job, search.store.finished
    monkeypatch.setattr(search.store, "job", lambda name: looks.append(name) or job(name))
    monkeypatch.setattr(search.store, "finished", lambda *a: read.append(a) or finished(*a))
    search.open(10)
    now = job(search.id)

    async def listen(texts: list[bytes]) -> None:
        async for text in app.state.watches.events(now, -1):
            texts.append(text)  # noqa: PERF401 - seen as they come

    async def main() -> list[list[bytes]]:
        heard: list[list[bytes]] = [[] for _ in range(50)]
        tasks = [asyncio.create_task(listen(texts)) for texts in heard]
        await asyncio.sleep(0)
        for number in range(10):
            search.close(number)
            looked = len(looks)
            while len(looks) < looked + 3:
                await asyncio.sleep(0.001)
        search.release(JobState.SUCCEEDED)
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
        return heard

    heard = asyncio.run(main())
    assert len(read) == 10  # one for every trial, not for every listener
    assert all(texts == heard[0] for texts in heard)
    batches = [text for text in heard[0] if b"event: trials" in text]
    assert all(any(text is mine for mine in heard[-1]) for text in batches)  # the same bytes, not equal ones
    assert not app.state.watches._watches
    assert len([t for t in looks if t == search.id]) < 200
