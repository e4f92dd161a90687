"""One run of schemathesis against a prepared server, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.prepared import ROOT, Served, served

CONFIG = Path(__file__).parent / "schemathesis.toml"
ALL_PHASES = ("examples", "coverage", "fuzzing", "stateful")
"""Examples of the document; every single deviation from its schemas; random cases; and chains of requests."""


@dataclass(frozen=True)
class Campaign:
    """What came of it."""

    cases: int
    operations: int
    failures: Sequence[str]
    """What was wrong, and where."""
    errors: Sequence[str]
    """Why something could not be tried."""
    seed: int
    seconds: float
    output: str
    """What schemathesis told, with a request for each failure."""

    @property
    def sound(self) -> bool:
        """Whether every answer was as promised."""
        return self.cases > 0 and not self.failures and not self.errors

    def __str__(self) -> str:
        found = "".join(f"\n  {line}" for line in (*self.failures, *self.errors))
        return (
            f"{self.cases} cases, {self.operations} operations, {len(self.failures)} failures, "
            f"{len(self.errors)} errors, seed {self.seed}, {self.seconds:.0f} s{found}"
        )


def run(
    folder: Path,
    *,
    examples: int,
    seed: int,
    phases: Iterable[str] = ALL_PHASES,
    seconds: int | None = None,
    predictors: bool = True,
) -> Campaign:
    """Send generated requests, right ones and wrong ones.

    Args:
        folder: an empty one, for the database, logs and reports.
        examples: random cases of an operation, at most.
        seed: the same seed makes the same cases, but for the ids.
        phases: some of `ALL_PHASES`.
        seconds: the random cases are repeated until so many have passed, and end then; None: each is tried once.
        predictors: whether predictors are there; to fit them takes a while.
    """
    started = time.monotonic()
    with served(folder, predictors=predictors) as server:
        _write_ids(folder, server)
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / CONFIG.name)),
            *("run", f"{server.url}/openapi.json", "--no-color", "--no-shrink"),
            *("--phases", ",".join(phases), "--max-examples", str(examples), "--seed", str(seed)),
            *(() if seconds is None else ("--max-time", str(seconds))),
            *("--report", "json", "--report-json-path", str(folder / "report.json")),
        ]
        done = subprocess.run(
            command,
            env=_environment(server),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    (folder / "output.txt").write_text(done.stdout)
    return _read(folder / "report.json", seed, time.monotonic() - started, done.stdout)


def _write_ids(folder: Path, server: Served) -> None:
    """The dictionaries that the configuration names, beside it."""
    (folder / CONFIG.name).write_text(CONFIG.read_text())
    for name, ids in (("jobs.txt", server.lasting), ("predictors.txt", server.predictors)):
        (folder / name).write_text("".join(f'"{found}"\n' for found in ids))


def _environment(server: Served) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NAS_FUZZ_KEY": server.key,
        "NAS_FUZZ_OVER": ",".join(server.over),
        "NAS_FUZZ_EXPENDABLE": ",".join(server.expendable),
    }


def _read(report: Path, seed: int, seconds: float, output: str) -> Campaign:
    found: dict[str, Any] = json.loads(report.read_text() or "{}") if report.exists() else {}
    errors = [f"{e['title']} ({e['count']})" for e in found.get("errors", [])]
    return Campaign(
        found.get("test_cases", {}).get("generated", 0),
        (found.get("operations") or {}).get("tested", 0),
        [
            f"{f['title']} ({f['count']}): {', '.join(map(str, f['operations']))}"
            for f in found.get("failures", [])
        ],
        errors if found.get("complete") else [*errors, "it did not come to its end"],
        seed,
        seconds,
        output,
    )
