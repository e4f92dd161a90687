"""Architecture and bits searched together, beside one after the other, on Fashion-MNIST.

``python -m benchmarks.joint_quantization [--seeds 0,1,2] [--trials N] [--store FILE] [--only two-stage|joint]
[--json FILE] [--quick]``. Three ways to small networks, each with the same number of trainings, of the same number
of epochs on the same images:

- ``joint``: architecture and bits of weights, part by part, in one genome (SimQ-NAS, Sharma et al. 2023); the last
  epochs of each training are quantization-aware;
- ``two-stage``: a search for architectures in floating point, then INT8 for all of its front;
- ``INT8 for all``: of the same search the most accurate network, with INT8.

INT8 is post-training quantization, of the very networks that were searched: they are trained again by the same
draws. Searches see the validation part. What they chose is trained again, by the same draws, and measured on the
test part once. Everything is kept in the database `--store`, so an interrupted run goes on where it was, and
``--only`` lets two processes share the work; whoever comes last prints the table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from typing_extensions import override

from benchmarks.tables import DATA
from nas.contracts import JobFilter
from nas.job import JobSpec
from nas.local import LocalStore, drive, result_of, study_of, submit
from nas.pareto import hypervolume
from nas.result import SearchResult
from nas.storage import open_store
from nas.trial import Trial
from search_spaces.quantization import Quantization
from search_spaces.staged import StagedSpace
from search_spaces.staged_document import StagedDocument

IMAGES = DATA / "fashion-mnist"
SLACKS = (0.5, 0.0)
"""Points of accuracy that a smaller network may lose against INT8 for all."""
REFERENCE = (70.0, 18.0)
"""Of hypervolumes: percent of accuracy, and log2 of bytes (256 KiB)."""
INT8 = {"weight_bits": 8, "activation_bits": 8, "activation_observer": "percentile"}
BITS = {**INT8, "per": "stage", "weight_bits": ["ternary", 3, 4, 8]}
"""Activations stay at 8 bits: no objective gains anything from fewer."""
UNIFORM = (8, 8, 8, 4, 4, 4)
"""Bits of all weights in the first networks of a joint search, as anyone would try first; the rest is drawn."""
JOINT, TWO_STAGE, PLAIN = "joint", "two-stage", "INT8 for all"
SEARCHER = "predictor_guided"


@dataclass(frozen=True)
class Protocol:
    """What one search may spend, and on what."""

    trials: int = 40
    images: int = 6_000
    """Of the training part."""
    epochs: int = 10
    """Of each training, in all."""
    aware: int = 2
    """Of them quantization-aware, where bits are searched."""

    def space(self, quantization: Mapping[str, Any], aware: int = 0) -> dict[str, Any]:
        """The space as a document: small convolutional networks of three stages."""
        blocks = {"block": ["conv", "depthwise_separable"]}
        stages = [
            {**blocks, "depth": [1, 2], "width": [8, 16, 24]},
            {**blocks, "depth": [1, 2], "width": [16, 24, 32, 48], "stride": 2},
            {**blocks, "depth": [0, 1, 2], "width": [32, 48, 64, 96], "stride": 2},
        ]
        recipe = {"optimizer": "adamw", "learning_rate": 0.006, "weight_decay": 1e-3, "batch_size": 128}
        more = {"qat_epochs": aware, "qat_learning_rate": 0.002} if aware else {}
        return {
            "family": "staged",
            "input": [1, 28, 28],
            "classes": 10,
            "architecture": {"stem": {"width": [8, 16], "kernel": 5, "stride": 4}, "stages": stages},
            "quantization": quantization,
            "recipe": {**recipe, "epochs": self.epochs - aware, **more},
        }

    def job(self, name: str, seed: int, **changes: Any) -> JobSpec:
        """A search as a document."""
        evaluator = {"kind": "training", "dataset": str(IMAGES), "train_limit": self.images, "device": "cpu"}
        return JobSpec.parse(
            {
                "name": f"{name}, seed {seed}",
                "objectives": ["max accuracy", "min model_size_bytes"],
                "searcher": SEARCHER,
                "evaluator": evaluator,
                "budget": {"max_trial_count": self.trials},
                "seed": seed,
                **changes,
            }
        )


QUICK = Protocol(trials=4, images=500, epochs=2, aware=1)


class Int8(StagedSpace):
    """The networks of a space of floats, trained as there (keys and draws are the same), with INT8 for all."""

    @cached_property
    @override
    def identity(self) -> str:
        floats = self.document.model_copy(update={"quantization": Quantization()})
        return floats.model_dump_json(exclude={"name"})


@dataclass(frozen=True)
class Point:
    """A network as it was measured in a search."""

    accuracy: float
    """Percent, on the validation part."""
    size: float
    """Bytes."""
    trial: int


@dataclass(frozen=True)
class Row:
    """The smallest network of one method and seed that loses no more than `slack` points to INT8 for all."""

    seed: int
    method: str
    slack: float
    hypervolume: float
    """Of all that the method found."""
    size: float | None = None
    """Bytes; None where there is no such network."""
    ratio: float | None = None
    """INT8 for all is so many times as large."""
    accuracy: float | None = None
    """Percent, on the validation part."""
    test: float | None = None
    """Percent, on the test part."""


@dataclass(frozen=True)
class Searches:
    """The three searches of one seed."""

    protocol: Protocol
    seed: int
    store: LocalStore

    @cached_property
    def joint(self) -> SearchResult:
        """Architecture and bits in one genome."""
        first = [{"quantization.*.weight_bits": bits} for bits in UNIFORM[: self.protocol.trials]]
        space = self.protocol.space(BITS, self.protocol.aware)
        return finished(self.store, self.protocol.job(JOINT, self.seed, space=space, initial=first))

    @cached_property
    def floats(self) -> SearchResult:
        """Architectures in floating point."""
        return finished(self.store, self.protocol.job("architectures", self.seed, space=self.protocol.space({})))

    @cached_property
    def int8(self) -> SearchResult:
        """The front of `floats`, the most accurate first, with INT8 for all."""
        front = [dict(t.architecture) for t in self.floats.front.trials]
        spec = self.protocol.job(
            "int8",
            self.seed,
            space=self.protocol.space(INT8),
            searcher="random",
            initial=front,
            budget={"max_trial_count": len(front)},
        )
        assert isinstance(spec.space, StagedDocument)
        return finished(self.store, spec, Int8(spec.space))

    def rows(self) -> list[Row]:
        """What each method found, with test accuracies of what is reported."""

        @cache
        def test(joint: bool, trial: int) -> float:
            result = self.joint if joint else self.int8
            return 100 * result.test([trial], executor="inline").tested[trial]["test_accuracy"]

        return compared(self.seed, points(self.int8), points(self.joint), lambda m, n: test(m == JOINT, n))


def finished(store: LocalStore, spec: JobSpec, space: StagedSpace | None = None) -> SearchResult:
    """The result of a search: looked up, gone on with, or begun.

    Of one that is kept with a larger budget it is the first part, which is what a shorter search would have found,
    since trials come one after the other.
    """
    study, count = study_of(spec, space), spec.budget.max_trial_count
    kept = store.jobs(JobFilter(name=spec.name))
    known = [j for j in kept if alike(j.spec, spec) and j.spec.budget.max_trial_count >= count]
    job_id = known[0].id if known else submit(store, study)
    result = result_of(store, study, job_id)
    over = len([t for t in result.all_trials[:count] if not t.state.open]) == count
    if not over and not result.state.over:
        result = drive(store, study, job_id, "inline", Progress(spec))
    return replace(result, all_trials=result.all_trials[:count])


def alike(one: JobSpec, other: JobSpec) -> bool:
    """Whether two searches differ in their budgets at most."""
    return one.model_copy(update={"budget": other.budget}).dump() == other.dump()


class Progress:
    """Prints a line for each trial that is over."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec

    def __call__(self, trials: Sequence[Trial]) -> None:
        """Told of trials that open and close."""
        for t in trials:
            if not t.state.open:
                told = ", ".join(f"{m} {t.metrics[m]:.6g}" for m in self._spec.problem.metrics if m in t.metrics)
                count = self._spec.budget.max_trial_count
                print(f"{self._spec.name}: {t.number + 1} of {count}, {told or t.state}", flush=True)


