"""How well predictors rank networks that they have not seen, by how many they have.

``python -m benchmarks.predictors [--draws N] [--table nas-bench-201,...] [--models auto,...] [--sizes 20,50,...]
[--json FILE] [--plots FOLDER]``: Kendall's tau with its standard error over random draws of the training networks,
the share of 90% intervals that hold the truth, and the mean absolute error. With free costs and, where a table has
them, zero-cost scores. Then what pretraining on free statistics gives, and what a prior from another device.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.lines import line_chart
from benchmarks.tables import DATA, TABLES, Floats, Table
from predictors import (
    BlockProcess,
    GaussianProcess,
    GradientBoosting,
    MlpEnsemble,
    Prior,
    RandomForest,
    Ridge,
    ScoreTable,
    auto,
)
from predictors.base import Z90, GenePredictor
from predictors.features import Scores
from search_spaces.space import Space

SIZES = (20, 50, 100, 200, 1000)
TARGETS = {
    "nas-bench-201": ("accuracy", "latency raspi4"),
    "nas-bench-macro": ("accuracy",),
    "ofa-accuracy": ("accuracy",),
    "ofa-latency": ("v100_1", "titan_xp_64"),
    "accel-nas-bench": ("accuracy", "latency_zcu102", "throughput_3090"),
}
TRANSFERS = {
    "nas-bench-201": ("latency pixel3", "latency raspi4"),
    "ofa-latency": ("titan_rtx_1", "v100_1"),
    "accel-nas-bench": ("throughput_a100", "throughput_3090"),
}
SOURCE = 300
"""Networks measured on the device that a prior comes from."""
HELD_OUT = 2000
"""At most so many are predicted."""

MODELS: dict[str, Callable[[Space, Scores | None], GenePredictor | GaussianProcess]] = {
    "auto": auto,
    "ridge": Ridge,
    "gaussian process": lambda space, scores: GaussianProcess(space),
    "block process": BlockProcess,
    "gradient boosting": GradientBoosting,
    "random forest": RandomForest,
    "mlp": MlpEnsemble,
    "mlp, not pretrained": partial(MlpEnsemble, unlabelled=0),
}


@dataclass(frozen=True)
class Row:
    """One predictor after so many networks, over all draws."""

    table: str
    target: str
    model: str
    size: int
    tau: float
    tau_error: float
    coverage: float
    error: float
    """Mean absolute, in units of the target."""
    seconds: float
    """To fit and to predict."""


def measure(table: Table, target: str, model: str, size: int, draws: int) -> Row:
    """Train on `size` random networks, predict the others; the same networks for every model."""
    genes, y = _measured(table, target)
    scores = None if table.scores is None else ScoreTable(table.space, table.genes, table.scores)
    found, start = [], time.perf_counter()
    for draw in range(draws):
        known, new = _split(len(y), size, draw)
        predictor = MODELS[model](table.space, scores)
        guess = predictor.fit_genes(genes[known], y[known]).predict_genes(genes[new])
        found.append(_figures(y[new], guess.mean[:, 0], guess.std[:, 0]))
    seconds = (time.perf_counter() - start) / draws
    tau, coverage, error = np.mean(found, axis=0)
    scatter = float(np.std(found, axis=0, ddof=1)[0] / np.sqrt(draws)) if draws > 1 else 0.0
    return Row(table.name, target, model, size, float(tau), scatter, float(coverage), float(error), seconds)


def transfer(table: Table, size: int, draws: int) -> list[Row]:
    """Without a prior, and with one from `SOURCE` networks on another device."""
    here, there = TRANSFERS[table.name]
    taus: dict[str, list[tuple[float, float, float]]] = {"no prior": [], "prior": []}
    both = np.isfinite(table.targets[here]) & np.isfinite(table.targets[there])
    genes, before, y = table.genes[both], table.targets[here][both], table.targets[there][both]
    for draw in range(draws):
        known, new = _split(len(y), SOURCE + size, draw)
        source = auto(table.space).fit_genes(genes[known[:SOURCE]], before[known[:SOURCE]])
        few = known[SOURCE:]
        for name, scores in (("no prior", None), ("prior", Prior(table.space, source))):
            guess = auto(table.space, scores).fit_genes(genes[few], y[few]).predict_genes(genes[new])
            taus[name].append(_figures(y[new], guess.mean[:, 0], guess.std[:, 0]))
    rows = []
    for name, found in taus.items():
        tau, coverage, error = map(float, np.mean(found, axis=0))
        scatter = float(np.std(found, axis=0)[0] / np.sqrt(draws))
        rows.append(Row(table.name, f"{here} -> {there}", name, size, tau, scatter, coverage, error, 0.0))
    return rows


def _measured(table: Table, target: str) -> tuple[np.ndarray, Floats]:
    y = table.targets[target]
    return table.genes[np.isfinite(y)], y[np.isfinite(y)]


def _split(n: int, size: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng([size, draw]).permutation(n)
    return order[:size], order[size : size + HELD_OUT]


def _figures(truth: Floats, mean: Floats, std: Floats) -> tuple[float, float, float]:
    from scipy.stats import kendalltau

    inside = np.abs(mean - truth) <= Z90 * std
    return float(kendalltau(mean, truth).statistic), float(inside.mean()), float(np.abs(mean - truth).mean())


def _report(rows: list[Row], sizes: list[int], title: str) -> Iterator[str]:
    """Lines of one table: a model each, with tau +- error, coverage and error of every size."""
    yield f"\n{title}"
    yield f"{'tau (90% intervals hold; mean error)':38}" + "".join(f"{n:>28}" for n in sizes)
    for model in dict.fromkeys(row.model for row in rows):
        of_model = {row.size: row for row in rows if row.model == model}
        cells = [
            f"{r.tau:.3f} ± {r.tau_error:.3f} ({r.coverage:.2f}; {r.error:.3g})" if (r := of_model.get(n)) else "-"
            for n in sizes
        ]
        yield f"{model:38}" + "".join(f"{cell:>28}" for cell in cells)


def _plot(rows: list[Row], title: str, folder: Path) -> None:
    name = "".join(c if c.isalnum() else "-" for c in title)
    for figure, label in (("tau", "Kendall's tau"), ("error", "mean absolute error")):
        lines = {
            model: [(r.size, getattr(r, figure)) for r in rows if r.model == model]
            for model in dict.fromkeys(r.model for r in rows)
        }
        svg = line_chart(lines, title, "measured networks", label)
        (folder / f"predictors-{name}-{figure}.svg").write_text(svg, encoding="utf-8")


def main() -> None:
    """Measure, and print a table for every target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=5, help="random training sets of each size")
    parser.add_argument("--table", default=",".join(TABLES), help=f"with commas between; all: {','.join(TABLES)}")
    parser.add_argument("--models", default=",".join(m for m in MODELS if m != "mlp, not pretrained"))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of training networks")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--plots", type=Path, help="folder for SVG plots")
    parser.add_argument("--only", choices=("rank", "pretraining", "transfer"), help="one part of it")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: the tables are not at {DATA}")
        return
    models, sizes = arguments.models.split(","), [int(n) for n in arguments.sizes.split(",")]
    every: list[Row] = []

    def show(rows: list[Row], title: str, columns: list[int]) -> None:
        every.extend(rows)
        print("\n".join(_report(rows, columns, title)), flush=True)
        if arguments.plots:
            arguments.plots.mkdir(parents=True, exist_ok=True)
            _plot(rows, title, arguments.plots)

    for name in arguments.table.split(","):
        table = TABLES[name]()
        for target in TARGETS[name]:
            of = partial(measure, table, target, draws=arguments.draws)
            if arguments.only in (None, "rank"):
                show([of(model=m, size=n) for m in models for n in sizes], f"{name}: {target}", sizes)
            if arguments.only in (None, "pretraining"):
                pair, few = ("mlp", "mlp, not pretrained"), [n for n in sizes if n <= 200]
                show([of(model=m, size=n) for m in pair for n in few], f"{name}: {target}, pretraining", few)
        if name in TRANSFERS and arguments.only in (None, "transfer"):
            few = [10, 20, 50]
            rows = [row for n in few for row in transfer(table, n, arguments.draws)]
            show(rows, f"{name}: transfer, {' to '.join(TRANSFERS[name])}", few)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in every], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
