"""Devices: real commands and a real HTTP server, with all that they may do instead of answering."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.latency.asked import MOST, NoAnswer
from nas.latency.devices import Device, device, devices, names
from search_spaces import SpecError

FILE = b"\x08\x0aonnx" * 50_000


def command(code: str, *arguments: str, timeout: float = 20) -> Device:
    return Device(command=(sys.executable, "-c", code, *arguments), timeout=timeout)


class Board(BaseHTTPRequestHandler):
    """Answers by its path."""

    seen: ClassVar[list[tuple[str | None, bytes]]] = []
    leave: ClassVar[threading.Event]
    answers: ClassVar[dict[str, Callable[[Board], None]]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        Board.seen.append((self.headers.get("Authorization"), body))
        Board.answers[self.path](self)

    def answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def drip(self) -> None:
        """A byte at a time, each in time, without end."""
        self.send_response(200)
        self.end_headers()
        while not Board.leave.wait(0.05):
            self.wfile.write(b" ")

    def drip_headers(self) -> None:
        """The same within the head of the answer."""
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Waiting: ")
        while not Board.leave.wait(0.05):
            self.wfile.write(b"x")

    def log_message(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


Board.answers = {
    "/fast": lambda board: board.answer(b'{"latency_ms": 1.5, "chip": "x1"}'),
    "/silent": lambda board: Board.leave.wait(30) and None,
    "/drip": Board.drip,
    "/drip-headers": Board.drip_headers,
    "/garbage": lambda board: board.answer(b"<html>busy</html>"),
    "/negative": lambda board: board.answer(b'{"latency_ms": -2}'),
    "/error": lambda board: board.answer(b'{"latency_ms": 2}', 503),
    "/moved": lambda board: board.answer(b"", 302),
    "/large": lambda board: board.answer(b" " * (MOST + 1)),
    "/cut": lambda board: board.connection.shutdown(2),
}


@pytest.fixture
def board() -> Iterator[str]:
    Board.seen, Board.leave = [], threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Board)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Board.leave.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_command_gets_the_file_by_its_path_or_on_its_input() -> None:
    told = "import json; print(json.dumps({'latency_ms': 3, 'bytes': len(data)}))"
    by_path = command(f"import sys; data = open(sys.argv[1], 'rb').read(); {told}", "{file}")
    assert by_path.ask(FILE) == {"latency_ms": 3.0, "bytes": len(FILE)}
    on_input = command(f"import sys; data = sys.stdin.buffer.read(); {told}")
    assert on_input.ask(FILE) == {"latency_ms": 3.0, "bytes": len(FILE)}


def test_an_endpoint_gets_the_file_and_headers_from_the_environment(
    board: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Device(url=f"{board}/fast", headers={"Authorization": "BOARD_TOKEN"}, timeout=20)
    with pytest.raises(SpecError, match=r"^headers\.Authorization: names an environment variable that is not set"):
        asked.credentials()
    monkeypatch.setenv("BOARD_TOKEN", "Bearer secret\n")
    with pytest.raises(
        SpecError, match=r"^headers\.Authorization: .* cannot stand in a header; allowed: p"
    ) as told:
        asked.ask(FILE)
    assert "secret" not in str(told.value)
    monkeypatch.setenv("BOARD_TOKEN", "Bearer secret")
    assert asked.ask(FILE) == {"latency_ms": 1.5, "chip": "x1"}
    assert Board.seen == [("Bearer secret", FILE)]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import time; time.sleep(60)", "did not answer within 0.4 s"),
        ("import os, time; os.close(1); time.sleep(60)", "did not answer within 0.4 s"),
        ("import time\nwhile True: print(flush=True); time.sleep(0.001)", "did not answer within 0.4 s"),
        ("while True: print('x' * 100_000)", "answered with more than 1,048,576 bytes"),
        ("print('warming up')", "answered 'warming up"),
        ("pass", "answered ''"),
        ("print('{\"latency_ms\": -0.5}')", "answered a latency of -0.5 ms"),
        ("print('{\"latency_ms\": 0}')", "answered a latency of 0 ms"),
        ("print('{\"latency_ms\": NaN}')", "answered a latency of nan ms"),
        ("print('{\"latency_ms\": true}')", 'answered \'{"latency_ms": true}'),
        ("print('{\"ms\": 1}')", 'answered \'{"ms": 1}'),
        ("print('{\"latency_ms\": 1}'); raise SystemExit(3)", "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("import os; os.kill(os.getpid(), 35)", "ended by signal 35"),
    ],
)
def test_a_command_that_does_not_tell(code: str, said: str) -> None:
    slow = "within" in said
    with pytest.raises(NoAnswer) as told:
        command(code, timeout=0.4 if slow else 20).ask(FILE)
    assert said in str(told.value)
    assert len(str(told.value).splitlines()) == 1


def test_a_device_is_asked_with_many_files_open() -> None:
    """A descriptor beyond 1023 is a descriptor like any other."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 1200:
        pytest.skip("the system allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 1200), before[1]))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1050)]
    try:
        assert command("print('{\"latency_ms\": 3}')").ask(FILE) == {"latency_ms": 3.0}
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_endpoint_is_asked_from_within_an_event_loop(board: str) -> None:
    async def ask() -> Any:
        return Device(url=f"{board}/fast", timeout=20).ask(FILE)

    assert asyncio.run(ask()) == {"latency_ms": 1.5, "chip": "x1"}


def test_what_is_no_program_cannot_be_started() -> None:
    with pytest.raises(NoAnswer, match="no-such-program cannot be started: No such file"):
        Device(command=("no-such-program",)).ask(FILE)


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {shlex.quote(str(pid))}; wait"
    with pytest.raises(NoAnswer, match="did not answer"):
        Device(command=("sh", "-c", script), timeout=1.0).ask(FILE)
    end = time.monotonic() + 20
    while _runs(int(pid.read_text())):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_command_has_answered_once_it_has_ended_whoever_keeps_its_output(tmp_path: Path) -> None:
    """What it leaves behind in a session of its own goes on, and is not waited for."""
    code = """
import subprocess, sys
left = subprocess.Popen(["sleep", "600"], start_new_session=True)
with open(sys.argv[1], "w") as file:
    file.write(str(left.pid))
print('{"latency_ms": 3, "more": "%s"}' % ("x" * 200_000), flush=True)
raise SystemExit(int(sys.argv[2]))
"""
    pid = tmp_path / "pid"
    try:
        assert command(code, str(pid), "0", timeout=120).ask(FILE)["latency_ms"] == 3.0
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)
    try:
        with pytest.raises(NoAnswer, match="exit code 3"):
            command(code, str(pid), "3", timeout=120).ask(FILE)
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("silent", "did not answer within 0.4 s"),
        ("drip", "did not answer within 0.4 s"),
        ("drip-headers", "did not answer within 0.4 s"),
        ("garbage", "answered '<html>busy</html>'"),
        ("negative", "answered a latency of -2 ms"),
        ("error", "answered with status 503"),
        ("moved", "answered with status 302"),
        ("large", "answered with more than 1,048,576 bytes"),
        ("cut", "cannot be reached"),
    ],
)
def test_an_endpoint_that_does_not_tell(board: str, path: str, said: str) -> None:
    with pytest.raises(NoAnswer) as told:
        Device(url=f"{board}/{path}", timeout=0.4 if "within" in said else 20).ask(FILE)
    assert said in str(told.value)


