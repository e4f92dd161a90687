"""The service under faults: processes that are killed at random and started again, until enough were survived."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from nas.trial import MAX_ATTEMPTS, MAX_LOSSES
from tests.chaos import databases
from tests.chaos.databases import Database, Kind
from tests.chaos.jobs import documents, worker_alone
from tests.chaos.processes import (
    Process,
    cleanup,
    environment,
    node_up,
    ray_node,
    ray_workers,
)
from tests.chaos.report import Report, judged
from tests.chaos.witness import Witness
from tests.waiting import free_port, until

LEASE = 3.0
"""Seconds; the least that is allowed."""
UP = 5.0
"""Seconds that an API lives at least, so that some requests are answered."""
SPARED = 15.0
"""Seconds after which a runner is killed even if it could not claim a job yet."""
PATIENCE = 5.0
"""Seconds for which a fault waits for something to strike, before one of another kind takes its place."""
RAY_WORKER = "Ray worker killed"
RAY_SHARE = 0.15
"""The part of the faults that Ray workers get. They are there for moments only, so they are not left to chance."""
RESERVE = 5
"""Attempts that a trial keeps from the storm: it is promised so many, and a busy host may need the last ones."""
QUIET = 240.0
"""Seconds that the jobs may take to end once the faults have stopped."""


class Fleet:
    """The processes of the service: an API, two runners, and a Ray node for one of them."""

    def __init__(self, database: Database, mark: str, folder: Path) -> None:
        self.database = database
        self.port, ray_port = free_port(), free_port()
        address = f"127.0.0.1:{ray_port}"
        common = {"NAS_DATABASE_URL": database.url, "NAS_LEASE_SECONDS": f"{LEASE:g}"}
        python = sys.executable

        def process(name: str, *command: str, **env: str) -> Process:
            whole = environment(mark, PGAPPNAME=name, **common, **env)
            return Process(name, [python, "-m", *command], whole, folder / f"{name}.log")

        self.ray = ray_node(
            "ray",
            mark,
            folder / "ray",
            folder / "ray.log",
            [
                "--head",
                f"--port={ray_port}",
                "--num-cpus=3",
                "--include-dashboard=false",
                "--node-ip-address=127.0.0.1",
            ],
        )
        self.api = process("api", "api", "--port", str(self.port))
        self.ray_runner = process("runner-ray", "nas", "runner", "--executor", "ray", RAY_ADDRESS=address)
        self.runners = [process("runner-inline", "nas", "runner", "--executor", "inline"), self.ray_runner]
        self.migration = process("migration", "nas", "db", "upgrade")
        self.ended: list[str] = []
        """Processes that ended though nobody killed them."""
        self._due: dict[str, float] = {}

    @property
    def processes(self) -> list[Process]:
        """Those that are kept running."""
        return [self.api, *self.runners]

    def start(self) -> None:
        """Bring everything up."""
        self.ray.start()
        self.migration.start()
        self.migration.wait_for("at revision", 120)
        self.database.keep_book()
        node_up(self.ray)
        for process in self.processes:
            process.start()
        until(self.ready, 120, "the API")

    def ready(self) -> bool:
        """Whether the API says so."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def restart_after(self, process: Process, seconds: float) -> None:
        """Start a killed process again, so much later."""
        self._due[process.name] = time.monotonic() + seconds

    def tend(self) -> None:
        """Start again what is due, and wake what was frozen long enough."""
        now = time.monotonic()
        for process in self.processes:
            if process.stopped_until is not None and now >= process.stopped_until:
                process.thaw()
            if process.exit_code is None:
                continue
            if process.name not in self._due:
                self.ended.append(f"{process.name} ended by itself with exit code {process.exit_code}")
                self._due[process.name] = now + 1
            if now >= self._due[process.name]:
                del self._due[process.name]
                process.start()

    def stop(self) -> list[str]:
        """SIGTERM to all; what does not end in order is told."""
        told = []
        for process in self.processes:
            process.thaw()
            in_order = (0, -signal.SIGTERM) if process is self.api else (0,)  # uvicorn ends by the very signal
            if process.exit_code is None and (code := process.terminate(60)) not in in_order:
                told.append(f"{process.name} ended with exit code {code} on SIGTERM")
        return told


