"""The process that fits predictors and asks them: it alone loads scikit-learn and LightGBM.

`FittingProcess` is its handle. The process starts with the first question, ends when nobody has asked for a while,
and ends at once, whatever it is doing, when the process that holds the handle does, even by `kill -9`: it reads
the end of their connection. One that died, or was killed for not answering, is started anew by the next question;
what it had learnt is forgotten with it.
"""

from __future__ import annotations

import os
import pickle
import socket
import struct
import subprocess
import sys
import threading
from concurrent.futures import Future
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

from nas.fitting import Lesson
from nas.predictor_quality import PredictorQuality
from predictors import Prediction
from search_spaces.architecture import Genes

IDLE_SECONDS = 300.0
"""After so long without a question the process ends."""
SEND_SECONDS = 10
"""A process that does not take a question within this time hangs."""


class NotLearnt(Exception):
    """The process holds no such predictor: it must be fitted first."""


class ProcessGone(Exception):
    """The process died before it answered."""


class ProcessHangs(Exception):
    """The process did not answer in time, and was killed."""


class FittingFault(Exception):
    """What was asked raised an error that nobody foresaw; its text is the stack."""


class FittingProcess:
    """Any thread may ask. Every question has a time limit."""

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def fit(self, name: str, lesson: Lesson, timeout: float) -> PredictorQuality:
        """Learn, and keep what was learnt under a name, with those asked for last.

        Raises:
            ProcessGone: it died.
            ProcessHangs: it took longer than `timeout` seconds.
            FittingFault: for a bug, or a space that cannot be imported there.
        """
        running = self._started()
        found = running.ask("fit", (name, lesson), timeout)
        assert isinstance(found, PredictorQuality)
        running.learnt.add(name)
        return found

    def predict(self, name: str, genes: Genes, timeout: float) -> Prediction:
        """What is expected of canonical genes. Raises as `fit` does, and `NotLearnt`."""
        with self._lock:
            running = self._running
        if running is None or running.over or name not in running.learnt:
            raise NotLearnt(name)
        found = running.ask("prediction", (name, genes), timeout)
        assert isinstance(found, Prediction)
        return found

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        with self._lock:
            running = self._running
        return running.process.pid if running is not None and not running.over else None

    def close(self) -> None:
        """End the process. The next question starts another."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.kill()
            running.reader.join()

    def _started(self) -> _Running:
        with self._lock:
            if self._running is None or self._running.over:
                self._running = _Running(self._idle_seconds)
            return self._running


class _Running:
    """One process, from its start to its end, with the questions that it has not answered."""

    def __init__(self, idle_seconds: float) -> None:
        ours, theirs = socket.socketpair()
        seconds = struct.pack("ll", SEND_SECONDS, 0)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)  # to a stopped process as well
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nas.fitting_server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OMP_NUM_THREADS": "1"},  # it must not take the cores of searches
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for its parent
            )
        self._connection = Connection(ours.detach())
        self._idle_seconds = idle_seconds
        self._numbers = count()
        self._pending: dict[int, Future[Any]] = {}
        self._lock = threading.Lock()
        self.learnt: set[str] = set()
        """Whatever was fitted there; it may have forgotten some."""
        self.over = False
        self.reader = threading.Thread(target=self._read, daemon=True, name="fitting process")
        self.reader.start()

    def ask(self, verb: str, arguments: tuple[object, ...], timeout: float) -> Any:
        """The answer. Raises as `FittingProcess.fit` does."""
        answer = self._sent(verb, pickle.dumps(arguments))
        try:
            return answer.result(timeout)
        except TimeoutError:
            self.kill()
            raise ProcessHangs(f"the {verb} took longer than {timeout:g} seconds") from None

    def _sent(self, verb: str, message: bytes) -> Future[Any]:
        """Send a question; its answer will come, or `ProcessGone`."""
        answer: Future[Any] = Future()
        with self._lock:
            if self.over:
                answer.set_exception(ProcessGone("it ended before it was asked"))
                return answer
            number = next(self._numbers)
            self._pending[number] = answer
            try:
                self._connection.send((number, verb, message))
            except OSError:  # it is dead, or hangs; the reader tells all who wait
                self.kill()
        return answer

    def kill(self) -> None:
        """End it now."""
        self.process.kill()

    def _read(self) -> None:
        """Pass answers on until it ends, or nobody has asked for a while."""
        try:
            while self._connection.poll(self._idle_seconds) or not self._retired():
                if self._connection.poll(0):
                    number, ok, value = self._connection.recv()
                    with self._lock:
                        answer = self._pending.pop(number)
                    answer.set_result(value) if ok else answer.set_exception(value)
        except (EOFError, OSError):
            pass
        finally:
            self._bury()

    def _retired(self) -> bool:
        """Whether nobody waits for an answer; then nobody can ask any more either."""
        with self._lock:
            self.over = not self._pending
            return self.over

    def _bury(self) -> None:
        self.process.kill()
        self.process.wait()
        with self._lock:
            self.over = True
            self._connection.close()
            waiting, self._pending = self._pending, {}
        for answer in waiting.values():
            answer.set_exception(ProcessGone("it died before it answered"))
