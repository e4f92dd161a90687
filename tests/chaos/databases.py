"""Databases of a run: a SQLite file, a PostgreSQL cluster of its own, or a database on a server that is there.

Each keeps a book of every write of a trial, by triggers, so that a write that must not be is seen even where its
effects are not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from sqlalchemy import create_engine, make_url, text

from tests.chaos.processes import environment
from tests.waiting import free_port

Kind: TypeAlias = Literal["sqlite", "postgresql"]


@dataclass(frozen=True)
class Database:
    """Where a run keeps its jobs."""

    url: str
    cluster: Cluster | None = None
    """The server, where it belongs to the run and may be killed."""

    @property
    def kind(self) -> str:
        """ "sqlite" or "postgresql"."""
        return make_url(self.url).get_backend_name()

    def keep_book(self) -> None:
        """Log every write of a trial from now on. The schema must be there."""
        self._run(_SQLITE_BOOK if self.kind == "sqlite" else _POSTGRESQL_BOOK)

    def faults_in_book(self) -> list[str]:
        """Writes that must not be: of a finished trial, or (PostgreSQL) by a runner without the lease."""
        rows = self._run(_WRITTEN_AFTER_THE_END)
        found = [f"job {job}: trial {number} was written again after it was finished" for job, number in rows]
        if self.kind == "postgresql":
            rows = self._run(_WRITTEN_WITHOUT_LEASE)
            found += [f"job {job}: trial {n} was written by {who} without the lease" for job, n, who in rows]
        return found

    def most_tried(self) -> tuple[int, int]:
        """The most attempts, and the most lost workers, of any trial that is not finished."""
        query = f"SELECT max(attempt), max(losses) FROM trials WHERE state NOT IN {_FINISHED}"
        attempts, losses = self._run([query])[0]
        return attempts or 0, losses or 0

    def writes(self) -> int:
        """How many writes of trials the book holds."""
        (count,) = self._run(["SELECT count(*) FROM chaos_writes"])[0]
        return int(count)

    def _run(self, statements: list[str]) -> list[tuple[Any, ...]]:
        """The rows of the last statement that gives any."""
        engine = create_engine(_driven(self.url))
        rows: list[tuple[Any, ...]] = []
        with engine.begin() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement)
                if result.returns_rows:
                    rows = [tuple(row) for row in result]
        engine.dispose()
        return rows


class Cluster:
    """A PostgreSQL server of the run's own, which may be restarted at any moment.

    It does not wait for the disk: its processes crash, and the machine does not.
    """

    def __init__(self, folder: Path, mark: str) -> None:
        self._data, self._mark = folder / "data", mark
        self._as = {"user": "postgres", "group": "postgres", "extra_groups": ()} if os.geteuid() == 0 else {}
        self._port = free_port()
        if self._as:
            shutil.chown(folder, "postgres", "postgres")
        self._call("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        settings = f"port={self._port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nfsync=off\n"
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(settings)
        self._call("pg_ctl", "start", "-w", "-l", str(folder / "server.log"))

    @property
    def url(self) -> str:
        """Of its database."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def crash(self) -> None:
        """All server processes die without cleaning up, and the server starts again and recovers."""
        log = self._data.parent / "server.log"
        self._call("pg_ctl", "restart", "-w", "-m", "immediate", "-l", str(log))

    def stop(self) -> None:
        """End it for good."""
        self._call("pg_ctl", "stop", "-m", "immediate")

    def _call(self, program: str, *arguments: str) -> None:
        binary = postgres_binary(program)
        assert binary is not None
        subprocess.run(
            [binary, "-D", str(self._data), *arguments],
            check=True,
            cwd=self._data.parent,
            env=environment(self._mark),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would be inherited by the server, and never end
            stderr=subprocess.DEVNULL,
            timeout=60,
            **self._as,  # type: ignore[call-overload]
        )