def test_nobody_listens() -> None:
    with pytest.raises(NoAnswer, match="cannot be reached"):
        Device(url="http://127.0.0.1:1/latency", timeout=20).ask(FILE)


@given(
    st.binary(max_size=40)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.just("latency_ms") | st.text(max_size=3), inner, max_size=2)
        ),
        max_leaves=4,
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_is_answered_is_a_latency_or_none(answer: bytes) -> None:
    from nas.latency.devices import _read

    try:
        found = _read(answer)
    except NoAnswer:
        return
    assert 0 < found["latency_ms"] < float("inf")


PROFILES = """
phone: {command: [python, phone.py, "{file}"], timeout: 120}
board: {url: "http://10.0.0.7:9000/latency", headers: {Authorization: BOARD_TOKEN}}
"""


def test_the_operator_s_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_DEVICES", raising=False)
    assert devices() == {}
    with pytest.raises(SpecError, match=r"'phone' is no device; there are none \(NAS_DEVICES names the file"):
        device("phone")
    path = tmp_path / "devices.yaml"
    path.write_text(PROFILES)
    monkeypatch.setenv("NAS_DEVICES", str(path))
    assert names() == ["phone", "board"]
    assert device("phone") == Device(command=("python", "phone.py", "{file}"), timeout=120)
    assert device("board").timeout == 60
    with pytest.raises(SpecError, match=r"'bord' is no device; there are: phone, board; did you mean \"board\"\?"):
        device("bord")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("phone: {command: [x], url: 'http://x'}", "NAS_DEVICES.phone: either command or url is needed"),
        ("phone: {}", "NAS_DEVICES.phone: either command or url is needed"),
        ("phone: {command: []}", "NAS_DEVICES.phone.command: is empty"),
        ("phone: {command: [x], timeout: 0}", "NAS_DEVICES.phone.timeout: 0 is not allowed"),
        ("phone: {command: [x], timeout: .inf}", "NAS_DEVICES.phone.timeout: inf is not allowed"),
        ("phone: {url: 'file:///etc/passwd'}", "NAS_DEVICES.phone.url: 'file:///etc/passwd' is not allowed"),
        ("phone: {command: [x], headers: {a: B}}", "NAS_DEVICES.phone: headers are of an url"),
        ("b: {url: 'http://x', headers: {'a b': C}}", "NAS_DEVICES.b.headers: 'a b' is no name of a header"),
        (
            "b: {url: 'http://x', headers: {Authorization: Bearer t0k}}",
            "NAS_DEVICES.b.headers: Authorization needs the name of an environment variable",
        ),
        (
            "b: {url: 'http://x', headers: {Authorization: [t0k]}}",
            "NAS_DEVICES.b.headers: Authorization needs the",
        ),
        ("b: {url: 'http://x', headers: t0k}", "NAS_DEVICES.b.headers: is no mapping; allowed: names of"),
        ("'../x': {command: [x]}", "NAS_DEVICES.../x: is no name of a device"),
        (
            "phone: {comand: [x]}",
            "NAS_DEVICES.phone.comand: unknown key; allowed: command, url, headers, timeout; did",
        ),
        ("phone: x", "NAS_DEVICES.phone: 'x' is not allowed"),
        ("[1]", "holds [1]; a mapping is needed"),
        ("{", "is not valid"),
    ],
)
def test_faults_of_the_operator_s_file(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "devices.yaml"
    path.write_text(text)
    monkeypatch.setenv("NAS_DEVICES", str(path))
    with pytest.raises(SpecError) as told:
        devices()
    assert said in str(told.value)
    assert "t0k" not in str(told.value)
    assert names() == []


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DEVICES", str(tmp_path / "none.yaml"))
    with pytest.raises(SpecError, match=r"none\.yaml cannot be read: No such file"):
        devices()


def _runs(pid: int) -> bool:
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], stdout=subprocess.PIPE, text=True, check=False)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")
