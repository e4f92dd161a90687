"""The short form of `make chaos`: a dozen faults on each database, and the compose file's processes.

They take minutes, so they run where NAS_CHAOS is set: `NAS_CHAOS=1 make test`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.databases import Kind, postgres_binary
from tests.chaos.storm import run

pytestmark = pytest.mark.skipif("NAS_CHAOS" not in os.environ, reason="takes minutes; NAS_CHAOS is not set")
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_nothing_is_lost_under_kill_9(kind: Kind) -> None:
    try:
        report = run(kind, faults=12, minutes=8, at_once=4, quarters=1, seed=3)
    except LookupError as error:
        pytest.skip(str(error))
    assert report.kept, str(report)
    assert report.faults.total() == 12
    assert report.undisturbed > 0


@pytest.mark.timeout(300)
def test_the_processes_of_the_compose_file_finish_a_job_on_two_nodes() -> None:
    if not postgres_binary("initdb"):
        pytest.skip("PostgreSQL's programs (initdb, pg_ctl) are not installed")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "compose-check")], capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
