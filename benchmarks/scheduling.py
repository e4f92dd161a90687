"""What a trial costs beside its evaluation: ours, Optuna on SQLite, and bare SQLAlchemy, in the same run.

Every system runs the same free objective, one trial at a time, and writes each to a SQLite file. Ours goes through
the whole line (ask, open, evaluate, close, tell) with WAL, so a `kill -9` loses nothing that was closed.

And how busy parallel workers are kept: trials of one to ten minutes on a simulated clock. It stands still while
the search decides; here all of that time counts as if every worker had waited for it.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

import nas
from nas.executors.simulated import clock, utilisation
from search_spaces import Architecture

SPACES = ("nas-bench-201", "digits-tiny")
WORKERS = 8


def main(trials: int = 10_000, peer_trials: int = 500) -> None:
    table = Table(
        title="Scheduling overhead, milliseconds a trial (median of single trials)", title_justify="left"
    )
    for column in ("system", "trials", "all", "first 1,000", "last 1,000", "last / first"):
        table.add_column(column, justify="left" if column == "system" else "right")
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        runs: list[tuple[str, Callable[[], list[float]]]] = [
            (f"ours, {searcher}, {space}", _ours(here, searcher, space, trials))
            for space in SPACES
            for searcher in ("random", "regularized_evolution", "nsga2")
            if not (space == "nas-bench-201" and trials > 9_000)
        ]
        runs += [
            ("Optuna RandomSampler, SQLite", lambda: _optuna(here, peer_trials, "random")),
            ("Optuna NSGAIISampler, SQLite", lambda: _optuna(here, peer_trials, "nsga2")),
            ("bare SQLAlchemy: insert, update", lambda: _bare(here, trials)),
        ]
        for name, run in runs:
            _row(table, name, run())
    Console().print(table)
    busy()


def busy(trials: int = 800) -> None:
    """Share of the time of 8 workers in which they evaluate, trial times spread tenfold."""
    table = Table(title=f"{WORKERS} workers, {trials} trials of 1 to 10 minutes", title_justify="left")
    for column in ("searcher", "simulated", "deciding", "utilisation", "until the last trial starts"):
        table.add_column(column, justify="left" if column == "searcher" else "right")
    for searcher in ("random", "nsga2", "predictor_guided"):
        began = time.perf_counter()
        result = nas.search(
            space="digits-tiny",
            objectives=["max accuracy", "min params"],
            searcher=searcher,
            evaluator=_minutes,
            executor="simulated",
            max_trial_count=trials,
            parallel_trial_count=WORKERS,
        )
        deciding = time.perf_counter() - began
        done, spent = result.all_trials, clock(result.all_trials)
        last = max(t.metrics["start_seconds"] for t in done)
        before = sum(min(t.metrics["end_seconds"], last) - t.metrics["start_seconds"] for t in done)
        shares = utilisation(done, WORKERS) * spent / (spent + deciding), before / WORKERS / (last + deciding)
        table.add_row(searcher, f"{spent / 3600:.1f} h", f"{deciding:.1f} s", *(f"{s:.2%}" for s in shares))
    Console().print(table)


def _minutes(arch: Architecture) -> dict[str, float]:
    return {
        "accuracy": int(arch.key[:6], 16) / 16**6,
        "train_seconds": 60 * 10 ** (int(arch.key[6:12], 16) / 16**6),
    }


def _row(table: Table, name: str, at: list[float]) -> None:
    steps = [1000 * (b - a) for a, b in pairwise(at)]
    block = min(1000, len(steps) // 2)
    first, last = statistics.median(steps[:block]), statistics.median(steps[-block:])
    whole = statistics.median(steps)
    table.add_row(name, str(len(at)), f"{whole:.2f}", f"{first:.2f}", f"{last:.2f}", f"{last / first:.2f}")


def _ours(folder: Path, searcher: str, space: str, trials: int) -> Callable[[], list[float]]:
    def run() -> list[float]:
        at: list[float] = []

        def evaluate(arch: Architecture) -> dict[str, float]:
            at.append(time.perf_counter())
            return {"accuracy": int(arch.key[:6], 16) / 16**6, "latency_ms": 1.0 + arch.genes[0]}

        nas.search(
            space=space,
            objectives=["max accuracy", "min latency_ms"],
            searcher=searcher,
            evaluator=evaluate,
            executor="inline",
            store=f"sqlite:///{folder}/{searcher}-{space}.db",
            max_trial_count=trials,
        )
        return at

    return run


def _optuna(folder: Path, trials: int, sampler: str) -> list[float]:
    import optuna

    optuna.logging.set_verbosity(logging.ERROR)
    samplers = {"random": optuna.samplers.RandomSampler, "nsga2": optuna.samplers.NSGAIISampler}
    study = optuna.create_study(
        storage=f"sqlite:///{folder}/optuna-{sampler}.db",
        sampler=samplers[sampler](seed=0),
        directions=["maximize", "minimize"],
    )
    choices = nas.load_space("digits-tiny").choices
    at: list[float] = []

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        at.append(time.perf_counter())
        values = [trial.suggest_categorical(c.name, list(c.values)) for c in choices]
        return (hash(str(values)) % 1000) / 1000, 1.0

    study.optimize(objective, n_trials=trials)
    return at


def _bare(folder: Path, trials: int) -> list[float]:
    """One insert and one update a trial, a transaction each, with the same SQLite settings as ours."""
    import sqlalchemy as sa

    engine = sa.create_engine(f"sqlite:///{folder}/bare.db")
    rows = sa.Table(
        "trials",
        sa.MetaData(),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("state", sa.Text),
        sa.Column("metrics", sa.Text),
    )
    rows.metadata.create_all(engine)
    at: list[float] = []
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        connection.exec_driver_sql("PRAGMA synchronous=NORMAL")
        connection.commit()
        for number in range(trials):
            at.append(time.perf_counter())
            connection.execute(rows.insert(), {"number": number, "state": "RUNNING", "metrics": "{}"})
            connection.commit()
            change = rows.update().where(rows.c.number == number)
            connection.execute(change, {"state": "SUCCEEDED", "metrics": json.dumps({"accuracy": 0.5})})
            connection.commit()
    engine.dispose()
    return at


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--peer-trials", type=int, default=500)
    options = parser.parse_args()
    main(options.trials, options.peer_trials)
