"""The short form of `make chaos`; and, where NAS_CHAOS is set, the processes of the compose file.

They run as programs of their own: what they start is none of this process's, and ends with them however they end.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.databases import Kind, postgres_binary

ROOT = Path(__file__).parents[2]
PATIENCE = 280
"""Seconds; several times what it takes, for other tests run beside it."""


@pytest.mark.timeout(PATIENCE + 30)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_nothing_is_lost_under_kill_9(kind: Kind) -> None:
    if kind == "postgresql":
        _needs_postgres()
    short = ["--faults", "7", "--minutes", "3", "--quarters", "1", "--at-once", "3", "--seed", "3"]
    (report,) = json.loads(_output("-m", "tests.chaos", "--json", "--database", kind, *short))
    assert report["fault_count"] == 7
    assert report["undisturbed"] > 0


@pytest.mark.skipif("NAS_CHAOS" not in os.environ, reason="`make compose-check` does it; NAS_CHAOS is not set")
@pytest.mark.timeout(PATIENCE + 30)
def test_the_processes_of_the_compose_file_finish_a_job_on_two_nodes() -> None:
    _needs_postgres()
    _output(str(ROOT / "scripts" / "compose-check"))


def _needs_postgres() -> None:
    if not postgres_binary("initdb"):
        pytest.skip("PostgreSQL's programs (initdb, pg_ctl) are not installed")


def _output(*program: str) -> str:
    """What a program prints that ends with exit status 0."""
    running = subprocess.Popen(
        [sys.executable, *program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        output, told = running.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        running.terminate()  # it removes what it has started, which a killed one could not
        output, told = running.communicate()
    assert running.returncode == 0, output + told
    return output