def points(result: SearchResult) -> list[Point]:
    """All measured networks, by trial number."""
    return [
        Point(100 * t.metrics["accuracy"], t.metrics["model_size_bytes"], t.number)
        for t in result.all_trials
        if t.measured
    ]


def smallest_within(found: Sequence[Point], accuracy: float) -> Point | None:
    """The smallest that is so accurate, of equally small ones the most accurate; None where none is."""
    enough = [p for p in found if p.accuracy >= accuracy - 1e-9]
    return min(enough, key=lambda p: (p.size, -p.accuracy), default=None)


def volume(found: Sequence[Point]) -> float:
    """Hypervolume within `REFERENCE`, in points of accuracy times doublings of size."""
    losses = np.array([[-p.accuracy, np.log2(p.size)] for p in found])
    return hypervolume(losses, np.array([-REFERENCE[0], REFERENCE[1]]))


def compared(
    seed: int, int8: Sequence[Point], joint: Sequence[Point], test: Callable[[str, int], float]
) -> list[Row]:
    """A row for each method and slack.

    Args:
        seed: of the searches.
        int8: the front of the search in floating point, with INT8; the most accurate one of that search first.
        joint: all that the joint search measured.
        test: percent on the test part, by method and number of trial.
    """
    best, rows = int8[0], []
    for method, found in ((PLAIN, int8[:1]), (TWO_STAGE, int8), (JOINT, joint)):
        for slack in SLACKS:
            row = Row(seed, method, slack, volume(found))
            if point := smallest_within(found, best.accuracy - slack):
                ratio, tested = best.size / point.size, test(method, point.trial)
                row = replace(row, size=point.size, ratio=ratio, accuracy=point.accuracy, test=tested)
            rows.append(row)
    return rows