class Storm:
    """Draws faults from a seed, and strikes. Each returns whether there was something to strike.

    A trial is promised so many attempts and no more, so what would use up the last ones is spared meanwhile.
    """

    def __init__(self, fleet: Fleet, seed: int, report: Report) -> None:
        self._fleet, self._random, self._report = fleet, random.Random(seed), report
        self._kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "runner killed": (8, self._kill_runner),
            "API killed": (5, self._kill_api),
            "runner frozen beyond its lease": (2, self._freeze_runner),
        }
        if fleet.database.cluster is not None:
            self._kinds["database crashed"] = (4, self._crash_database)
        self._drawn = self._draw(self._kinds)

    def strike(self, waited: float) -> bool:
        """One fault, of the kind that was drawn, or of another after `PATIENCE`; whether one took place.

        A Ray worker goes first where it is the turn of one, and one is there.
        """
        if self._turn_of_ray() and self._kill_ray_worker():
            self._report.faults[RAY_WORKER] += 1
            return True
        left, kind = dict(self._kinds), self._drawn
        while not left.pop(kind)[1]():
            if waited < PATIENCE or not left:
                return False
            kind = self._draw(left)
        self._report.faults[kind] += 1
        self._drawn = self._draw(self._kinds)
        return True

    def _turn_of_ray(self) -> bool:
        """Whether Ray workers have had less than their share; their runner is left alone until one could start."""
        return self._report.faults[RAY_WORKER] < RAY_SHARE * (self._report.faults.total() + 1)

    def _draw(self, kinds: Mapping[str, tuple[int, Callable[[], bool]]]) -> str:
        return self._random.choices(list(kinds), [weight for weight, _ in kinds.values()])[0]

    def pause(self) -> float:
        """Seconds until the next fault."""
        return self._random.uniform(0.3, 3.0)

    def _kill_runner(self) -> bool:
        runner = self._a_runner()
        if runner is None:
            return False
        runner.kill()
        self._fleet.restart_after(runner, self._random.uniform(0, 1))
        return True

    def _freeze_runner(self) -> bool:
        runner = self._a_runner()
        if runner is None:
            return False
        runner.freeze(self._random.uniform(LEASE + 1, LEASE + 4))
        return True

    def _kill_api(self) -> bool:
        api = self._fleet.api
        if api.exit_code is not None or not self._fleet.ready() or time.monotonic() < api.started_at + UP:
            return False
        time.sleep(self._random.uniform(0, 0.2))  # anywhere in a request, not right after one
        api.kill()
        self._fleet.restart_after(api, self._random.uniform(0, 1))
        return True

    def _kill_ray_worker(self) -> bool:
        workers = sorted(ray_workers(self._fleet.ray), key=lambda p: p.pid)
        if not workers or self._spared("Ray worker", self._fleet.database.most_tried()[1] >= MAX_LOSSES - 1):
            return False
        self._random.choice(workers).kill()
        return True

    def _crash_database(self) -> bool:
        assert self._fleet.database.cluster is not None
        self._fleet.database.cluster.crash()
        return True

    def _spared(self, whom: str, when: bool) -> bool:
        self._report.spared[whom] += when
        return when

    def _a_runner(self) -> Process | None:
        """One that runs and has claimed jobs; else one that has had its time."""
        alone = self._fleet.ray_runner if self._turn_of_ray() else None
        up = [r for r in self._fleet.runners if r.exit_code is None and r.stopped_until is None and r is not alone]
        busy = [r for r in up if r.said("job claimed")]
        late = [r for r in up if time.monotonic() - r.started_at > SPARED]
        if not busy and not late:
            return None
        if self._spared("runner", self._fleet.database.most_tried()[0] >= MAX_ATTEMPTS - RESERVE):
            return None
        self._report.in_work += bool(busy)
        return self._random.choice(busy or late)


