"""How a device is asked: by a command or over HTTP. Both take a file, and end in time whatever happens."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import IO

FILE = "{file}"
MOST = 2**20
"""Bytes of an answer that are read."""
SOON = 0.2
"""Seconds of silence after which a program that has ended will say no more, whoever holds its output."""
ALLOWED = '{"latency_ms": NUMBER}, a number above 0'


class NoAnswer(Exception):
    """The device did not say how long the network takes there, and why not as far as that is known."""


def by_command(command: Sequence[str], file: bytes, timeout: float) -> bytes:
    """What a program writes to its output: the file's path stands for `{file}`, or the file is its input.

    The program and all that it has started are ended with the call, except for what has made itself a session of
    its own; such a process may keep the output, which is read no further once the program has ended.

    Args:
        command: the program and its arguments.
        file: an ONNX file.
        timeout: seconds for everything.

    Raises:
        NoAnswer: where it cannot be started, fails, or writes too much.
        TimeoutError: where it has not ended by then.
    """
    end = time.monotonic() + timeout
    with tempfile.NamedTemporaryFile(suffix=".onnx") as kept:
        kept.write(file)
        kept.flush()
        kept.seek(0)
        named = [part.replace(FILE, kept.name) for part in command]
        with _started(named, None if named != list(command) else kept) as process:
            answer = _output(process, end)
            try:
                code = process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise TimeoutError from None
    if code:
        raise NoAnswer(_ended(code))
    return answer


def by_post(url: str, headers: Mapping[str, str], file: bytes, timeout: float) -> bytes:
    """What an endpoint answers to the file.

    This happens in an event loop of a thread of its own: the caller may be within a loop already, and while all
    else can be given up at a point in time, looking up a host's name cannot.

    Args:
        url: where the file is sent to, by POST.
        headers: of the request, beside those of the file.
        file: an ONNX file.
        timeout: seconds for everything, from looking up the name to the last byte of the answer.

    Raises:
        NoAnswer: where it cannot be reached, answers with another status than 200, or with too much.
        TimeoutError: where it has not answered by then.
    """
    import httpx

    found: Future[bytes] = Future()

    def post() -> None:
        try:
            found.set_result(asyncio.run(asyncio.wait_for(_posted(url, headers, file), timeout)))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=post, daemon=True, name="device").start()
    try:
        return found.result(timeout)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoAnswer(f"cannot be reached: {error}") from None


async def _posted(url: str, headers: Mapping[str, str], file: bytes) -> bytes:
    import httpx

    plain = {"Content-Type": "application/octet-stream", "Accept-Encoding": "identity"}
    async with (
        httpx.AsyncClient(timeout=None, trust_env=False) as client,
        client.stream("POST", url, content=file, headers={**plain, **headers}) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise NoAnswer(f"answered with status {response.status_code}")
        found = b""
        async for part in response.aiter_raw():
            found = _joined(found, part)
        return found


@contextmanager
def _started(command: list[str], file: IO[bytes] | None) -> Iterator[subprocess.Popen[bytes]]:
    """The process, in a session and a group of its own; the group is killed in the end."""
    try:
        process = subprocess.Popen(
            command, stdin=file or subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise NoAnswer(f"{command[0]} cannot be started: {error.strerror}") from None
    try:
        yield process
    finally:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _output(process: subprocess.Popen[bytes], end: float) -> bytes:
    """All that is written until the output's end, or the program's; `TimeoutError` where neither comes in time."""
    stream, found = process.stdout, b""
    assert stream is not None
    with selectors.DefaultSelector() as ready:
        ready.register(stream, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0:
            over = process.poll() is not None  # asked first, so that all that it wrote is there to be read
            if ready.select(min(left, SOON)):
                part = os.read(stream.fileno(), 2**16)
                if not part:
                    return found
                found = _joined(found, part)
            elif over:
                return found
    raise TimeoutError


def _joined(found: bytes, part: bytes) -> bytes:
    if len(found) + len(part) > MOST:
        raise NoAnswer(f"answered with more than {MOST:,} bytes; allowed: {ALLOWED}")
    return found + part


def _ended(code: int) -> str:
    try:
        return f"exit code {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"
    except ValueError:  # real-time signals have no names
        return f"ended by signal {-code}"
