"""A process for the trials of one job: whatever a candidate does there, it can be killed, and it is known why."""

from __future__ import annotations

import math
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import TypeAlias

import psutil

from nas.executors.attempt import too_long
from nas.executors.trace import LOG, Curve, worker
from nas.trial import Broken, BrokenKind, Measured, Outcome, Trace

GRACE = 2.0
"""Seconds after its time that an evaluation which does not stop by itself is killed."""
LOOK = 0.2
"""Seconds between two looks at the memory that a trial holds."""
START = 300.0
"""Seconds that a process may take until it has read its task."""
STALL = 120.0
"""Seconds for which a process may read nothing of what it is sent."""
_MAIN = str(Path(__file__).with_name("child_main.py"))

Message: TypeAlias = Measured | Broken | tuple[int, dict[str, float]] | str | None
"""What a child says: an outcome, a point of a curve, why it cannot read its task, or (None) that it has."""


@dataclass(frozen=True)
class Limits:
    """What an evaluation may take; None: as much as it wants."""

    seconds: float | None = None
    memory: float | None = None
    """Bytes, of its process and all that it has started."""


class Child:
    """Evaluates trials in a child process, one after the other; started when needed, anew after each death."""

    def __init__(self, task: bytes, limits: Limits) -> None:
        self._task, self._limits = task, limits
        self._process: _Process | None = None

    def attempt(self, proposal: bytes) -> Outcome:
        """Evaluate a pickled proposal. However the process ends, that is an outcome."""
        used = self._process is not None
        outcome, too_much = self._once(proposal)
        if too_much and used:  # what the trials before it left behind must not count against this one
            outcome, _ = self._once(proposal)
        return outcome

    def close(self) -> None:
        """Kill the process, and all that it has started."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _once(self, proposal: bytes) -> tuple[Outcome, bool]:
        """The outcome, and whether the process was killed because of its memory."""
        try:
            process = self._process = self._process or _Process(self._limits.memory)
        except OSError as error:
            return Broken(BrokenKind.LOST, f"no process could be started: {error}"), False
        curve, started, too_much = Curve(), time.time(), False
        try:
            process.prepare(self._task)
            started = time.time()
            outcome = process.evaluate(proposal, self._limits.seconds, curve)
        except _Over as over:
            outcome, too_much = Broken(over.kind, str(over)), over.too_much
            self.close()
        return replace(outcome, trace=Trace(process.worker, started, curve.points, process.printed())), too_much


class _Over(Exception):
    """The process has ended, or must be ended, and this is what it means for its trial."""

    def __init__(self, kind: BrokenKind, reason: str, *, too_much: bool = False) -> None:
        super().__init__(reason)
        self.kind, self.too_much = kind, too_much


class _Process:
    """One child process, from its parent's side. It leads a process group, which its guard ends with us."""

    def __init__(self, memory: float | None) -> None:
        self._memory = memory
        self._connection, theirs = Pipe()
        _limit_writes(self._connection.fileno(), START)  # until it is ready
        self._output, output = os.pipe()
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-u", "-P", _MAIN, str(theirs.fileno())],
                stdin=subprocess.PIPE,  # nothing is written; that it closes tells the guard that we are gone
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(p).absolute()) for p in sys.path)},
                start_new_session=True,
            )
        except BaseException:
            self._connection.close()
            os.close(self._output)
            raise
        finally:
            theirs.close()
            os.close(output)
        self.worker = worker(self._popen.pid)
        os.set_blocking(self._output, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._connection, selectors.EVENT_READ)
        self._selector.register(self._output, selectors.EVENT_READ)
        self._ready, self._tail, self._next_look = False, b"", 0.0

    def prepare(self, task: bytes) -> None:
        """Have it read its task, unless it has. Raises `_Over`."""
        if self._ready:
            return
        self._send(task)
        wrong = self._receive(time.monotonic() + START, f"the process was not ready after {START:g} s")
        if wrong is not None:
            raise _Over(BrokenKind.FAILED, f"the task cannot be read: {wrong}")
        _limit_writes(self._connection.fileno(), STALL)
        self._ready = True

    def evaluate(self, proposal: bytes, seconds: float | None, curve: Curve) -> Outcome:
        """Have it evaluate a proposal. Raises `_Over`."""
        self._read_output()
        self._tail = b""
        self._next_look = time.monotonic() + LOOK
        self._send(proposal)
        end = math.inf if seconds is None else time.monotonic() + seconds + GRACE
        while True:
            message = self._receive(end, too_long(seconds or 0))
            if isinstance(message, Measured | Broken):
                return message
            if isinstance(message, tuple):
                curve.add(*message)

    def printed(self) -> str:
        """The end of what was printed since the trial began."""
        self._read_output()
        return self._tail.decode(errors="replace").replace("\x00", "")

    def kill(self) -> None:
        """End it, and all that it has started."""
        strays = _descendants(self._popen.pid)  # one of them may lead a group of its own
        with suppress(OSError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        for stray in strays:
            with suppress(psutil.Error):
                stray.kill()
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(GRACE)
        self._read_output()
        self._selector.close()
        self._connection.close()
        os.close(self._output)
        self._output = -1
        if self._popen.stdin is not None:
            self._popen.stdin.close()

    def _send(self, data: bytes) -> None:
        try:
            self._connection.send_bytes(data)
        except BlockingIOError:
            seconds = STALL if self._ready else START
            raise _Over(BrokenKind.LOST, f"the trial's process read nothing for {seconds:g} s") from None
        except OSError:
            raise self._died() from None

    def _receive(self, end: float, late: str) -> Message:
        """What it says next, watching it meanwhile. `late` is why it is over at `end`, a monotonic time."""
        while True:
            now = time.monotonic()
            if now >= end:
                kind = BrokenKind.INFEASIBLE if self._ready else BrokenKind.LOST
                raise _Over(kind, late)
            for key, _ in self._selector.select(min(LOOK, end - now)):
                if key.fileobj is self._connection:
                    return self._read_message()
                self._read_output()
            self._look_at_memory()
            if self._popen.poll() is not None:
                return self._read_message()

    def _read_message(self) -> Message:
        try:
            if self._connection.poll():
                message: Message = self._connection.recv()
                return message
        except (EOFError, OSError):
            pass
        raise self._died()

    def _read_output(self) -> None:
        """Keep the end of what was printed; a candidate that prints without end fills neither memory nor disk."""
        if self._output < 0:
            return
        with suppress(BlockingIOError):
            data = os.read(self._output, 2**20)  # more than a pipe holds
            if not data and self._output in self._selector.get_map():  # it has closed its output
                self._selector.unregister(self._output)
            self._tail = (self._tail + data)[-LOG:]

    def _look_at_memory(self) -> None:
        now = time.monotonic()
        if self._memory is None or now < self._next_look:
            return
        self._next_look = now + LOOK
        if _held(self._popen.pid) > self._memory:
            raise _Over(BrokenKind.INFEASIBLE, f"used more than {_size(self._memory)} of memory", too_much=True)

    def _died(self) -> _Over:
        try:
            code = self._popen.wait(GRACE)
        except subprocess.TimeoutExpired:
            return _Over(BrokenKind.LOST, "the trial's process has closed its connection")
        return _Over(BrokenKind.LOST, f"the trial's process died: {_death(code)}")


def _limit_writes(fd: int, seconds: float) -> None:
    """Have a write to a socket raise `BlockingIOError` where the other side reads nothing for so long."""
    with socket.socket(fileno=os.dup(fd)) as same:  # options belong to the socket, not to its descriptor
        same.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", *divmod(int(seconds * 1e6), 10**6))
        )


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _held(pid: int) -> int:
    """Bytes in memory of a process and all that it has started."""
    total = 0
    with suppress(psutil.Error):
        total = psutil.Process(pid).memory_info().rss
    for process in _descendants(pid):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def _death(code: int) -> str:
    try:
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    except ValueError:  # real-time signals have no names
        return f"signal {-code}"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
