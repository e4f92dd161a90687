import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from stored import BEGUN, PROPOSALS, SPEC

from nas.contracts import Submitter
from nas.exports import ExportSpec, ExportState
from nas.storage import DatabaseError, DatabaseOutOfDate, DatabaseTooNew, migrate, open_store
from nas.storage.database import Database
from nas.storage.schema import REVISION, metadata
from nas.storage.sql import SqlStore
from nas.trial import Broken, BrokenKind, Measured


def in_database(url: str, ask: Callable[[Any], Any]) -> Any:
    database = Database(url)
    with database.writing() as connection:
        answer = ask(connection)
    database.close()
    return answer


def shape(connection: Any) -> Any:
    seen = inspect(connection)
    names = sorted(seen.get_table_names())
    return [
        (
            name,
            [(c["name"], str(c["type"]), c["nullable"]) for c in seen.get_columns(name)],
            seen.get_pk_constraint(name)["constrained_columns"],
            sorted((i["name"], i["column_names"], i["unique"]) for i in seen.get_indexes(name)),
            [f["referred_table"] for f in seen.get_foreign_keys(name)],
        )
        for name in names
    ]


def differences(connection: Any) -> Any:
    return compare_metadata(MigrationContext.configure(connection), metadata)


def set_revision(url: str, revision: str) -> None:
    in_database(url, lambda c: c.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision}))


def test_up_down_and_up_again_is_the_schema_of_the_tables(database: str) -> None:
    assert migrate.current(database) is None
    migrate.upgrade(database)
    assert migrate.current(database) == REVISION
    assert in_database(database, differences) == []
    first = in_database(database, shape)
    migrate.downgrade(database, "base")
    assert migrate.current(database) is None
    assert in_database(database, lambda c: inspect(c).get_table_names()) == ["alembic_version"]
    migrate.upgrade(database)
    assert in_database(database, shape) == first
    assert in_database(database, differences) == []


def test_the_schema_says_which_revision_it_is() -> None:
    script = ScriptDirectory(str(Path(migrate.__file__).parent / "migrations"))
    assert script.get_heads() == [REVISION]


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(database: str) -> None:
    store = open_store(database)
    job = store.submit(SPEC)
    store.claim().open(PROPOSALS[:1])
    before = store.trials(job.id)
    migrate.upgrade(database)
    assert store.trials(job.id) == before
    store.close()


def test_trials_outlive_the_way_down_and_up_without_their_origins(database: str) -> None:
    store = open_store(database)
    job = store.submit(SPEC, trials=BEGUN)
    store.close()
    migrate.downgrade(database, "0001")
    assert migrate.current(database) == "0001"
    migrate.upgrade(database)
    assert store.trials(job.id) == [replace(t, origin=None) for t in BEGUN]
    store.close()


def test_metrics_and_counts_outlive_the_way_down_to_the_first_schema_and_up(database: str) -> None:
    store = open_store(database)
    job = store.submit(SPEC, by=Submitter("vision", "anna", "token", "digest"))
    idle = store.submit(SPEC).id
    lease = store.claim(job.id)
    lease.open(PROPOSALS[:7])
    metrics = [{"accuracy": 1 / 3, "params": 7}, {"params": 2e6, "größe": -1e300, "accuracy": 0.0}]
    lease.close([(n + 3, Measured(m)) for n, m in enumerate(metrics)])
    lease.close([(0, Broken(BrokenKind.FAILED, "no")), (1, Broken(BrokenKind.LOST, "gone"))])
    before, counts = store.trials(job.id), store.job(job.id).counts
    store.close()
    migrate.downgrade(database, "0002")
    rows = in_database(
        database, lambda c: c.execute(text("SELECT metrics FROM trials WHERE metrics IS NOT NULL")).scalars().all()
    )
    assert sorted(map(json.loads, rows), key=len) == metrics
    migrate.upgrade(database)
    assert store.trials(job.id) == [replace(t, losses=0) for t in before]
    assert store.job(job.id).counts == counts
    assert store.job(job.id).project == "default"
    assert store.job(idle).counts == {}
    assert store.measurements(job.id).numbers.tolist() == [3, 4]
    store.close()


