"""One run of schemathesis against a prepared server, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.prepared import ROOT, Served, served

CONFIG = Path(__file__).parent / "schemathesis.toml"
STATUSES = "statuses.txt"
ALL_PHASES = ("examples", "coverage", "fuzzing", "stateful")
"""Examples of the document; every single deviation from its schemas; random cases; and chains of requests."""


@dataclass(frozen=True)
class Campaign:
    """What came of it."""

    cases: int
    fewest: int
    """As many are to be sent, for their result to count."""
    operations: int
    statuses: Mapping[int, int]
    """How many answers had which status."""
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
        """Whether there were enough cases, and every answer was as promised: none by 5xx, none undocumented."""
        broken = any(status >= 500 for status in self.statuses)
        return self.cases >= self.fewest and not self.failures and not self.errors and not broken

    @property
    def classes(self) -> Mapping[int, int]:
        """How many answers had a status of 2xx, 3xx, 4xx and 5xx, by the first digit."""
        found = Counter(dict.fromkeys((2, 3, 4, 5), 0))
        for status, count in self.statuses.items():
            found[status // 100] += count
        return found

    def __str__(self) -> str:
        few = [f"fewer cases than the {self.fewest} asked for"] if self.cases < self.fewest else []
        found = "".join(f"\n  {line}" for line in (*few, *self.failures, *self.errors))
        classes = ", ".join(f"{digit}xx: {count}" for digit, count in sorted(self.classes.items()))
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"{self.cases} cases, {self.operations} operations, {len(self.failures)} failures, "
            f"{len(self.errors)} errors, seed {self.seed}, {self.seconds:.0f} s\n"
            f"answers by class: {classes}\nanswers by status: {statuses}{found}"
        )


def run(
    folder: Path,
    *,
    examples: int,
    seed: int,
    phases: Iterable[str] = ALL_PHASES,
    seconds: int | None = None,
    fewest: int = 1,
    predictors: bool = True,
) -> Campaign:
    """Send generated requests, right ones and wrong ones.

    Args:
        folder: an empty one, for the database, logs and reports.
        examples: random cases of an operation, at most.
        seed: the same seed makes the same cases, but for the ids.
        phases: some of `ALL_PHASES`.
        seconds: the random cases are repeated until so many have passed, and end then; None: each is tried once.
        fewest: cases that make a run sound, at least.
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
            env=_environment(server, folder / STATUSES),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    (folder / "output.txt").write_text(done.stdout)
    return _read(folder, fewest, seed, time.monotonic() - started, done.stdout)


def _write_ids(folder: Path, server: Served) -> None:
    """The dictionaries that the configuration names, beside it."""
    (folder / CONFIG.name).write_text(CONFIG.read_text())
    for name, ids in (
        ("jobs.txt", server.lasting),
        ("predictors.txt", server.predictors),
        ("exports.txt", server.exports),
    ):
        (folder / name).write_text("".join(f'"{found}"\n' for found in ids))


def _environment(server: Served, statuses: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NAS_FUZZ_KEY": server.key,
        "NAS_FUZZ_STATUSES": str(statuses),
        "NAS_FUZZ_OVER": ",".join(server.over),
        "NAS_FUZZ_LASTING": ",".join(server.lasting),
        "NAS_FUZZ_EXPENDABLE": ",".join(server.expendable),
    }


def _read(folder: Path, fewest: int, seed: int, seconds: float, output: str) -> Campaign:
    report, statuses = folder / "report.json", folder / STATUSES
    found: dict[str, Any] = json.loads(report.read_text() or "{}") if report.exists() else {}
    errors = [f"{e['title']} ({e['count']})" for e in found.get("errors", [])]
    return Campaign(
        found.get("test_cases", {}).get("generated", 0),
        fewest,
        (found.get("operations") or {}).get("tested", 0),
        Counter(map(int, statuses.read_text().split())) if statuses.exists() else {},
        [
            f"{f['title']} ({f['count']}): {', '.join(map(str, f['operations']))}"
            for f in found.get("failures", [])
        ],
        errors if found.get("complete") else [*errors, "it did not come to its end"],
        seed,
        seconds,
        output,
    )
