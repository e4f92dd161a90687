"""How well latency is learnt from measurements, and how well a measurement repeats.

``python -m benchmarks.latency [--draws N] [--table ofa-latency,nas-bench-201] [--every N] [--json FILE]
[--only alone|transfer|repeats] [--space mobilenetv3,digits-tiny]``: Kendall's tau and the mean absolute percentage
error (MAPE) on at most 1,000 networks not learnt from, the mean over all devices of a table. `latency` and
`transfer` stand beside regression on genes, costs and in transfers the other device's prediction, by the same
networks. Transfers go from each device to the next one in the table's order, from the last one to the first; the
source was learnt from 300 networks. Pairs that agree, where the source's own tau is 0.6 or more, are told apart.
``--every 2`` takes every second device only. Networks faster than a twentieth of the median (cells of nothing but
skips) do not count in the MAPE. Repeats are measured on this machine: see `benchmarks.latency_repeats`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import latency_repeats
from benchmarks.tables import DATA, DEVICES, TABLES, Floats, Table
from predictors import GaussianProcess, GradientBoosting, Latency, Prior, Ridge, Transfer, auto
from predictors.base import Z90, GenePredictor
from predictors.contract import Prediction
from search_spaces.architecture import Genes
from search_spaces.space import Space

NAMES = ("ofa-latency", "nas-bench-201")
SIZES = (10, 20, 50, 100, 200)
FEW = (5, 10, 20, 50)
SOURCE = 300
"""Networks measured on the device that a transfer comes from."""
HELD_OUT = 1000
AS_IT_IS, AGREE = "source as it is", 0.6
MODELS: dict[str, Callable[[Space], GenePredictor | GaussianProcess]] = {
    "latency": Latency,
    "ridge": Ridge,
    "gradient boosting": GradientBoosting,
    "gaussian process": GaussianProcess,
}
TRANSFERS: dict[str, Callable[[Space, GenePredictor], GenePredictor]] = {
    "transfer": Transfer,
    "auto, source as a score": lambda space, source: auto(space, Prior(space, source)),
    "latency, from scratch": lambda space, source: Latency(space),
}


@dataclass(frozen=True)
class Row:
    """One model of one device after so many networks, the mean over all draws."""

    table: str
    device: str
    model: str
    size: int
    tau: float
    mape: float
    coverage: float
    """Share of 90% intervals that hold the truth."""


def devices(table: Table) -> list[str]:
    """What of a table is a latency."""
    return [f"latency {d}" for d in DEVICES] if table.name == "nas-bench-201" else list(table.targets)


def alone(table: Table, device: str, size: int, draws: int) -> Iterator[Row]:
    """Every model from `size` random networks, the same ones for all."""
    genes, y = _measured(table, device)
    for model, make in MODELS.items():
        found = []
        for draw in range(draws):
            known, new = _split(len(y), size, draw)
            guess = make(table.space).fit_genes(genes[known], y[known]).predict_genes(genes[new])
            found.append(figures(y[new], guess))
        yield Row(table.name, device, model, size, *map(float, np.mean(found, axis=0)))


def transferred(table: Table, source: str, target: str, sizes: tuple[int, ...], draws: int) -> Iterator[Row]:
    """The source alone, which ranks but knows no units, and every way to join it with `size` target networks."""
    genes, before, y = _measured(table, source, target)
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for draw in range(draws):
        known, new = _split(len(y), SOURCE + max(sizes), draw)
        learnt, few = known[:SOURCE], known[SOURCE:]
        there = Latency(table.space).fit_genes(genes[learnt], before[learnt])
        for size in sizes:
            seen = few[:size]
            as_it_is = there.predict_genes(genes[new])
            found.setdefault((AS_IT_IS, size), []).append(figures(y[new], as_it_is))
            for model, make in TRANSFERS.items():
                guess = make(table.space, there).fit_genes(genes[seen], y[seen]).predict_genes(genes[new])
                found.setdefault((model, size), []).append(figures(y[new], guess))
    for (model, size), values in found.items():
        yield Row(table.name, f"{source} -> {target}", model, size, *map(float, np.mean(values, axis=0)))


def figures(truth: Floats, guess: Prediction) -> tuple[float, float, float]:
    """Kendall's tau (0 where all are expected alike), MAPE, and the share of 90% intervals that hold the truth."""
    from scipy.stats import kendalltau

    mean, std = guess.mean[:, 0], guess.std[:, 0]
    counted = truth > np.median(truth) / 20
    mape = float(np.abs(mean / truth - 1)[counted].mean())
    tau = float(kendalltau(mean, truth).statistic) if np.ptp(mean) > 0 else 0.0
    return tau, mape, float((np.abs(mean - truth) <= Z90 * std).mean())


