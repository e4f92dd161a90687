"""What one could take instead: samplers of Optuna as they come, and NSGA-II of pymoo on integer genes.

Each gives the genes (n, d) that it evaluates, in order, repeats included.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks.search_scores import Case
from search_spaces import Choice
from search_spaces.architecture import Genes

POPULATION = 20


def optuna_run(sampler: str, case: Case, seed: int, count: int) -> Genes:
    """A sampler of Optuna, in Optuna's own loop; it learns constraints from what it measured.

    Choices of more than two numbers are told as an ordered range, all others as categories.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    run: list[Genes] = []

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        genes = np.array([[_suggest(trial, c) for c in case.space.choices]], dtype=np.int64)
        metrics = case.measure(genes)
        for c in case.problem.constraints:
            trial.set_constraint(str(c), c.excess(metrics[c.metric]))
        run.append(genes)
        return case.problem.losses(metrics)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some samplers are marked experimental
        study = optuna.create_study(
            directions=["minimize"] * len(case.problem.objectives), sampler=_sampler(sampler, seed)
        )
        study.optimize(objective, n_trials=count)
    return np.concatenate(run)


def pymoo_run(case: Case, seed: int, count: int) -> Genes:
    """NSGA-II with the integer operators of pymoo's documentation: SBX and PM, rounded, no genes twice."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    run: list[Genes] = []

    class Table(Problem):  # type: ignore[misc]
        def _evaluate(self, x: np.ndarray, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            genes = x.astype(np.int64)
            run.append(genes)
            metrics = [case.measure(row[None]) for row in genes]
            out["F"] = np.array([case.problem.losses(m) for m in metrics])
            if case.problem.constraints:
                out["G"] = np.array([[c.excess(m[c.metric]) for c in case.problem.constraints] for m in metrics])

    problem = Table(
        n_var=len(case.space.choices),
        n_obj=len(case.problem.objectives),
        n_ieq_constr=len(case.problem.constraints),
        xl=np.zeros(len(case.space.choices)),
        xu=case.space.sizes - 1,
        vtype=int,
    )
    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=SBX(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
    minimize(problem, algorithm, ("n_eval", count), seed=seed, verbose=False)
    return np.concatenate(run)[:count]


def _suggest(trial: Any, choice: Choice) -> int:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in choice.values)
    if numbers and len(choice.values) > 2:
        return int(trial.suggest_int(choice.name, 0, len(choice.values) - 1))
    return int(trial.suggest_categorical(choice.name, list(range(len(choice.values)))))


def _sampler(name: str, seed: int) -> Any:
    from optuna import samplers

    match name:
        case "nsga2":
            return samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
        case "tpe":
            return samplers.TPESampler(multivariate=True, seed=seed)
        case "gp":
            return samplers.GPSampler(seed=seed)
        case _:
            raise ValueError(f"{name!r} is no sampler here; allowed: nsga2, tpe, gp")
