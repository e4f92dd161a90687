"""What evaluations of tables of measured networks give, and how what a search evaluated is scored.

A run is the genes that were evaluated, in order, repeats included; every score is a function of them alone, so
that ours and peers are judged by the same lines. Shares of hypervolume: objectives scaled as
(loss - least) / (95th percentile - least) over the table, reference point 1.1 in each, divided by the volume of
the table's true front. Every gene tuple of a complete table counts, with the metrics of the network that it means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np

from benchmarks.tables import Floats, Table
from nas.objectives import Problem
from nas.pareto import hypervolume, non_dominated
from nas.searchers.outlook import judged
from nas.trial import Measured, Proposal, Trial
from predictors import GradientBoosting
from predictors.base import GenePredictor
from search_spaces.architecture import Genes
from search_spaces.space import Space

Columns: TypeAlias = Mapping[str, Floats]
"""Values (n,) by metric."""
Levels: TypeAlias = dict[str, list[float]]
"""By what is looked at, one level for each number of evaluations."""

LARGEST = 100_000
"""Complete tables have at most so many gene tuples."""


class Truth(Protocol):
    """What an evaluation gives; a pure function of genes."""

    def __call__(self, genes: Genes) -> Columns:
        """Metrics of genes (n, d)."""
        ...


class Score(Protocol):
    """What a run comes to."""

    @property
    def marks(self) -> tuple[int, ...]:
        """Numbers of evaluations after which one looks."""
        ...

    def levels(self, case: Case, run: Genes, marks: Sequence[int]) -> Levels:
        """What was reached after each of `marks` evaluations; more is better."""
        ...

    def reached(self, case: Case, run: Genes) -> float | None:
        """Evaluations until the goal, infinite where it was missed; None where there is no goal."""
        ...


@dataclass(frozen=True)
class Case:
    """One problem over one table."""

    kind: str
    name: str
    space: Space
    problem: Problem
    truth: Truth
    score: Score

    def measure(self, genes: Genes) -> dict[str, float]:
        """Metrics of one architecture with genes of shape (1, d)."""
        return {metric: float(values[0]) for metric, values in self.truth(genes).items()}

    def trials(self, run: Genes) -> list[Trial]:
        """A run as finished trials, the first of each network only."""
        genes = self.space.canonical_genes(run)
        first = np.sort(np.unique(genes, axis=0, return_index=True)[1])
        archs = self.space.canonical_architectures(genes[first])
        return [
            Trial(i, Proposal(a)).close(Measured(self.measure(genes[[row]])), self.problem, i, 0.0)
            for i, (a, row) in enumerate(zip(archs, first, strict=True))
        ]


@dataclass(frozen=True)
class Complete:
    """Every gene tuple of a space, with the metrics of the network that it means."""

    space: Space
    columns: Columns
    """By metric, one value for each gene tuple in lexicographic order."""

    @classmethod
    def of(cls, table: Table, columns: Columns) -> Complete:
        """From values (n,) of the distinct networks of a table that holds all of them."""
        space = table.space
        if space.size > LARGEST:
            raise ValueError(f"{space.name} has {space.size} gene tuples; allowed: {LARGEST}")
        row = np.full(space.size, -1)
        row[_place(space, table.genes)] = np.arange(len(table.genes))
        found = row[_place(space, space.canonical_genes(tuples(space)))]
        if (found < 0).any():
            raise ValueError(f"{table.name} lacks {(found < 0).sum()} gene tuples")
        return cls(space, {metric: values[found] for metric, values in columns.items()})

    def __call__(self, genes: Genes) -> Columns:
        """See `Truth`."""
        place = _place(self.space, genes)
        return {metric: values[place] for metric, values in self.columns.items()}


@dataclass(frozen=True)
class Guessed:
    """A surrogate fitted on an incomplete table: not what networks are, but rugged in the way that they are."""

    space: Space
    models: Mapping[str, GenePredictor]
    formulas: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: Table, columns: Columns, formulas: tuple[str, ...] = ()) -> Guessed:
        """Boosted trees, a kind of model that no searcher of ours uses by default, for each column."""
        models = {m: GradientBoosting(table.space).fit_genes(table.genes, v) for m, v in columns.items()}
        return cls(table.space, models, formulas)

    def __call__(self, genes: Genes) -> Columns:
        """See `Truth`."""
        genes = self.space.canonical_genes(genes)
        guessed = {m: model.predict_genes(genes).mean[:, 0] for m, model in self.models.items()}
        return guessed | (self.space.costs(genes, self.formulas) if self.formulas else {})


@dataclass(frozen=True)
class Share:
    """Hypervolume as a share of that of the true front."""

    least: Floats
    width: Floats
    best: float
    marks: tuple[int, ...] = (20, 50, 100, 150, 200, 300)

    @classmethod
    def of(cls, problem: Problem, table: Columns, front: Columns) -> Share:
        """Scaled over the rows of `table`, divided by the volume of `front`, which may be the same."""
        losses = judged(problem, table)[0]
        least = losses.min(axis=0)
        made = cls(least, np.quantile(losses, 0.95, axis=0) - least, 1.0)
        best = judged(problem, front)[0]
        return replace(made, best=made.volume(best[non_dominated(best)]))

    def volume(self, losses: Floats) -> float:
        """Scaled hypervolume of losses (n, m)."""
        return hypervolume((losses - self.least) / self.width, np.full(len(self.least), 1.1))

    def levels(self, case: Case, run: Genes, marks: Sequence[int]) -> Levels:
        """See `Score`."""
        losses = judged(case.problem, case.truth(run))[0]
        return {"share": [self.volume(losses[:mark]) / self.best for mark in marks]}

    def reached(self, case: Case, run: Genes) -> None:
        """There is no goal."""


@dataclass(frozen=True)
class Best:
    """The best feasible accuracy in percent, and when it came within `gap` points of the optimum."""

    optimum: float
    worst: float
    """Counts while nothing feasible was found."""
    gap: float = 0.0
    marks: tuple[int, ...] = (50, 100, 150, 200, 300)

    @classmethod
    def of(cls, problem: Problem, table: Columns, gap: float = 0.0) -> Best:
        """With the optimum of a complete table."""
        accuracy = 100 * table["accuracy"]
        return cls(float(accuracy[judged(problem, table)[1] == 0].max()), float(accuracy.min()), gap)

    def levels(self, case: Case, run: Genes, marks: Sequence[int]) -> Levels:
        """See `Score`."""
        best = self._best(case, run)
        return {"best accuracy": [float(best[min(mark, len(best)) - 1]) for mark in marks]}

    def reached(self, case: Case, run: Genes) -> float:
        """See `Score`."""
        there = np.flatnonzero(self._best(case, run) >= self.optimum - self.gap - 1e-9)
        return float(there[0] + 1) if len(there) else np.inf

    def _best(self, case: Case, run: Genes) -> Floats:
        metrics = case.truth(run)
        feasible = judged(case.problem, metrics)[1] == 0
        best: Floats = np.maximum.accumulate(np.where(feasible, 100 * metrics["accuracy"], self.worst))
        return best


@dataclass(frozen=True)
class Chosen:
    """True accuracy, in percent, of the network that one would take after a noisy search."""

    true: Complete
    """With a metric "accuracy" that no search has seen."""
    marks: tuple[int, ...] = (50, 100, 300)

    def levels(self, case: Case, run: Genes, marks: Sequence[int]) -> Levels:
        """The best observed, and the one recommended by a model of everything that was measured."""
        from nas.recommended import recommended

        found: Levels = {"best observed": [], "recommended": []}
        for mark in marks:
            trials = case.trials(run[:mark])
            observed = max(trials, key=lambda t: t.metrics["accuracy"])
            first = recommended(case.space, case.problem, trials).trials[0]
            for name, trial in (("best observed", observed), ("recommended", first)):
                genes = case.space.genes([trial.architecture])
                found[name].append(100 * float(self.true(genes)["accuracy"][0]))
        return found

    def reached(self, case: Case, run: Genes) -> None:
        """There is no goal."""


def tuples(space: Space) -> Genes:
    """All gene tuples (n, d) in lexicographic order."""
    places = np.unravel_index(np.arange(space.size), tuple(space.sizes.tolist()))
    return np.stack(places, axis=1).astype(np.int64)


def _place(space: Space, genes: Genes) -> np.ndarray:
    place: np.ndarray = np.ravel_multi_index(tuple(genes.T), tuple(space.sizes.tolist()))
    return place
