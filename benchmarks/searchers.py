"""How good searches are: ours, and what one could take instead, on the same problems in the same run.

``python -m benchmarks.searchers [--problem hypervolume,single,noisy,constrained] [--case TEXT] [--searchers a,b]
[--seeds N] [--trials N] [--workers N] [--json FILE] [--plot FOLDER]``. Every evaluation counts, repeats included;
one trial at a time. Figures are means with standard errors over seeds, in brackets the least. A search that does
not reach its goal counts with one evaluation more than its budget. Searchers that think for seconds get few seeds.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.lines import line_chart
from benchmarks.search_peers import optuna_run, pymoo_run
from benchmarks.search_problems import CASES, case
from benchmarks.search_scores import Case
from benchmarks.tables import DATA
from nas.config import SearcherSettings
from nas.contracts import Searcher
from nas.searchers.linas import LinasConfig
from nas.searchers.local_search import LocalSearchConfig
from nas.searchers.nars import NarsConfig
from nas.searchers.nsga2 import Nsga2Config
from nas.searchers.optuna import OptunaConfig
from nas.searchers.predictor_guided import PredictorGuidedConfig
from nas.searchers.random import RandomConfig
from nas.searchers.regularized_evolution import RegularizedEvolutionConfig
from nas.trial import Measured, Trial
from search_spaces.architecture import Genes

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SEEDS = {"hypervolume": 30, "single": 100, "noisy": 100, "constrained": 30}
SLOW = {"optuna gp": 3}
"""The most seeds of searchers that think for seconds a trial."""

Runner = Callable[[Case, int, int], Genes]
"""Gives the genes (n, d) evaluated with a seed and a number of evaluations."""


def ours_run(settings: SearcherSettings, case: Case, seed: int, count: int) -> Genes:
    """One of our searchers, with its settings."""
    return follow(settings.build(case.space, case.problem, seed), case, count)


def follow(searcher: Searcher, case: Case, count: int) -> Genes:
    """What a fresh searcher evaluates, until so many evaluations are made or the space is exhausted."""
    run: list[Genes] = []
    for number in range(count):
        proposals = searcher.ask(1)
        if not proposals:
            break
        genes = case.space.genes([proposals[0].architecture])
        measured = Measured(case.measure(genes))
        searcher.tell([Trial(number, proposals[0]).close(measured, case.problem, number, 0.0)])
        run.append(genes)
    return np.concatenate(run)


OURS: dict[str, SearcherSettings] = {
    "predictor_guided": PredictorGuidedConfig(),
    "linas": LinasConfig(),
    "nars": NarsConfig(),
    "nsga2": Nsga2Config(population=20),
    "local_search": LocalSearchConfig(),
    "regularized_evolution": RegularizedEvolutionConfig(),
    "optuna": OptunaConfig(),
    "quasi_random": RandomConfig(quasi=True),
    "random": RandomConfig(),
}
RUNNERS: dict[str, Runner] = {
    **{name: partial(ours_run, settings) for name, settings in OURS.items()},
    "optuna nsga2": partial(optuna_run, "nsga2"),
    "optuna tpe": partial(optuna_run, "tpe"),
    "optuna gp": partial(optuna_run, "gp"),
    "pymoo nsga2": pymoo_run,
}


@dataclass(frozen=True)
class Row:
    """All runs of one searcher on one problem."""

    problem: str
    case: str
    searcher: str
    trials: int
    marks: tuple[int, ...]
    levels: dict[str, list[list[float]]]
    """By what is looked at: a row a seed, a column a mark."""
    reached: list[float] | None
    """Evaluations to the goal, a number a seed; one more than `trials` where it was missed."""


def search(
    kind: str, name: str, searcher: str, trials: int, seed: int
) -> tuple[dict[str, list[float]], float | None]:
    """One run, in a worker: its levels, and the evaluations to the goal."""
    problem = case(kind, name)
    run = RUNNERS[searcher](problem, seed, trials)
    reached = problem.score.reached(problem, run)
    return problem.score.levels(problem, run, marks(problem, trials)), reached and min(reached, trials + 1.0)


def marks(problem: Case, trials: int) -> tuple[int, ...]:
    """Where one looks within so many trials."""
    return tuple(m for m in problem.score.marks if m <= trials) or (trials,)


def measure(pool: ProcessPoolExecutor, kind: str, name: str, searcher: str, seeds: int, trials: int) -> Row:
    """Every seed of one searcher on one problem."""
    one = partial(search, kind, name, searcher, trials)
    found = list(pool.map(one, range(min(seeds, SLOW.get(searcher, seeds)))))
    levels = {label: [run[label] for run, _ in found] for label in found[0][0]}
    reached = [r for _, r in found if r is not None]
    return Row(kind, name, searcher, trials, marks(case(kind, name), trials), levels, reached or None)


def report(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of one problem: a searcher each."""
    for label in rows[0].levels:
        digits = 4 if label == "share" else 3
        yield f"\n{rows[0].problem}: {rows[0].case}, {label}"
        yield f"{'searcher (seeds)':32}" + "".join(f"{f'after {m}':>25}" for m in rows[0].marks)
        for row in rows:
            table = np.array(row.levels[label])
            cells = [
                f"{m:.{digits}f} ± {e:.{digits}f} ({low:.{digits}f})"
                for m, e, low in zip(*_figures(table), strict=True)
            ]
            yield f"{f'{row.searcher} ({len(table)})':32}" + "".join(f"{c:>25}" for c in cells)
    if rows[0].reached is not None:
        yield from _goals(rows)


