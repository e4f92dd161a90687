"""`nas serve`, `nas runner` and `nas db`: the service and its database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Annotated, Literal

import typer

from nas.commands.show import faults_told, say

db = typer.Typer(help="The database.", no_args_is_help=True)

Executor = Annotated[Literal["ray", "inline"], typer.Option(help="where evaluations run")]
RESTART_AFTER = 2.0
"""Seconds before a runner that died is started again."""


def serve(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    runner: Annotated[bool, typer.Option(help="run jobs as well, beside the API")] = True,
    executor: Executor = "ray",
) -> None:
    """Serve the HTTP API and run jobs on this machine: two processes, watched by this one."""
    from nas.settings import open_configured_store

    with faults_told():
        open_configured_store()  # creates the database before two processes use it
    commands = {"api": [sys.executable, "-m", "api", "--host", host, "--port", str(port)]}
    if runner:
        commands["runner"] = [sys.executable, "-m", "nas", "runner", "--executor", executor]
    raise typer.Exit(_watch(commands, stopping=_on_signals()))


def runner(executor: Executor = "ray") -> None:
    """Run jobs from the queue until stopped; SIGTERM or Ctrl-C hands the current job back."""
    from nas.executors import session
    from nas.runner import serve as serve_queue
    from nas.settings import open_configured_store

    with faults_told():
        store = open_configured_store()
    with session(executor, os.cpu_count() or 1):
        stopping = _on_signals()  # after Ray, which sets handlers of its own
        serve_queue(store, executor, stopping)


@db.command()
def upgrade() -> None:
    """Bring the database (NAS_DATABASE_URL) to this version's schema."""
    from nas.settings import Settings
    from nas.storage.migrate import current
    from nas.storage.migrate import upgrade as migrate

    with faults_told():
        url = Settings().database_url
        migrate(url)
        say(f"the database is at revision {current(url)}")


def _on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # not set in the handler itself: the thread that it interrupts may hold the event's lock
        signal.signal(number, lambda *_: threading.Thread(target=stopping.set, daemon=True).start())
    return stopping


def _watch(commands: dict[str, list[str]], stopping: threading.Event) -> int:
    """Keep the processes running: without the API it is over; a runner that dies is started again."""
    running = {name: _start(command) for name, command in commands.items()}
    try:
        while not stopping.wait(0.2):
            if running["api"].poll() is not None:
                return running["api"].returncode or 1
            if "runner" in running and running["runner"].poll() is not None:
                say(f"the runner ended with exit code {running['runner'].returncode}; starting it again")
                if stopping.wait(RESTART_AFTER):
                    break
                running["runner"] = _start(commands["runner"])
        return 0
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    """A child in a session of its own: Ctrl-C reaches it through its parent, in order."""
    return subprocess.Popen(command, start_new_session=True)
