"""`nas serve`, `nas runner` and `nas db`: the service and its database."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from nas.commands.show import fail, faults_told, say
from nas.stopping import Stop

if TYPE_CHECKING:
    from nas.journal import Journal
    from nas.local import LocalStore
    from nas.settings import Settings

db = typer.Typer(help="The database.", no_args_is_help=True)

Executor = Annotated[Literal["ray", "inline"], typer.Option(help="where evaluations run")]
RESTART_AFTER = 2.0
"""Seconds before a process that died is started again."""
LAST_WORDS = 15.0
"""Seconds that a runner gets to hand back its jobs, and to leave Ray, once its time for evaluations is over."""


def serve(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    runner: Annotated[bool, typer.Option(help="run jobs as well, beside the API")] = True,
    executor: Executor = "ray",
) -> None:
    """Serve the HTTP API and run jobs on this machine: two processes, watched by this one."""
    from nas.access import takes_keys
    from nas.logs import configure
    from nas.settings import open_configured_store, read_settings

    with faults_told():
        settings = read_settings()
        configure(settings.log_format)
        takes_keys(settings.auth, host)  # the API would refuse to start
        open_configured_store()  # creates the database before two processes use it
    commands = {"api": [sys.executable, "-m", "api", "--host", host, "--port", str(port)]}
    if runner:
        commands["runner"] = [sys.executable, "-m", "nas", "runner", "--executor", executor]
    stop = _on_signals(Stop(math.inf))  # the runner knows how much time there is
    raise typer.Exit(_watch(commands, stop, settings.runner_drain_seconds + LAST_WORDS))


def runner(
    executor: Executor = "ray",
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1000, help="jobs at once, instead of NAS_RUNNER_CONCURRENT_JOBS")
    ] = None,
    drain: Annotated[
        float | None, typer.Option(min=0, help="seconds, instead of NAS_RUNNER_DRAIN_SECONDS")
    ] = None,
) -> None:
    """Run jobs from the queue until stopped.

    SIGTERM or Ctrl-C: running evaluations get --drain seconds, and jobs are handed back; asked again: at once.
    """
    # Jobs are driven by threads of this process, and no number may depend on who has its cores just now.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from nas.executors import session
    from nas.export_runner import ExportRunner
    from nas.logs import configure
    from nas.runner import serve as serve_queue
    from nas.settings import open_configured_artifacts, read_settings

    with faults_told():
        settings = read_settings()
        configure(settings.log_format)
        artifacts = open_configured_artifacts()
        store, journal = _opened(settings)
    with session(executor, os.cpu_count() or 1) as slots:
        # after Ray, which sets handlers of its own
        stop = _on_signals(Stop(settings.runner_drain_seconds if drain is None else drain))
        at_once = jobs or settings.runner_concurrent_jobs
        exports = ExportRunner(store, artifacts, executor, stop, slots, journal, settings.export_seconds)
        exports.start()
        serve_queue(store, executor, stop, jobs=at_once, slots=slots, journal=journal)
        exports.leave()
    _end_at_once()


def _end_at_once() -> NoReturn:
    """End this process with exit code 0, without taking the interpreter down first.

    A thread may hang in an evaluation whose job was handed back: native code that came back to an interpreter on
    its way down would abort the process, which looks like a crash to whoever watches it.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _opened(settings: Settings) -> tuple[LocalStore, Journal]:
    """The store, once its database is there, and the journal that the runner's metrics are taken from."""
    from prometheus_client import CollectorRegistry

    from nas.metrics import MeteredJournal, pages, publish, watch
    from nas.outages import when_there
    from nas.storage import open_store
    from nas.storage.sql import SqlStore

    registry = CollectorRegistry()
    journal = MeteredJournal(registry)
    if settings.metrics_port is not None:
        try:
            publish(pages(registry, journal), settings.metrics_host, settings.metrics_port)
        except OSError as error:
            fail(f"NAS_METRICS_PORT={settings.metrics_port}: {error.strerror}")
    url, seconds = settings.database_url, settings.lease_seconds
    store = when_there(lambda: open_store(url, lease_seconds=seconds), journal)
    if isinstance(store, SqlStore):
        watch(store.database, registry)
    return store, journal


@db.command()
def upgrade() -> None:
    """Bring the database (NAS_DATABASE_URL) to this version's schema."""
    from nas.settings import read_settings
    from nas.storage.migrate import current
    from nas.storage.migrate import upgrade as migrate

    with faults_told():
        url = read_settings().database_url
        migrate(url)
        say(f"the database is at revision {current(url)}")


def _on_signals(stop: Stop) -> Stop:
    """The same, asked for by SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        # not asked in the handler itself: the thread that it interrupts may hold a lock of the stop
        signal.signal(number, lambda *_: threading.Thread(target=stop.ask, daemon=True).start())
    return stop


def _watch(commands: dict[str, list[str]], stop: Stop, seconds: float) -> int:
    """Keep the processes running: one that dies is started again, but an API that gives up is the end of all.

    At the end they get so many seconds to end in order.
    """
    import structlog

    running = {name: _start(command) for name, command in commands.items()}
    try:
        while not stop.wait(0.2):
            for name, process in running.items():
                code = process.poll()
                if code is None:
                    continue
                if name == "api" and code >= 0:  # it was not killed: its port is taken, say
                    return code or 1
                structlog.get_logger().warning(f"{name} ended, it is started again", exit_code=code)
                if stop.wait(RESTART_AFTER):
                    break
                running[name] = _start(commands[name])
        return 0
    finally:
        _end(list(running.values()), stop, time.monotonic() + seconds)


def _end(processes: Sequence[subprocess.Popen[bytes]], stop: Stop, end: float) -> None:
    """Ask the processes to end, again if this one is asked again, and kill those that have not at the end."""
    for process in processes:
        process.terminate()
    asked_again = False
    while any(process.poll() is None for process in processes) and time.monotonic() < end:
        if stop.over and not asked_again:
            asked_again = True
            for process in processes:
                process.terminate()
        time.sleep(0.05)
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    """A child in a session of its own: Ctrl-C reaches it through its parent, in order."""
    return subprocess.Popen(command, start_new_session=True)