def _goals(rows: Sequence[Row]) -> Iterator[str]:
    at = [m for m in (30, *rows[0].marks) if m <= rows[0].trials]
    header = "".join(f"{h:>10}" for h in ("mean", "median", "max", *(f"by {m}" for m in at)))
    yield f"\n{rows[0].problem}: {rows[0].case}, evaluations to the goal, and the share of runs that came to it"
    yield f"{'searcher (seeds)':32}{header}"
    for row in rows:
        taken = np.array(row.reached)
        counts = (taken.mean(), np.median(taken), taken.max())
        cells = [*(_capped(c, row.trials) for c in counts), *(f"{(taken <= m).mean():.2f}" for m in at)]
        yield f"{f'{row.searcher} ({len(taken)})':32}" + "".join(f"{c:>10}" for c in cells)


def _capped(count: float, trials: int) -> str:
    return f"> {trials}" if count > trials else f"{count:.1f}"


def _figures(table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard error and least of each column."""
    scatter = table.std(axis=0, ddof=1) / np.sqrt(len(table)) if len(table) > 1 else np.zeros(table.shape[1])
    return table.mean(axis=0), scatter, table.min(axis=0)


def overall(rows: Sequence[Row]) -> list[Row]:
    """One row a searcher over all problems of a table, where there are several, for shares of fronts."""
    whole = []
    for table in dict.fromkeys(_table(row) for row in rows):
        names = dict.fromkeys(row.case for row in rows if _table(row) == table)
        for searcher in dict.fromkeys(row.searcher for row in rows):
            of = [row for row in rows if row.searcher == searcher and _table(row) == table]
            if len(names) > 1:
                levels = {"share": [run for row in of for run in row.levels["share"]]}
                title = f"{table}, all {len(names)} problems"
                whole.append(Row("hypervolume", title, searcher, of[0].trials, of[0].marks, levels, None))
    return whole


def _table(row: Row) -> str:
    return row.case.split(",")[0]


def _plot(rows: Sequence[Row], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for label in rows[0].levels:
        title = f"{rows[0].case}: {label}"
        lines = {
            r.searcher: list(zip(map(float, r.marks), np.mean(r.levels[label], axis=0).tolist(), strict=True))
            for r in rows
        }
        name = "".join(c if c.isalnum() else "-" for c in f"searchers-{rows[0].problem}-{title}")
        (folder / f"{name}.svg").write_text(line_chart(lines, title, "evaluations", label), encoding="utf-8")


def _listed(text: str, allowed: Sequence[str], what: str) -> list[str]:
    names = text.split(",")
    if unknown := [n for n in names if n not in allowed]:
        raise SystemExit(f"{what}: {', '.join(unknown)} is not known; allowed: {', '.join(allowed)}")
    return names


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every, searchers = ",".join(CASES), ",".join(RUNNERS)
    parser.add_argument("--problem", default=every, help=f"with commas between; all: {every}")
    parser.add_argument("--case", default="", help="only problems with this in their names, as nas-bench-macro")
    parser.add_argument("--searchers", default=searchers, help=f"with commas between; all: {searchers}")
    parser.add_argument("--seeds", type=int, help=f"runs of each problem; else {SEEDS}")
    parser.add_argument("--trials", type=int, default=300, help="evaluations a run")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--json", type=Path, help="file for all figures of all runs")
    parser.add_argument("--plot", type=Path, help="folder for SVG plots")
    return parser.parse_args()


def main() -> None:
    """Measure, and print a table for every problem."""
    options = _arguments()
    kinds = _listed(options.problem, list(CASES), "--problem")
    searchers = _listed(options.searchers, list(RUNNERS), "--searchers")
    if not DATA.is_dir():
        print(f"skipped: the tables are not at {DATA}")
        return
    os.environ |= dict.fromkeys(THREADS, "1")  # for the workers, which start afresh
    every: list[Row] = []

    def show(rows: Sequence[Row]) -> None:
        print("\n".join(report(rows)), flush=True)
        if options.plot:
            _plot(rows, options.plot)

    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        for kind in kinds:
            of_kind: list[Row] = []
            for name in (n for n in CASES[kind] if options.case in n):
                of = partial(measure, pool, kind, name, seeds=options.seeds or SEEDS[kind], trials=options.trials)
                of_kind += (rows := [of(searcher) for searcher in searchers])
                show(rows)
                if options.json:
                    options.json.write_text(json.dumps([asdict(r) for r in [*every, *of_kind]]), encoding="utf-8")
            every += of_kind
            whole = overall(of_kind) if kind == "hypervolume" else []
            for title in dict.fromkeys(row.case for row in whole):
                show([row for row in whole if row.case == title])


if __name__ == "__main__":
    main()