def agreement(rows: list[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Transfers apart by whether the source alone ranks the target's networks with a tau of `AGREE` or more."""
    agree = {row.device for row in rows if row.model == AS_IT_IS and row.tau >= AGREE}
    for what, among in (("agree", True), ("disagree", False)):
        if some := [row for row in rows if (row.device in agree) == among]:
            yield what, some


def report(rows: list[Row], title: str) -> Iterator[str]:
    """Lines of one table: a model each, the mean over its devices, by size."""
    sizes = sorted({row.size for row in rows})
    yield f"\n{title}\n{'tau, MAPE (90% intervals hold)':32}" + "".join(f"{n:>22}" for n in sizes)
    for model in dict.fromkeys(row.model for row in rows):
        cells = []
        for size in sizes:
            of = [(r.tau, r.mape, r.coverage) for r in rows if (r.model, r.size) == (model, size)]
            tau, mape, coverage = np.mean(of, axis=0)
            cells.append(f"{tau:.3f}, {mape:.1%} ({coverage:.2f})")
        yield f"{model:32}" + "".join(f"{cell:>22}" for cell in cells)


def _measured(table: Table, *names: str) -> tuple[Genes, *tuple[Floats, ...]]:
    """Genes and targets of the networks that were measured on all of these devices."""
    there = np.all([np.isfinite(table.targets[name]) for name in names], axis=0)
    return table.genes[there], *(table.targets[name][there] for name in names)


def _split(n: int, size: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng([size, draw]).permutation(n)
    return order[:size], order[size : size + HELD_OUT]


def main() -> None:
    """Measure, and print two tables for each of the public ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=3, help="random training sets of each size")
    parser.add_argument("--table", default=",".join(NAMES), help=f"with commas between; all: {','.join(NAMES)}")
    parser.add_argument("--every", type=int, default=1, help="take every so manieth device")
    parser.add_argument("--only", choices=("alone", "transfer", "repeats"), help="one part of it")
    parser.add_argument("--space", default="mobilenetv3,digits-tiny", help="spaces whose networks are measured")
    parser.add_argument("--json", type=Path, help="file for the figures of every device")
    arguments = parser.parse_args()
    if arguments.only in (None, "repeats"):
        latency_repeats.main(arguments.space.split(","))
    if arguments.only == "repeats":
        return
    if not DATA.is_dir():
        print(f"skipped: the tables are not at {DATA}")
        return
    every: list[Row] = []

    def show(rows: list[Row], title: str) -> None:
        every.extend(rows)
        print("\n".join(report(rows, title)), flush=True)

    for name in arguments.table.split(","):
        table = TABLES[name]()
        names = devices(table)
        chosen = range(0, len(names), arguments.every)
        if arguments.only != "transfer":
            rows = [r for i in chosen for n in SIZES for r in alone(table, names[i], n, arguments.draws)]
            show(rows, f"{name}: mean of {len(chosen)} devices")
        if arguments.only != "alone":
            pairs = [(names[i], names[(i + 1) % len(names)]) for i in chosen]
            rows = [r for a, b in pairs for r in transferred(table, a, b, FEW, arguments.draws)]
            for what, some in agreement(rows):
                show(some, f"{name}: transfers, mean of {len({r.device for r in some})} pairs that {what}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in every], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