def run(
    kind: Kind,
    *,
    faults: int,
    minutes: float,
    seed: int = 0,
    at_once: int = 6,
    quarters: int = 4,
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Faults until there were so many, or the time is spent; then quiet until every job is over, and the verdict.

    Args:
        kind: of database.
        faults: how many.
        minutes: that they may take.
        seed: of the faults.
        at_once: jobs that are kept going.
        quarters: the size of the jobs; see `documents`.
        say: told how far it is.

    Raises:
        LookupError: there is no such database here.
    """
    report = Report(kind, seed)
    with _folder() as folder, cleanup() as mark, databases.opened(kind, folder, mark) as database:
        if kind == "postgresql" and database.cluster is None:
            report.remarks.append("no server restarts: PostgreSQL's programs are not installed here")
        fleet = Fleet(database, mark, folder)
        with _logs_kept(folder, report):
            fleet.start()
            started = time.monotonic()
            with Witness(f"http://127.0.0.1:{fleet.port}", documents(quarters), at_once) as witness:
                _disturb(fleet, Storm(fleet, seed, report), report, faults, started + 60 * minutes, say)
                _let_end(fleet, witness, report)
                report.seconds = time.monotonic() - started
                _judge(fleet, witness, report)
    return report


def _disturb(
    fleet: Fleet, storm: Storm, report: Report, faults: int, end: float, say: Callable[[str], None]
) -> None:
    following = time.monotonic() + storm.pause()
    while report.faults.total() < faults and time.monotonic() < end:
        fleet.tend()
        waited = time.monotonic() - following
        if waited >= 0 and storm.strike(waited):
            following = time.monotonic() + storm.pause()
            if report.faults.total() % 10 == 0:
                say(f"{report.database}: {report.faults.total()} faults")
        time.sleep(0.2)
    if report.faults.total() < faults:
        report.violations.append(f"the time was over after {report.faults.total()} of {faults} faults")


def _let_end(fleet: Fleet, witness: Witness, report: Report) -> None:
    """Quiet: what is down comes up, and the jobs end."""
    witness.enough()
    end = time.monotonic() + QUIET
    while not witness.done and witness.alive and time.monotonic() < end:
        fleet.tend()
        time.sleep(0.1)
    if not witness.alive:
        report.violations.append("the witness itself failed")


def _judge(fleet: Fleet, witness: Witness, report: Report) -> None:
    """Everything that is wrong, into the report."""
    known = set(witness.listed())
    report.violations += witness.violations
    report.violations += fleet.stop()  # first, so that nothing disturbs what the jobs are compared with
    if known != set(witness.jobs):
        report.violations.append(f"{len(known)} jobs came of {len(witness.jobs)} submissions")
    for job_id, seen in witness.jobs.items():
        report.violations += judged(job_id, seen)
        report.jobs += 1
        report.trials += len(seen.last)
        report.retried += sum(t["attempt"] > 1 for t in seen.last)
        report.undisturbed += worker_alone(seen.document)
    report.answers = dict(witness.answers)
    report.violations += fleet.database.faults_in_book()
    report.writes = fleet.database.writes()
    report.remarks += [f"{n} x {what}" for what, n in Counter(fleet.ended).items()]
    report.leases_lost = sum(r.log.read_text(errors="replace").count("lease lost") for r in fleet.runners)


@contextmanager
def _logs_kept(folder: Path, report: Report) -> Iterator[None]:
    """What the processes wrote outlives a run that went wrong."""
    try:
        yield
    except BaseException as error:
        report.violations.append(f"the run itself failed: {error!r}")
        raise
    finally:
        if report.violations:
            kept = Path(tempfile.mkdtemp(prefix="nas-chaos-logs-"))
            for log in folder.glob("*.log"):
                shutil.copy(log, kept)
            report.remarks.append(f"what the processes wrote is kept in {kept}")
            print(report, file=sys.stderr)


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder with a short path, for Ray's sockets lie in it; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="nas-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
