"""How many new architectures a second evolution on predictions goes through, with the recommended predictor.

``python -m benchmarks.inner_evolution [--space NAME] [--trials N] [--size N] [--json]``. The predictor is fitted
on made-up accuracies of `trials` networks; MACs come from their formula and are limited.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from nas.objectives import Problem
from nas.searchers.inner import Ranked, children, distinct, evolve
from nas.searchers.outlook import Outlook
from nas.trial import Measured, Proposal, Trial
from predictors import auto
from search_spaces import load_space
from search_spaces.architecture import Genes
from search_spaces.operators import sample
from search_spaces.space import Space

TARGET = 100_000
T = TypeVar("T")


def made_up(space: Space, count: int, problem: Problem) -> list[Trial]:
    """Trials of drawn networks: accuracy rises with the cost, with waves over the genes."""
    archs = space.sample(count, 0)
    genes = space.genes(archs)
    macs = space.costs(genes, ["macs"])["macs"]
    waves = np.sin(genes * np.arange(1, genes.shape[1] + 1)).mean(axis=1)
    accuracy = 0.05 * np.log(macs / macs.mean()) + 0.1 * waves + 0.7
    return [
        Trial(i, Proposal(a)).close(Measured({"accuracy": float(y), "macs": float(m)}), problem, i, 0.0)
        for i, (a, y, m) in enumerate(zip(archs, accuracy, macs, strict=True))
    ]


def rates(space: Space, count: int, size: int, generations: int) -> dict[str, float]:
    """Architectures a second; seconds of the fit and of the whole evolution."""
    costs = space.costs(sample(space, 1000, np.random.default_rng(0)), ["macs"])["macs"]
    problem = Problem.parse(["max accuracy"], [f"macs <= {float(np.median(costs))!r}"])
    trials = made_up(space, count, problem)
    fit, outlook = timed(lambda: Outlook(space, problem, trials, auto(space)))
    rng = np.random.default_rng(1)
    genes = sample(space, size, rng)
    judged = outlook.judge(genes)
    seen = 0

    def judge(rows: Genes) -> tuple[np.ndarray, np.ndarray]:
        nonlocal seen
        seen += len(rows)
        return outlook.judge(rows)

    whole, _ = timed(lambda: evolve(space, judge, genes, size, (generations + 1) * size, rng, epsilon=0.0))
    parts: dict[str, Callable[[], object]] = {
        "children": lambda: children(space, genes, size, rng),
        "distinct": lambda: distinct(genes),
        "formulas": lambda: space.costs(genes, ["macs"]),
        "predictor": lambda: outlook.judge(genes),
        "selection": lambda: Ranked.of(genes, *judged, size),
    }
    found = {name: size / min(timed(do)[0] for _ in range(3)) for name, do in parts.items()}
    return {"fit, seconds": fit, "evolution, seconds": whole, "evolution": seen / whole, **found}


def timed(do: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and the result."""
    begun = time.perf_counter()
    result = do()
    return time.perf_counter() - begun, result


def main() -> None:
    """Measure, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="fbnetv3")
    parser.add_argument("--trials", type=int, default=200, help="that the predictor is fitted on")
    parser.add_argument("--size", type=int, default=50_000, help="networks of a generation")
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = rates(load_space(options.space), options.trials, options.size, options.generations)
    if options.json:
        print(json.dumps({"space": options.space, "trials": options.trials, "target": TARGET, "found": found}))
        return
    print(f"{options.space}, predictor fitted on {options.trials} trials; target: evolution {TARGET:,} a second")
    for name, value in found.items():
        print(f"{name:22}{value:14,.2f}" if "seconds" in name else f"{name:22}{value:14,.0f} a second")


if __name__ == "__main__":
    main()