def table(rows: Sequence[Row], title: str) -> Table:
    """Every seed, and means with standard deviations over seeds."""
    made = Table(title=title, title_justify="left")
    for column in (
        "loses at most",
        "method",
        "seed",
        "hypervolume",
        "bytes",
        "times smaller",
        "validation",
        "test",
    ):
        made.add_column(column, justify="left" if column == "method" else "right")
    for slack in SLACKS:
        for method in (PLAIN, TWO_STAGE, JOINT):
            some = [r for r in rows if (r.slack, r.method) == (slack, method)]
            for row in some:
                made.add_row(f"{slack:g}", method, str(row.seed), *cells([row]))
            if len(some) > 1:
                made.add_row(f"{slack:g}", method, "all", *cells(some), end_section=True)
    return made


def cells(rows: Sequence[Row]) -> list[str]:
    """Figures of one row, or means of several over those that have them."""
    columns = {"hypervolume": ".1f", "size": ",.0f", "ratio": ".2f", "accuracy": ".2f", "test": ".2f"}
    found = []
    for name, form in columns.items():
        values = [v for r in rows if (v := getattr(r, name)) is not None]
        cell = f"{np.mean(values):{form}}" if values else "none"
        cell += f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else ""
        found.append(cell + (f" ({len(values)} of {len(rows)})" if 0 < len(values) < len(rows) else ""))
    return found


def main() -> None:
    """Search, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2", help="with commas between")
    parser.add_argument("--trials", type=int, help="trainings of each search")
    parser.add_argument("--store", type=Path, default=Path(".nas/joint_quantization.db"), help="SQLite file")
    parser.add_argument("--only", choices=(TWO_STAGE, JOINT), help="these searches alone, and no table")
    parser.add_argument("--json", type=Path, help="file for all rows")
    parser.add_argument("--quick", action="store_true", help="a few short trainings, to see that all works")
    options = parser.parse_args()
    if not IMAGES.is_dir():
        print(f"skipped: Fashion-MNIST is not at {IMAGES}")
        return
    full = QUICK if options.quick else Protocol()
    protocol = replace(full, trials=options.trials or full.trials)
    store = open_store(f"sqlite:///{options.store.resolve()}")
    seeds = [Searches(protocol, int(seed), store) for seed in options.seeds.split(",")]
    for searches in seeds:
        for method, name in ((TWO_STAGE, "int8"), (JOINT, "joint")):
            if options.only in (None, method):
                getattr(searches, name)
    if options.only:
        return
    rows = [row for searches in seeds for row in searches.rows()]
    title = f"{protocol}, {SEARCHER}, {len(seeds)} seeds"
    Console(width=140).print(table(rows, title))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
