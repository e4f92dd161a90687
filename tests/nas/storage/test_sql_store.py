import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lease_contract import LeaseContract
from sqlalchemy import text
from store_contract import StoreContract
from stored import GOOD, PROPOSALS, SPEC, Make, everything, states

from nas.contracts import LeaseLost
from nas.job import JobState
from nas.storage import DatabaseError, open_store
from nas.storage.errors import Unreadable
from nas.storage.sql import SqlStore
from nas.trial import TrialState

pytestmark = pytest.mark.law


class TestSqlStore(StoreContract, LeaseContract):
    @pytest.fixture
    def make(self, database: str) -> Iterator[Make]:
        opened = []

        def make(seconds: float) -> SqlStore:
            store = open_store(database, lease_seconds=seconds)
            assert isinstance(store, SqlStore)
            opened.append(store)
            return store

        yield make
        for store in opened:
            store.close()

    def test_another_process_would_see_the_same(self, make: Make) -> None:
        one, two = make(60.0), make(60.0)
        job_id = one.submit(SPEC).id
        lease = two.claim()
        lease.open(PROPOSALS[:3])
        lease.close([(1, GOOD)])
        assert everything(one, job_id) == everything(two, job_id)
        assert one.claim(job_id) is None
        one.request(job_id, "cancel")
        assert lease.renew().state is JobState.CANCELLING

    def test_twelve_runners_share_two_hundred_jobs(self, make: Make) -> None:
        store = make(600.0)
        ids = [store.submit(SPEC).id for _ in range(200)]
        start = threading.Barrier(12)

        def greedy(own: SqlStore) -> list[str]:
            start.wait()
            claimed = []
            while (lease := own.claim()) is not None:
                claimed.append(lease.renew().id)
            return claimed

        runners = [make(600.0) for _ in range(3)]  # of one process each: a pool of connections, four threads
        with ThreadPoolExecutor(12) as pool:
            claimed = [job_id for found in pool.map(greedy, runners * 4) for job_id in found]
        # a claimer passes over a job that another one looks at; what all passed over is claimed next
        while (lease := store.claim()) is not None:
            claimed.append(lease.renew().id)
        assert sorted(claimed) == sorted(ids)

    def test_a_host_whose_clock_is_wrong_robs_nobody(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        store, real = make(60.0), time.time
        job_id = store.submit(SPEC).id
        lease = store.claim()
        for shift in (3600.0, -3600.0):
            monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
            assert store.claim(job_id) is None
            lease.renew()
            assert store.claim(job_id) is None

    def test_a_document_that_cannot_be_read_fails_its_job_and_holds_up_no_other(self, make: Make) -> None:
        store = make(0.0)
        bad, good = store.submit(SPEC).id, store.submit(SPEC).id
        old = store.claim(bad)
        old.open(PROPOSALS[:2])
        old.close([(0, GOOD)])
        with store.database.writing() as connection:
            stale = SPEC.model_dump_json().replace("regularized_evolution", "simulated_annealing")
            connection.execute(text("UPDATE jobs SET spec = :spec WHERE id = :id"), {"spec": stale, "id": bad})
        later = make(0.0)
        assert [job.id for job in later.jobs(limit=1)] == [job.id for job in later.jobs()] == [good]
        with pytest.raises(Unreadable, match="simulated_annealing"):
            later.job(bad)
        assert later.claim().renew().id == good
        with store.database.writing() as connection:
            update = text("UPDATE jobs SET spec = :spec WHERE id = :id")
            connection.execute(update, {"spec": SPEC.model_dump_json(), "id": bad})
        job = store.job(bad)
        assert job.state is JobState.FAILED
        assert "simulated_annealing" in job.reason
        assert states(store, bad) == [TrialState.SUCCEEDED, TrialState.CANCELLED]
        with pytest.raises(LeaseLost):
            old.renew()

    def test_a_write_that_fails_leaves_the_lease_as_it_was(self, make: Make) -> None:
        store = make(60.0)
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:1])
        with store.database.writing() as connection:
            connection.execute(text("ALTER TABLE trials RENAME TO away"))
        for write in (lambda: lease.open(PROPOSALS[1:2]), lambda: lease.close([(0, GOOD)])):
            with pytest.raises(DatabaseError, match="cannot be used"):
                write()
        with store.database.writing() as connection:
            connection.execute(text("ALTER TABLE away RENAME TO trials"))
        assert lease.open(PROPOSALS[1:2])[0].number == 1
        assert lease.close([(0, GOOD)])[0].order == 0
        assert states(store, job_id) == [TrialState.SUCCEEDED, TrialState.RUNNING]

    def test_counts_of_another_moment_last_until_the_next_claim(self, make: Make) -> None:
        """As a write leaves them that a server had received, and carried out when its runner had gone on."""
        store = make(0.2)
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:3])
        lease.close([(1, GOOD)])
        with store.database.writing() as connection:
            connection.execute(text("UPDATE jobs SET running = 1, succeeded = 0"))
        time.sleep(0.3)
        again = store.claim(job_id)
        assert store.job(job_id).counts == {TrialState.PENDING: 2, TrialState.SUCCEEDED: 1}
        (opened,) = again.open(PROPOSALS[3:4])
        assert opened.number == 3

    def test_a_long_reader_and_a_writer_do_not_wait_for_each_other(self, make: Make) -> None:
        store = make(60.0)
        job_id = store.submit(SPEC).id
        lease = store.claim()
        lease.open(PROPOSALS[:1])
        count = text("SELECT count(*) FROM trials")
        with ThreadPoolExecutor(1) as pool, store.database.reading() as reader:
            assert reader.execute(count).scalar() == 1
            pool.submit(lease.open, PROPOSALS[1:2]).result(10)
            assert len(store.trials(job_id)) == 2
        with ThreadPoolExecutor(1) as pool, store.database.writing() as writer:
            writer.execute(text("UPDATE trials SET attempt = 9"))
            seen = pool.submit(store.trials, job_id).result(10)
            assert [t.attempt for t in seen] == [1, 1]
            writer.rollback()


