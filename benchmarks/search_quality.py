"""How good searches are: share of the true Pareto front's hypervolume on the whole NAS-Bench-201 table.

``python -m benchmarks.search_quality [--seeds N] [--searchers a,b] [--trials N]``: accuracy against the latency
of each of five devices. Every evaluation counts, repeats included. Objectives are scaled as
(loss - least) / (95th percentile - least) over the table; the reference point is 1.1 in each.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.config import SearcherSettings
from nas.objectives import Objective, Problem
from nas.pareto import hypervolume, non_dominated
from nas.searchers.nsga2 import Nsga2Config
from nas.searchers.predictor_guided import PredictorGuidedConfig
from nas.searchers.random import RandomConfig
from nas.searchers.regularized_evolution import RegularizedEvolutionConfig
from nas.trial import Measured, Trial
from search_spaces import load_space

TABLE = Path(__file__).parents[2] / "shared" / "data" / "nasbench201_cifar10.parquet"
DEVICES = ("raspi4", "pixel3", "eyeriss", "gold_6226", "2080ti_32")
MARKS = (50, 100, 150, 300)
SPACE = load_space("nas-bench-201")
PROBLEM = Problem([Objective.model_validate("max accuracy"), Objective.model_validate("min latency_ms")])

OURS: dict[str, SearcherSettings] = {
    "random": RandomConfig(),
    "regularized_evolution": RegularizedEvolutionConfig(),
    "nsga2": Nsga2Config(population=20),
    "predictor_guided": PredictorGuidedConfig(),
}
PEERS = ("optuna_nsga2", "optuna_tpe")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Device:
    """One problem: losses (error in percent, ms) by canonical genes, and what is needed to score points."""

    losses: dict[bytes, Floats]
    least: Floats
    width: Floats
    best: float

    @classmethod
    def of(cls, table: pd.DataFrame, device: str) -> Device:
        """Every architecture has the metrics of the row that stands for its class."""
        operations = [table[f"op_{c.name[-3]}{c.name[-1]}"].map(c.values.index) for c in SPACE.choices]
        genes = np.stack(operations, axis=1).astype(np.int64)
        rows = table["representative"].to_numpy()
        both = np.stack([100 - table["cifar10_valid_acc"], table[f"lat_ms_{device}"]], axis=1)[rows]
        least = both.min(axis=0)
        width = np.quantile(both, 0.95, axis=0) - least
        losses: dict[bytes, Floats] = {}
        canonical = SPACE.canonical_genes(genes)
        own = (canonical == genes).all(axis=1)
        for i in np.argsort(~own, kind="stable"):  # the row whose genes are canonical comes first
            losses.setdefault(canonical[i].tobytes(), both[i])
        front = (both[non_dominated(both)] - least) / width
        return cls(losses, least, width, hypervolume(front, np.full(2, 1.1)))

    def at(self, genes: NDArray[np.int64]) -> Floats:
        """Losses of one architecture with genes of shape (d,)."""
        return self.losses[SPACE.canonical_genes(genes[None])[0].tobytes()]

    def shares(self, points: list[Floats], marks: tuple[int, ...]) -> list[float]:
        """Share of the true front's hypervolume after each number of evaluations."""
        scaled = (np.array(points) - self.least) / self.width
        return [hypervolume(scaled[:mark], np.full(2, 1.1)) / self.best for mark in marks]


def ours(config: SearcherSettings, device: Device, seed: int, count: int) -> list[Floats]:
    """Losses of everything that one of our searchers evaluates, in order."""
    searcher = config.build(SPACE, PROBLEM, seed)
    points: list[Floats] = []
    for number in range(count):
        (proposal,) = searcher.ask(1)
        point = device.at(np.array(proposal.architecture.genes, dtype=np.int64))
        metrics = Measured({"accuracy": 1 - point[0] / 100, "latency_ms": point[1]})
        searcher.tell([Trial(number, proposal).close(metrics, PROBLEM, number, 0.0)])
        points.append(point)
    return points


def optunas(kind: str, device: Device, seed: int, count: int) -> list[Floats]:
    """The same for a sampler of Optuna."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    sampler = (
        optuna.samplers.NSGAIISampler(population_size=20, seed=seed)
        if kind == "optuna_nsga2"
        else optuna.samplers.TPESampler(multivariate=True, seed=seed)
    )
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    points: list[Floats] = []

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        drawn = [c.values.index(trial.suggest_categorical(c.name, c.values)) for c in SPACE.choices]
        points.append(device.at(np.array(drawn, dtype=np.int64)))
        return float(points[-1][0]), float(points[-1][1])

    study.optimize(objective, n_trials=count)
    return points


def main() -> None:
    """Measure, and print one line a searcher."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="runs for each device")
    parser.add_argument("--trials", type=int, default=MARKS[-1], help="evaluations a run")
    names = ",".join([*OURS, *PEERS])
    parser.add_argument("--searchers", default=names, help=f"names with commas between; all: {names}")
    arguments = parser.parse_args()
    if not TABLE.is_file():
        print(f"skipped: the NAS-Bench-201 table is not at {TABLE}")
        return
    table = pd.read_parquet(TABLE)
    devices = [Device.of(table, name) for name in DEVICES]
    marks = tuple(m for m in MARKS if m <= arguments.trials)
    print(f"mean share of the true hypervolume, {len(devices)} devices x {arguments.seeds} seeds")
    print(f"{'searcher':24}" + "".join(f"{f'after {m}':>16}" for m in marks))
    for name in arguments.searchers.split(","):
        run = partial(ours, OURS[name]) if name in OURS else partial(optunas, name)
        seeds = range(arguments.seeds)
        shares = np.array([d.shares(run(d, seed, marks[-1]), marks) for seed in seeds for d in devices])
        errors = shares.std(axis=0) / np.sqrt(len(shares))
        cells = [f"{m:.4f} ± {e:.4f}" for m, e in zip(shares.mean(axis=0), errors, strict=True)]
        print(f"{name:24}" + "".join(f"{c:>16}" for c in cells), flush=True)


if __name__ == "__main__":
    main()
