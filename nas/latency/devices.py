"""Devices that the operator has described: each a command or an HTTP endpoint that times an ONNX file.

``NAS_DEVICES`` names a YAML or JSON file, a device by name::

    phone: {command: [python, phone.py, "{file}"], timeout: 120}
    board: {url: "http://10.0.0.7:9000/latency", headers: {Authorization: BOARD_TOKEN}}

The place ``{file}`` of a command is taken by the path of the file; without one the file comes on standard input.
An endpoint gets it by POST. Both answer JSON, ``{"latency_ms": 3.2}``. Headers name environment variables, so that
the file holds no secrets. Documents, also those over HTTP, can name a device and nothing else of it.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from search_spaces import Fault, SpecError
from search_spaces.faults import did_you_mean, show, spec_error
from search_spaces.load import read_document

if TYPE_CHECKING:
    import httpx

VARIABLE = "NAS_DEVICES"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
FILE = "{file}"
MOST = 2**20
"""Bytes of an answer that are read."""
ALLOWED = '{"latency_ms": NUMBER}, a number above 0'


class NoAnswer(Exception):
    """The device did not say how long the network takes there, and why not as far as that is known."""


class Device(BaseModel):
    """How a device is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, description="program and arguments; {file} stands for the path of the ONNX file"
    )
    url: Annotated[str, Field(pattern="^https?://[^/]+")] | None = Field(
        default=None, description="where the ONNX file is sent to, by POST"
    )
    headers: Mapping[str, str] = Field(
        default_factory=dict, description="of such requests: environment variables that hold them, by name"
    )
    timeout: float = Field(default=60, gt=0, allow_inf_nan=False, description="seconds until it has answered")

    @model_validator(mode="after")
    def _one_way(self) -> Device:
        if (self.command is None) == (self.url is None):
            raise ValueError("either command or url is needed, and not both")
        if self.headers and self.url is None:
            raise ValueError("headers are of an url; a command has none")
        return self

    def ask(self, file: bytes) -> dict[str, Any]:
        """What the device says of an ONNX file: `latency_ms`, finite and positive, and whatever else.

        Raises:
            NoAnswer: in words that tell what it did instead.
            SpecError: where a header's variable is not set here.
        """
        return _read(self._run(file) if self.command else self._post(file))

    def _run(self, file: bytes) -> bytes:
        assert self.command is not None
        end = time.monotonic() + self.timeout
        with tempfile.NamedTemporaryFile(suffix=".onnx") as kept:
            kept.write(file)
            kept.flush()
            kept.seek(0)
            command = [part.replace(FILE, kept.name) for part in self.command]
            with _started(command, None if command != list(self.command) else kept) as process:
                assert process.stdout is not None
                answer = _output(process.stdout.fileno(), end, self.timeout)
                try:
                    code = process.wait(max(0.0, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    raise NoAnswer(_late(self.timeout)) from None
        if code:
            raise NoAnswer(f"exit code {code}" if code > 0 else f"ended by {signal.Signals(-code).name}")
        return answer

    def _post(self, file: bytes) -> bytes:
        import httpx

        assert self.url is not None
        plain = {"Content-Type": "application/octet-stream", "Accept-Encoding": "identity"}
        headers = {**plain, **self._headers()}
        end = time.monotonic() + self.timeout
        try:
            with (
                httpx.Client(timeout=self.timeout, trust_env=False) as client,
                client.stream("POST", self.url, content=file, headers=headers) as response,
            ):
                if response.status_code != httpx.codes.OK:
                    raise NoAnswer(f"answered with status {response.status_code}")
                return _body(response, end, self.timeout)
        except httpx.TimeoutException:
            raise NoAnswer(_late(self.timeout)) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NoAnswer(f"cannot be reached: {error}") from None

    def _headers(self) -> dict[str, str]:
        missing = [v for v in self.headers.values() if v not in os.environ]
        if missing:
            raise SpecError.at(missing[0], "is not set here; a header of the device is read from it")
        return {name: os.environ[v] for name, v in self.headers.items()}


def devices() -> dict[str, Device]:
    """The devices of the file that `NAS_DEVICES` names; none where it is not set.

    Raises:
        SpecError: where the file cannot be read, with everything that is wrong with it.
    """
    path = os.environ.get(VARIABLE)
    try:
        return read(Path(path)) if path else {}
    except SpecError as error:
        raise error.under(VARIABLE) from None


def names() -> list[str]:
    """The devices that documents may name; none where their file cannot be read, which `devices` tells."""
    try:
        return list(devices())
    except SpecError:
        return []


def read(path: Path) -> dict[str, Device]:
    """The devices of a file. Raises `SpecError` with everything that is wrong with it."""
    try:
        document = read_document(path)
    except OSError as error:
        raise SpecError.at("", f"{path} cannot be read: {error.strerror}") from None
    found: dict[str, Device] = {}
    faults: list[Fault] = []
    for name, profile in document.items():
        try:
            if not NAME.fullmatch(str(name)):
                raise SpecError.at("", "is no name of a device; allowed: letters, digits, - and _, at most 64")
            found[str(name)] = _device(profile)
        except SpecError as error:
            faults += error.under(str(name)).faults
    if faults:
        raise SpecError(faults)
    return found


def device(name: str) -> Device:
    """The device of this name. Raises `SpecError` where there is none."""
    known = devices()
    if name in known:
        return known[name]
    there = f"there are: {', '.join(known)}" if known else f"there are none ({VARIABLE} names the file of them)"
    raise SpecError.at("", f"{show(name)} is no device; {there}{did_you_mean(name, list(known))}")


def _device(profile: object) -> Device:
    try:
        return Device.model_validate(profile)
    except ValidationError as error:
        raise spec_error(error, Device, profile) from None


@contextmanager
def _started(command: list[str], file: IO[bytes] | None) -> Iterator[subprocess.Popen[bytes]]:
    """The process, in a group of its own that is killed in the end, whatever it has started."""
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


def _output(descriptor: int, end: float, timeout: float) -> bytes:
    """All that is written until its end. Raises `NoAnswer` where that is too much, or takes too long."""
    found = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise NoAnswer(_late(timeout))
        part = os.read(descriptor, 2**16)
        if not part:
            return found
        found = _joined(found, part)


def _body(response: httpx.Response, end: float, timeout: float) -> bytes:
    found = b""
    for part in response.iter_raw():
        found = _joined(found, part)
        if time.monotonic() > end:  # httpx's own limit is for the time between two bytes
            raise NoAnswer(_late(timeout))
    return found


def _joined(found: bytes, part: bytes) -> bytes:
    if len(found) + len(part) > MOST:
        raise NoAnswer(f"answered with more than {MOST:,} bytes; allowed: {ALLOWED}")
    return found + part


def _read(answer: bytes) -> dict[str, Any]:
    """The answer, if it is one."""
    try:
        found = json.loads(answer)
        latency = found["latency_ms"]
        if isinstance(latency, bool | str):
            raise TypeError
        number = float(latency)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, OverflowError):
        raise NoAnswer(f"answered {show(answer.decode(errors='replace'))}; allowed: {ALLOWED}") from None
    if not (math.isfinite(number) and number > 0):
        raise NoAnswer(f"answered a latency of {number:g} ms; allowed: {ALLOWED}")
    return {**found, "latency_ms": number}


def _late(timeout: float) -> str:
    return f"did not answer within {timeout:g} s"
