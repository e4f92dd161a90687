"""The process in which trials are evaluated, from its own side. Run as a script by `nas.executors.child`.

It reads the pickled task, then one pickled proposal after the other, and writes what `Message` tells. Nothing that
is slow to import, or that starts threads, is imported before its guard was forked.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any


def main(fd: int) -> None:
    """Serve the connection at this file descriptor until it is closed."""
    _fork_guard()
    connection: Connection[Any, Any] = Connection(fd)
    os.set_inheritable(fd, False)
    os.register_at_fork(after_in_child=connection.close)  # a fork of a candidate must not answer for it
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    faulthandler.enable()  # where it crashed stands in the trial's log then
    try:
        task = pickle.loads(connection.recv_bytes())
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(None)
    _serve(task, connection)


def _fork_guard() -> None:
    """Start a process that kills this process group as soon as whoever started us is gone, however it went.

    It sees the other end of our stdin closed. A thread of ours could not: a candidate may hold the interpreter.
    """
    starter = os.fork()
    if starter:
        os.waitpid(starter, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        return
    if os.fork():
        os._exit(0)  # no child of ours, so a candidate that waits for its children does not wait for it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.closerange(1, 1024)
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


def _serve(task: Any, connection: Connection[Any, Any]) -> None:
    import ctypes

    from nas.executors.attempt import attempt
    from nas.executors.trace import finite

    standard_c, lock = ctypes.CDLL(None), threading.Lock()

    def reported(step: int, metrics: Mapping[str, object]) -> None:
        with lock:  # an evaluator may report from threads of its own
            connection.send((int(step), finite(metrics)))

    while True:
        try:
            proposal = pickle.loads(connection.recv_bytes())
        except EOFError:
            return
        outcome = attempt(task, proposal, reported)
        sys.stdout.flush()
        standard_c.fflush(None)
        with lock:
            connection.send(outcome)


if __name__ == "__main__":
    main(int(sys.argv[1]))
