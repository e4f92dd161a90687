from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import uvicorn

from api import create_app
from nas.storage.memory import MemoryStore

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Stub:
    """Something that speaks HTTP: it gives these answers, the last of them for ever; None: it hangs up."""

    answers: list[Answer | None]
    url: str = ""
    seen: list[Seen] = field(default_factory=list)

    def answer(self) -> Answer | None:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            stub.seen.append(Seen(self.command, self.path, headers, body))
            found = stub.answer()
            if found is None:
                self.close_connection = True
                return
            status, extra, content = found
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **extra}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    stub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def stubbed() -> Iterator[Callable[..., Stub]]:
    """Starts stubs, which end with the test."""
    with ExitStack() as stack:
        yield lambda *answers: stack.enter_context(serving(Stub(list(answers))))


class Served:
    """A store in memory behind the real HTTP API, on a socket, in this process."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        config = uvicorn.Config(create_app(self.store), host="127.0.0.1", port=0, log_level="warning")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        end = time.monotonic() + 30
        while not self._server.started and time.monotonic() < end:
            time.sleep(0.02)
        assert self._server.started
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(timeout=30)


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.stop()
