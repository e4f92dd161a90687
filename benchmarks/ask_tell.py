"""How long searchers think about a trial, and how much memory they take, as trials become many.

``python -m benchmarks.ask_tell [--space fbnetv3,nas-bench-201] [--searchers a,b] [--trials N] [--json FILE]``: ask
for one trial, tell it, up to `trials` of them, with two objectives that no formula gives. Milliseconds of CPU time
of all threads, so other work on the machine does not count: the mean over all trials up to a mark, and over the
last tenth of these, which holds one round of searchers that plan in rounds. Each runs in a process of its own;
its peak of memory is that of the process, with all libraries that it loads.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.searchers.banded_evolution import BandedEvolutionConfig
from nas.searchers.linas import LinasConfig
from nas.searchers.local_search import LocalSearchConfig
from nas.searchers.nars import NarsConfig
from nas.searchers.nsga2 import Nsga2Config
from nas.searchers.optuna import OptunaConfig
from nas.searchers.predictor_guided import PredictorGuidedConfig
from nas.searchers.regularized_evolution import RegularizedEvolutionConfig
from nas.trial import Measured, Trial
from search_spaces import Architecture, load_space
from search_spaces.operators import sample
from search_spaces.space import Space

SPACES = {"fbnetv3": 10_000, "nas-bench-201": 6_000}
"""With the most trials; nas-bench-201 has 6,466 networks."""
MARKS = {1_000: 30.0, 6_000: 60.0, 10_000: 60.0}
"""Trials, and the milliseconds that one of them may cost."""
MEMORY = 1024.0
"""Megabytes that a searcher may take."""
PROBLEM = Problem.parse(["max accuracy", "min latency_ms"], [])
SEARCHERS: dict[str, SearcherSettings | None] = {
    "predictor_guided": PredictorGuidedConfig(),
    "linas": LinasConfig(),
    "nars": NarsConfig(),
    "nsga2": Nsga2Config(),
    "local_search": LocalSearchConfig(),
    "regularized_evolution": RegularizedEvolutionConfig(),
    "banded_evolution": None,  # its limit depends on the space
    "optuna tpe": OptunaConfig(),
}


@dataclass(frozen=True)
class Row:
    """One searcher on one space after so many trials."""

    space: str
    searcher: str
    trials: int
    mean: float
    """Milliseconds a trial from the first on."""
    last: float
    """The same over the last tenth."""
    slowest: float
    """Milliseconds of the dearest trial of all."""
    megabytes: float
    """The peak until then."""


def run(name: str, searcher: str, trials: int) -> list[Row]:
    """One row a mark, and one where the space is exhausted before; in a fresh process."""
    space = load_space(name)
    settings = SEARCHERS[searcher] or BandedEvolutionConfig(limit=median_macs(space))
    asked = settings.build(space, PROBLEM, 0)
    spent: list[float] = []
    rows: list[Row] = []
    for number in range(trials):
        begun = time.process_time()
        proposals = asked.ask(1)
        thought = time.process_time() - begun
        if not proposals:
            break
        measured = Measured(metrics(space, proposals[0].architecture))
        trial = Trial(number, proposals[0]).close(measured, PROBLEM, number, 0.0)
        begun = time.process_time()
        asked.tell([trial])
        spent.append(1e3 * (thought + time.process_time() - begun))
        if len(spent) in MARKS or len(spent) == trials:
            rows.append(row(name, searcher, spent))
    return rows if rows and rows[-1].trials == len(spent) else [*rows, row(name, searcher, spent)]


def row(space: str, searcher: str, spent: Sequence[float]) -> Row:
    """From milliseconds of every trial so far."""
    tenth = spent[-max(1, len(spent) // 10) :]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Row(space, searcher, len(spent), float(np.mean(spent)), float(np.mean(tenth)), max(spent), peak)


def metrics(space: Space, arch: Architecture) -> dict[str, float]:
    """Made up: accuracy and latency rise with MACs, each with waves of its own over the genes."""
    genes = space.genes([arch])
    macs = float(space.costs(genes, ["macs"])["macs"][0])
    places = np.arange(1, genes.shape[1] + 1)
    waves, other = (float(np.sin(genes[0] * places * pace).mean()) for pace in (1.0, 2.0))
    return {"accuracy": 0.5 + 0.02 * np.log1p(macs) + 0.1 * waves, "latency_ms": 1e-7 * macs + 5 * (1 + other)}


def median_macs(space: Space) -> float:
    """Of networks that are drawn."""
    return float(np.median(space.costs(sample(space, 1000, np.random.default_rng(0)), ["macs"])["macs"]))


def main() -> None:
    """Measure, and print one line a mark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default=",".join(SPACES), help="with commas between")
    parser.add_argument("--searchers", default=",".join(SEARCHERS), help="with commas between")
    parser.add_argument("--trials", type=int, default=10_000, help="at most, fewer in small spaces")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    every: list[Row] = []
    print(f"{'':38}{'trials':>8}{'mean, ms':>10}{'last tenth':>12}{'slowest':>10}{'MB':>8}", flush=True)
    for space in options.space.split(","):
        for searcher in options.searchers.split(","):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                rows = pool.submit(run, space, searcher, min(options.trials, SPACES.get(space, 10_000))).result()
            every += rows
            print("\n".join(map(line, rows)), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(r) for r in every], indent=1), encoding="utf-8")


def line(r: Row) -> str:
    """Of a table; missed targets are named."""
    most = MARKS.get(r.trials, np.inf)
    missed = [f"over {most:.0f} ms"] * (max(r.mean, r.last) > most) + ["over 1 GB"] * (r.megabytes > MEMORY)
    figures = f"{r.trials:8}{r.mean:10.2f}{r.last:12.2f}{r.slowest:10.0f}{r.megabytes:8.0f}"
    return f"{f'{r.space}, {r.searcher}':38}{figures}  {', '.join(missed)}".rstrip()


if __name__ == "__main__":
    main()
