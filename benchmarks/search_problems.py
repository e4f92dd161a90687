"""Problems for searchers: fronts, one objective, noise, constraints; each over more than one table.

NAS-Bench-201 and NAS-Bench-Macro are complete. The spaces of Once-for-All and of Accel-NASBench are not: there
"surrogate" stands in the name of a problem, evaluations are a model's guesses, and the front that shares refer to
is the best of a long evolution and of the table itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np

from benchmarks.search_scores import Best, Case, Chosen, Columns, Complete, Guessed, Share
from benchmarks.tables import (
    DEVICES,
    Table,
    accel_nas_bench,
    nas_bench_201,
    nas_bench_macro,
    ofa_accuracy,
)
from nas.objectives import Problem
from nas.searchers.inner import evolve
from nas.searchers.outlook import judged
from search_spaces.operators import sample

PARAMS = 125_000
"""The limit for NAS-Bench-201; elsewhere limits are 25th percentiles."""
LONG_SEARCH = 100_000
"""Evaluations for the front that stands for the true one where nobody can enumerate the space."""
GENERATION = 1000
SCALE = 5000
"""Random networks that stand for the table where objectives are scaled."""
LATENCIES = {f"latency_ms_{device}": f"latency {device}" for device in DEVICES}

Columned = Mapping[str, str]
"""Targets of a table by metric; accuracies in percent become shares."""
table_of = cache(lambda make: make())


def columns(table: Table, targets: Columned) -> Columns:
    """Values (n,) of the distinct networks of a table."""
    return {m: table.targets[t] * (0.01 if m == "accuracy" else 1.0) for m, t in targets.items()}


def fronts(make: Callable[[], Table], targets: Columned, *objectives: str, name: str) -> Case:
    """The whole front, in a complete table."""
    table = table_of(make)
    truth = Complete.of(table, columns(table, targets))
    problem = Problem.parse(objectives)
    return Case("hypervolume", name, table.space, problem, truth, Share.of(problem, truth.columns, truth.columns))


def surrogate_fronts(
    make: Callable[[], Table], targets: Columned, *objectives: str, name: str, formulas: tuple[str, ...] = ()
) -> Case:
    """The whole front, where a model of the table gives the truth."""
    table, problem = table_of(make), Problem.parse(objectives)
    complete = np.all([np.isfinite(table.targets[t]) for t in targets.values()], axis=0)
    kept = Table(
        table.name, table.space, table.genes[complete], {k: v[complete] for k, v in table.targets.items()}
    )
    truth = Guessed.of(kept, columns(kept, targets), formulas)
    rng = np.random.default_rng(0)
    drawn = sample(table.space, SCALE, rng)
    start = np.concatenate([kept.genes, drawn])
    best = evolve(
        table.space, lambda genes: judged(problem, truth(genes)), start, GENERATION, LONG_SEARCH, rng, 0.0
    )
    share = Share.of(problem, truth(drawn), truth(best.genes))
    return Case("hypervolume", name, table.space, problem, truth, share)


def single(make: Callable[[], Table], *, name: str) -> Case:
    """The best accuracy."""
    return constrained(make, {}, name=name, kind="single")


def noisy(make: Callable[[], Table], seen: str, true: str, *, name: str) -> Case:
    """Accuracies of one run are measured, and those of other runs or data count."""
    table = table_of(make)
    truth, hidden = (Complete.of(table, columns(table, {"accuracy": target})) for target in (seen, true))
    return Case("noisy", name, table.space, Problem.parse(["max accuracy"]), truth, Chosen(hidden))


def constrained(
    make: Callable[[], Table],
    targets: Columned,
    *,
    name: str,
    formula: str | None = None,
    limit: float | None = None,
    gap: float = 0.0,
    kind: str = "constrained",
) -> Case:
    """The best accuracy under a limit (else the 25th percentile) on metrics of the table or of a formula."""
    table = table_of(make)
    values = columns(table, {"accuracy": "accuracy", **targets})
    if formula is not None:
        values = {**values, formula: table.space.costs(table.genes, [formula])[formula]}
    truth = Complete.of(table, values)
    limits = [
        f"{m} <= {float(np.quantile(v, 0.25)) if limit is None else limit!r}"
        for m, v in truth.columns.items()
        if m != "accuracy"
    ]
    problem = Problem.parse(["max accuracy"], limits)
    return Case(kind, name, table.space, problem, truth, Best.of(problem, truth.columns, gap))


def _cases() -> dict[str, dict[str, Callable[..., Case]]]:
    cells, macro = nas_bench_201, nas_bench_macro
    fast = {
        f"nas-bench-201, {device}": partial(
            fronts, cells, {"accuracy": "accuracy", metric: LATENCIES[metric]}, "max accuracy", f"min {metric}"
        )
        for device, metric in zip(DEVICES, LATENCIES, strict=True)
    }
    three = {"accuracy": "accuracy", "latency_ms": "latency raspi4", "reported_params": "params"}
    return {
        "hypervolume": {
            **fast,
            "nas-bench-201, raspi4 and params": partial(
                fronts, cells, three, "max accuracy", "min latency_ms", "min reported_params"
            ),
            "nas-bench-macro, flops": partial(
                fronts, macro, {"accuracy": "accuracy", "flops": "flops"}, "max accuracy", "min flops"
            ),
            "ofa surrogate, macs": partial(
                surrogate_fronts,
                ofa_accuracy,
                {"accuracy": "accuracy"},
                "max accuracy",
                "min macs",
                formulas=("macs",),
            ),
            "accel-nas-bench surrogate, zcu102": partial(
                surrogate_fronts,
                accel_nas_bench,
                {"accuracy": "accuracy", "latency_ms": "latency_zcu102"},
                "max accuracy",
                "min latency_ms",
            ),
        },
        "single": {"nas-bench-201": partial(single, cells), "nas-bench-macro": partial(single, macro)},
        "noisy": {
            "nas-bench-201": partial(noisy, cells, "accuracy of one run", "test accuracy"),
            "nas-bench-macro": partial(noisy, macro, "accuracy of one run", "accuracy of other runs"),
        },
        "constrained": {
            "nas-bench-201, params learnt": partial(
                constrained, cells, {"reported_params": "params"}, limit=PARAMS
            ),
            # the table counts operations without effect in 2% of the networks; the formula does not
            "nas-bench-201, params known": partial(constrained, cells, {"params": "params"}, limit=PARAMS),
            "nas-bench-201, params exact": partial(constrained, cells, {}, formula="params", limit=PARAMS),
            "nas-bench-201, raspi4 learnt": partial(constrained, cells, {"latency_ms": "latency raspi4"}, gap=0.5),
            "nas-bench-macro, flops learnt": partial(constrained, macro, {"flops": "flops"}),
        },
    }


CASES = _cases()
"""How each case is made, by its name, by its kind."""


@cache
def case(kind: str, name: str) -> Case:
    """One case; made once in a process, since that can take seconds."""
    return CASES[kind][name](name=name)