def test_writers_in_several_threads_wait_for_each_other(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/nas.db")
    start = threading.Barrier(6)

    def submit() -> None:
        start.wait()
        for _ in range(10):
            store.submit(SPEC)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(submit) for _ in range(6)]:
            done.result()
    assert len(store.jobs()) == 60
    store.close()


def test_a_fresh_file_that_another_process_writes_to_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "nas.db", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE begun (x)")
    other.execute("BEGIN IMMEDIATE")  # at this point SQLite refuses to switch to WAL, whatever its timeout
    release = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    release.start()
    store = open_store(f"sqlite:///{tmp_path}/nas.db")
    assert store.jobs() == []
    release.join()
    other.close()
    store.close()


WRITER = """
import sys
from stored import PROPOSALS, SPEC
from nas.storage import open_store
from nas.trial import Measured

store = open_store(sys.argv[1])
job = store.submit(SPEC)
lease = store.claim()
print(job.id, flush=True)
while True:
    trials = lease.open(PROPOSALS[:3])
    lease.close([(t.number, Measured({"accuracy": 0.5, "params": float(t.number)})) for t in trials[:2]])
    lease.close([(t.number, Measured({"accuracy": 0.5, "params": float(t.number)})) for t in trials[2:]])
    print(trials[-1].number, flush=True)
"""


def test_a_writer_that_is_killed_loses_nothing_that_it_wrote(database: str) -> None:
    paths = [p for p in sys.path if p]
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, database],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    with process:
        assert process.stdout is not None
        job_id = process.stdout.readline().strip()
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = process.stdout.read().split()
    last = int(told[-1]) if told else 59
    store = open_store(database)
    trials = store.trials(job_id)
    assert [t.number for t in trials] == list(range(len(trials)))
    assert len(trials) > last >= 59
    for trial in trials[: last + 1]:
        assert trial.state is TrialState.SUCCEEDED
        assert trial.metrics == {"accuracy": 0.5, "params": float(trial.number)}
    assert sorted(t.order for t in trials if t.order is not None) == list(
        range(sum(not t.state.open for t in trials))
    )
    store.close()
    hasty = open_store(database)
    with hasty.database.writing() as connection:
        connection.execute(text("UPDATE jobs SET lease_expires_at = 0"))
    lease = hasty.claim(job_id)
    assert lease is not None
    assert lease.trials()[: last + 1] == trials[: last + 1]
    assert lease.open(PROPOSALS[:1])[0].number == len(trials)
    hasty.close()


def test_claimers_pass_over_a_job_that_another_one_holds_locked(database: str) -> None:
    if database.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time: there is nothing to pass over")
    store = open_store(database)
    first, second = store.submit(SPEC).id, store.submit(SPEC).id
    with ThreadPoolExecutor(1) as pool, store.database.writing() as other:
        other.execute(text("SELECT id FROM jobs WHERE id = :id FOR UPDATE"), {"id": first})
        assert pool.submit(lambda: store.claim().renew().id).result(10) == second
        named = pool.submit(store.claim, first)  # who wants this very job waits for it
        time.sleep(0.2)
        assert not named.done()
        other.rollback()
        assert named.result(10).renew().id == first
    store.close()


def test_a_host_that_vanishes_in_a_transaction_does_not_lock_its_job_for_ever(database: str) -> None:
    if database.startswith("sqlite"):
        pytest.skip("a SQLite file has no hosts")
    store = open_store(database)
    with store.database.reading() as connection:
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar() == "1min"
    store.close()
