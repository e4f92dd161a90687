"""How well zero-cost scores rank trained networks, and how long one takes, beside published figures.

``python -m benchmarks.zero_cost [--networks N] [--batch N] [--data FOLDER] [--json FILE] [--search SEEDS]``:
Spearman's rho and Kendall's tau of each score with the CIFAR-10 accuracy of random networks of NAS-Bench-201 (200
epochs), and milliseconds a network on one core. The batch comes from Fashion-MNIST, enlarged to CIFAR-10's size:
images of CIFAR-10, which published scores saw, are not at hand. A row's time includes building the network and a
first pass; scores that are asked for together share these. ``--search`` shows instead what
`predictor_guided` finds with and without the published scores, over so many seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table as Printed
from scipy.stats import kendalltau, spearmanr

from benchmarks.search_problems import case
from benchmarks.searchers import follow
from benchmarks.tables import DATA, Floats, nas_bench_201
from nas.evaluators import datasets
from nas.searchers.predictor_guided import PredictorGuidedConfig
from predictors import ScoreTable
from predictors.zero_cost import Proxy, ZeroCost, consensus

PUBLISHED: Mapping[str, tuple[float, float]] = {"params": (0.711, 0.534), "naswot": (0.776, 0.586)}
"""Rho and tau over all networks with a score, as measured on the columns that come with the table."""


@dataclass(frozen=True)
class Row:
    """One score."""

    score: str
    rho: float
    tau: float
    milliseconds: float | None
    published_rho: float | None
    published_tau: float | None
    """Correlations with the accuracy, of others' scores."""
    same_rho: float | None
    """With the published score of the very networks."""


def measure(networks: int, batch: int, folder: Path) -> list[Row]:
    """All scores of the same random networks."""
    table = nas_bench_201()
    rows = np.random.default_rng(0).choice(len(table.genes), networks, replace=False)
    genes, accuracy = table.genes[rows], table.targets["accuracy"][rows]
    assert table.scores is not None
    others = {"zen": table.scores[rows, 0], "naswot": table.scores[rows, 1]}
    x, y = images(folder, batch)
    found, out = {}, []
    for proxy in Proxy:
        score, start = ZeroCost(table.space, x, y, [proxy]), time.perf_counter()
        found[proxy.value] = score(genes)[:, 0]
        seconds = (time.perf_counter() - start) / networks
        out.append(_row(proxy, found[proxy.value], accuracy, others.get(proxy), 1e3 * seconds))
    together = consensus(np.stack(list(found.values()), axis=1))
    return [*out, _row("consensus", together, accuracy, None, None)]


def images(folder: Path, n: int) -> tuple[Floats, np.ndarray]:
    """The first training images of Fashion-MNIST as (n, 3, 32, 32), and their classes (n,)."""
    part = datasets.load(str(folder)).train[:n]
    edges = ((0, 0), (0, 0), (2, 2), (2, 2))
    return np.pad(part.x, edges, mode="edge").repeat(3, axis=1), part.y


def _row(name: str, ours: Floats, accuracy: Floats, other: Floats | None, milliseconds: float | None) -> Row:
    """Dead networks are the worst, among themselves alike."""
    same = None
    if other is not None:
        both = np.isfinite(ours) & np.isfinite(other)
        same = float(spearmanr(ours[both], other[both]).statistic)
    known = ~np.isnan(ours)
    scores, truth = np.nan_to_num(ours[known], neginf=-1e30), accuracy[known]
    rho, tau = float(spearmanr(scores, truth).statistic), float(kendalltau(scores, truth).statistic)
    return Row(name, rho, tau, milliseconds, *PUBLISHED.get(name, (None, None)), same)


def search(seeds: int) -> Printed:
    """What a search has reached after some evaluations, with and without the published scores."""
    table, marks = nas_bench_201(), (12, 20, 30, 40)
    assert table.scores is not None
    published = ScoreTable(table.space, table.genes, table.scores)
    printed = Printed("problem", "scores", *(f"after {mark}" for mark in marks))
    for kind, name in (("single", "nas-bench-201"), ("hypervolume", "nas-bench-201, raspi4")):
        problem = case(kind, name)
        for scores in (None, published):
            levels = []
            for seed in range(seeds):
                searcher = PredictorGuidedConfig().build(problem.space, problem.problem, seed, scores)
                run = follow(searcher, problem, marks[-1])
                levels += problem.score.levels(problem, run, marks).values()
            error = np.std(levels, axis=0, ddof=min(1, seeds - 1)) / np.sqrt(seeds)
            figures = (f"{m:.3f} ± {e:.3f}" for m, e in zip(np.mean(levels, axis=0), error, strict=True))
            printed.add_row(name, "published" if scores else "none", *figures)
    return printed


def main(networks: int, batch: int, folder: Path, file: Path | None) -> None:
    rows = measure(networks, batch, folder)
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    printed = Printed(title=f"NAS-Bench-201, {networks} networks, {batch} images", title_justify="left")
    for column in ("score", "rho", "tau", "ms/network", "published rho", "tau", "rho with the published"):
        printed.add_column(column, justify="left" if column == "score" else "right")
    for row in rows:
        values = [row.rho, row.tau, row.milliseconds, row.published_rho, row.published_tau, row.same_rho]
        printed.add_row(row.score, *(_shown(v, i == 2) for i, v in enumerate(values)))
    Console().print(printed)


def _shown(value: float | None, coarse: bool) -> str:
    return "" if value is None else f"{value:.1f}" if coarse else f"{value:.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--data", type=Path, default=DATA / "fashion-mnist")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--search", type=int, default=None, metavar="SEEDS")
    given = parser.parse_args()
    if given.search:
        Console().print(search(given.search))
    else:
        main(given.networks, given.batch, given.data, given.json)