def test_exports_outlive_the_way_down_and_up(database: str) -> None:
    store = open_store(database)
    vision = Submitter("vision", "anna", "token", "digest")
    job = store.submit(SPEC, by=vision)
    spec = ExportSpec.parse({"job": job.id, "trial": 0})
    cancelled, waiting, given_back = (store.exports.add(spec, by) for by in (vision, Submitter(), Submitter()))
    store.exports.cancel(cancelled.id)
    store.exports.settle(store.exports.claim().given_back())
    store.close()
    migrate.downgrade(database, "0004")
    rows = in_database(database, lambda c: c.execute(text("SELECT state, reason FROM exports ORDER BY id")).all())
    assert rows[0] == ("FAILED", "cancelled on request")
    migrate.upgrade(database)
    for export in (waiting, given_back):
        assert store.exports.export(export.id).state is ExportState.QUEUED
    projects = in_database(database, lambda c: c.execute(text("SELECT project FROM exports")).scalars().all())
    assert projects == ["vision"] * 3, "those of its job"
    assert store.exports.asked(vision) is None
    assert store.exports.claim().id in (waiting.id, given_back.id)
    store.close()


def test_processes_that_open_an_empty_database_at_once_all_find_it_ready(database: str) -> None:
    code = "import sys; from nas.storage import open_store; print(len(open_store(sys.argv[1]).jobs()))"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, database], stdout=subprocess.PIPE, env=env) for _ in range(3)
    ]
    assert [p.communicate()[0].strip() for p in processes] == [b"0"] * 3
    assert migrate.current(database) == REVISION


def test_a_database_of_a_newer_version_is_refused(database: str) -> None:
    open_store(database).close()
    set_revision(database, "9999")
    for use in (open_store, migrate.upgrade):
        with pytest.raises(DatabaseTooNew, match=f"has schema 9999, and this version knows {REVISION}"):
            use(database)


def test_a_server_of_an_older_version_asks_to_be_upgraded(database: str) -> None:
    if database.startswith("sqlite"):
        pytest.skip("a SQLite file is upgraded when it is opened")
    open_store(database).close()
    set_revision(database, "0000")
    with pytest.raises(DatabaseOutOfDate, match="run: nas db upgrade"):
        open_store(database)


def test_a_sqlite_file_is_made_with_its_folder(tmp_path: Any) -> None:
    store = open_store(f"sqlite:///{tmp_path}/deep/down/nas.db")
    assert store.jobs() == []
    store.close()
    assert (tmp_path / "deep" / "down" / "nas.db").is_file()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("hunter2", "not a database URL; allowed: sqlite:///file.db or postgresql://"),
        ("postgresql://me:hunter2@host:port/x", "not a database URL"),
        ("mysql://me:hunter2@host/x", "mysql:// is not supported; allowed: sqlite"),
        ("postgresql+psycopg2://me:hunter2@host/x", "not supported"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("postgresql://me:hunter2@127.0.0.1:1/x", "the database postgresql://127.0.0.1:1/x cannot be used"),
        ("postgresql://127.0.0.1:1/x?user=me&password=hunter2", "127.0.0.1:1/x cannot be used"),
    ],
)
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str, told: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        open_store(url)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_told(tmp_path: Any) -> None:
    (tmp_path / "notes.txt").write_text("not a database\n" * 100)
    with pytest.raises(DatabaseError, match=r"notes\.txt cannot be used: file is not a database"):
        open_store(f"sqlite:///{tmp_path}/notes.txt")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgresql_means_psycopg_and_its_password_is_not_shown(scheme: str) -> None:
    store = SqlStore(f"{scheme}://me:hunter2@db.example/x?sslmode=require")
    assert store.database.engine.driver == "psycopg"
    assert repr(store) == "SqlStore(postgresql://db.example/x)"
    store.close()