def postgres_binary(name: str) -> str | None:
    """The path of a program of the PostgreSQL server, or None where it is not installed."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(installed[0]) if installed else shutil.which(name)


@contextmanager
def opened(kind: Kind, folder: Path, mark: str) -> Iterator[Database]:
    """A database for the body: a file in `folder`, or a cluster of the run's own.

    Without PostgreSQL's programs it is a database on the server that `NAS_TEST_POSTGRES_URL` names.

    Raises:
        LookupError: there is neither.
    """
    if kind == "sqlite":
        yield Database(f"sqlite:///{folder}/nas.db")
    elif postgres_binary("initdb"):
        with private_cluster(mark) as cluster:
            yield Database(cluster.url, cluster)
    else:
        with _borrowed() as url:
            yield Database(url)


@contextmanager
def private_cluster(mark: str) -> Iterator[Cluster]:
    """A PostgreSQL server in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="nas-pg-"))  # not below one that user postgres may not enter
    try:
        cluster = Cluster(folder, mark)
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _borrowed() -> Iterator[str]:
    """A new database on a server that is there."""
    server = os.environ.get("NAS_TEST_POSTGRES_URL")
    if not server:
        raise LookupError("no PostgreSQL: initdb is not installed, and NAS_TEST_POSTGRES_URL names no server")
    name = f"nas_chaos_{uuid.uuid4().hex[:12]}"
    engine = create_engine(_driven(server), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with engine.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
        engine.dispose()


def _driven(url: str) -> str:
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed.render_as_string(hide_password=False)


_FINISHED = "('SUCCEEDED', 'EARLY_STOPPED', 'INFEASIBLE', 'FAILED', 'CANCELLED')"

_WRITTEN_AFTER_THE_END = [
    f"SELECT DISTINCT job_id, number FROM chaos_writes WHERE before IN {_FINISHED} ORDER BY job_id, number"
]

_SQLITE_BOOK = [
    "CREATE TABLE chaos_writes (job_id TEXT, number INTEGER, before TEXT, after TEXT)",
    "CREATE TRIGGER chaos_insert AFTER INSERT ON trials BEGIN "
    "INSERT INTO chaos_writes VALUES (NEW.job_id, NEW.number, NULL, NEW.state); END",
    "CREATE TRIGGER chaos_update AFTER UPDATE ON trials BEGIN "
    "INSERT INTO chaos_writes VALUES (NEW.job_id, NEW.number, OLD.state, NEW.state); END",
    "CREATE TRIGGER chaos_delete AFTER DELETE ON trials BEGIN "
    "INSERT INTO chaos_writes VALUES (OLD.job_id, OLD.number, OLD.state, NULL); END",
]

# Every process names itself (PGAPPNAME). A trial may be written by the one that made the fence what it is, and
# by the one that claims the job in that very transaction: it recovers the trials that were left RUNNING.
_POSTGRESQL_BOOK = [
    "CREATE TABLE chaos_writes (job_id text, number int, before text, after text, fence int, "
    "writer text DEFAULT current_setting('application_name'), tx bigint DEFAULT txid_current())",
    "CREATE TABLE chaos_claims (job_id text, fence int, "
    "writer text DEFAULT current_setting('application_name'), tx bigint DEFAULT txid_current())",
    "CREATE FUNCTION chaos_write() RETURNS trigger AS $$ BEGIN "
    "INSERT INTO chaos_writes (job_id, number, before, after, fence) SELECT NEW.job_id, NEW.number, "
    "CASE TG_OP WHEN 'UPDATE' THEN OLD.state END, NEW.state, "
    "(SELECT fence FROM jobs WHERE id = NEW.job_id); RETURN NULL; END $$ LANGUAGE plpgsql",
    "CREATE FUNCTION chaos_claim() RETURNS trigger AS $$ BEGIN "
    "IF NEW.fence <> OLD.fence THEN INSERT INTO chaos_claims (job_id, fence) VALUES (NEW.id, NEW.fence); "
    "END IF; RETURN NULL; END $$ LANGUAGE plpgsql",
    "CREATE TRIGGER chaos_write AFTER INSERT OR UPDATE ON trials FOR EACH ROW EXECUTE FUNCTION chaos_write()",
    "CREATE TRIGGER chaos_claim AFTER UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION chaos_claim()",
]

_WRITTEN_WITHOUT_LEASE = [
    "SELECT DISTINCT w.job_id, w.number, w.writer FROM chaos_writes w WHERE NOT EXISTS ("
    "SELECT 1 FROM chaos_claims c WHERE c.job_id = w.job_id AND c.writer = w.writer "
    "AND (c.fence = w.fence OR (c.fence = w.fence + 1 AND c.tx = w.tx))) ORDER BY w.job_id, w.number"
]
