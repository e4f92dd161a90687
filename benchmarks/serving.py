"""What `benchmarks.service` measures with: databases of its own, a process of the API, and listeners."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
import psutil

SERVER = "NAS_TEST_POSTGRES_URL"
"""Of a PostgreSQL server, on which a database is made, and dropped at the end."""
PATIENCE = 120.0
"""Seconds for a process to start, or a stream to end."""


@contextmanager
def databases(count: int = 1) -> Iterator[Mapping[str, tuple[str, ...]]]:
    """URLs of so many empty databases, by the kind: SQLite files, and on PostgreSQL where a server is named."""
    with tempfile.TemporaryDirectory() as folder:
        found = {"SQLite": tuple(f"sqlite:///{folder}/{i}.db" for i in range(count))}
        server = os.environ.get(SERVER)
        if not server:
            yield found
            return
        with _on_server(server, [f"nas_bench_{uuid.uuid4().hex[:12]}" for _ in range(count)]) as urls:
            yield {**found, "PostgreSQL": urls}


@contextmanager
def _on_server(server: str, names: list[str]) -> Iterator[tuple[str, ...]]:
    import sqlalchemy as sa

    url = sa.make_url(server)
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for name in names:
                connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
        yield tuple(url.set(database=n, drivername="postgresql").render_as_string(False) for n in names)
    finally:
        with engine.connect() as connection:
            for name in names:
                connection.execute(sa.text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        engine.dispose()


@dataclass(frozen=True)
class Api:
    """A running process of the API."""

    process: psutil.Process
    port: int
    client: httpx.Client

    def timed(self, path: str, **query: str | int) -> tuple[float, float]:
        """Milliseconds until the answer is here, and those of CPU time that the process spent on it."""
        before, begun = self.spent(), time.perf_counter()
        self.client.get(path, params=query).raise_for_status()
        return 1e3 * (time.perf_counter() - begun), 1e3 * (self.spent() - before)

    def spent(self) -> float:
        """Seconds of CPU time so far; the system counts hundredths."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    @property
    def megabytes(self) -> float:
        """Of memory that the process holds."""
        return float(self.process.memory_info().rss) / 2**20


@contextmanager
def api(database: str) -> Iterator[Api]:
    """A fresh process that serves a database, without a limit of requests; it has answered `/readyz`, no more."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    started = subprocess.Popen(
        [sys.executable, "-m", "api", "--port", str(port)],
        env={**os.environ, "NAS_DATABASE_URL": database, "NAS_AUTH": "off", "NAS_RATE_LIMIT": "0"},
        cwd=Path(__file__).parents[1],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            _until(lambda: started.poll() is None and _answers(client))
            yield Api(psutil.Process(started.pid), port, client)
    finally:
        started.terminate()
        started.wait(PATIENCE)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False


def _until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError("the API did not start")
        time.sleep(0.05)


@contextmanager
def listeners(port: int, job_id: str, count: int) -> Iterator[Connection]:
    """A process with so many listeners, who are all there; it sends how many were told of the job's end."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_listen, args=(port, job_id, count, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(PATIENCE):
            raise TimeoutError("the listeners did not come")
        ours.recv()
        yield ours
    finally:
        process.terminate()
        process.join()


def _listen(port: int, job_id: str, count: int, told: Connection) -> None:
    told.send(asyncio.run(_all_to_the_end(port, job_id, count, told)))


async def _all_to_the_end(port: int, job_id: str, count: int, told: Connection) -> int:
    streams = await asyncio.gather(*(_opened(port, job_id) for _ in range(count)))
    told.send(len(streams))
    return sum(await asyncio.gather(*(_to_the_end(*stream) for stream in streams)))


async def _opened(port: int, job_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    path = f"/v1/jobs/{job_id}/events?after=-1"
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    await reader.readuntil(b"event: job")
    return reader, writer


async def _to_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Read and forget: listeners share the machine with what is measured. Whether the job's end came."""
    tail = b""
    while part := await reader.read(1 << 18):
        tail = (tail + part)[-(1 << 14) :]
    writer.close()
    return b"event: end" in tail
