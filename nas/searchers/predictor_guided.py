"""Ours, and the default: propose what a predictor expects to improve the Pareto front most.

Bayesian optimisation over architectures (White, Neiswanger, Savani: "BANANAS", AAAI 2021): candidates are
mutants and crossovers of the best networks measured so far, and some drawn at random; the most promising
are varied again a few times, and the best of all is proposed. Costs that formulas give are known exactly, so
they are not predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.searchers.acquisition import (
    Frame,
    best_first,
    directions,
    expected_improvement,
    hypervolume_improvement,
    known_violations,
    losses,
    standard_normal,
    violations,
)
from nas.searchers.elite import Elite
from nas.searchers.history import History
from nas.searchers.surrogate import Learner
from nas.trial import Proposal, Trial
from search_spaces.architecture import Genes
from search_spaces.operators import crossover, enumerate_all, identities, mutate, sample
from search_spaces.space import Space

Floats = NDArray[np.float64]
Judge: TypeAlias = Callable[[Genes], NDArray[np.int64]]
"""Gives the order of candidates (n, d), the best first."""

CANDIDATES = 384
ROUNDS = 3
"""So often the `KEPT` most promising candidates are varied, in every second trial: large spaces need more than a
step from the front, but near it the predictor is best (Schneider et al., "Mutation is all you need", 2021).
"""
KEPT, CHILDREN = 24, 96
SMALL = 2048
"""Spaces of at most so many gene tuples are candidates as a whole."""
PARENTS = (16, 64)
"""The fewest and the most architectures that candidates are made from; between them, the whole front."""
SAMPLES = 16
DIRECTIONS = 64
DOUBT = 3.0
"""Exploring trials take the predictor for so much less sure than it is."""


class PredictorGuidedConfig(SearcherSettings):
    """Gaussian processes over everything measured, and expected hypervolume improvement."""

    kind: Literal["predictor_guided"] = "predictor_guided"
    initial: int = Field(default=12, ge=2, description="trials drawn at random before any is predicted")
    exploration: float = Field(
        default=0.05, ge=0, le=1, description="share of trials that go where the predictor knows little"
    )

    def build(self, space: Space, problem: Problem, seed: int) -> PredictorGuided:
        """A fresh searcher."""
        return PredictorGuided(self, space, problem, seed)


class PredictorGuided:
    """Finished trials in order, and the best of them; the predictor is a pure function of these."""

    def __init__(self, config: PredictorGuidedConfig, space: Space, problem: Problem, seed: int) -> None:
        self._config, self._space, self._problem, self._seed = config, space, problem, seed
        self._history = History(space)
        self._clear()

    def ask(self, n: int) -> Sequence[Proposal]:
        """Up to `n` architectures; each reckons with those before it and with all that are running."""
        pending = self._space.genes([t.architecture for t in self._history.running()])
        pending = self._space.canonical_genes(pending)
        taken: set[bytes] = set()
        rows: list[Genes] = []
        for number in range(self._history.next_number, self._history.next_number + n):
            known = np.concatenate([pending, *rows])

            def draw(rng: np.random.Generator, number: int = number, known: Genes = known) -> Genes:
                return self._draw(number, known, taken, rng)

            row = self._history.novel(draw, np.random.default_rng([self._seed, number]), taken)
            if row is None:
                break
            rows.append(row)
        return [Proposal(a) for a in self._space.architectures(np.concatenate(rows))] if rows else []

    def tell(self, trials: Iterable[Trial]) -> None:
        """Finished trials are noted; what they teach is looked at when next asked."""
        finished, again = self._history.tell(trials)
        if again:
            self._clear()
        for trial in finished:
            self._learner.add(trial)
            if trial.measured:
                self._elite.add(trial)

    def _clear(self) -> None:
        self._elite = Elite(self._space, self._problem)
        self._learner = Learner(self._space, self._problem)

    @cached_property
    def _everything(self) -> Genes | None:
        """The whole space, where it is small."""
        return enumerate_all(self._space, SMALL)

    def _draw(self, number: int, pending: Genes, taken: Collection[bytes], rng: np.random.Generator) -> Genes:
        """Architectures to propose, the best first."""
        if number < self._config.initial or len(self._elite) < 2:
            return self._unguided(rng)
        normal = standard_normal(SAMPLES, len(self._problem.metrics), rng)
        if rng.random() < self._config.exploration:
            normal *= DOUBT
        judge = self._judge(pending, normal, rng)
        best = self._promising(self._candidates(rng), taken, judge)
        deep = self._everything is None and rng.random() < 0.5
        for _ in range(ROUNDS if deep else 0):
            kept = best[:KEPT]
            if not len(kept):
                break
            best = self._promising(np.concatenate([kept, self._varied(kept, CHILDREN, rng)]), taken, judge)
        return best

    def _promising(self, genes: Genes, taken: Collection[bytes], judge: Judge) -> Genes:
        """The distinct rows that were not proposed before, the best first."""
        genes = self._fresh(genes, taken)
        return genes[judge(genes)] if len(genes) else genes

    def _unguided(self, rng: np.random.Generator) -> Genes:
        """Uniform over genes, those first that break no constraint on formula metrics."""
        genes = sample(self._space, 32, rng)
        return genes[np.argsort(known_violations(self._space, self._problem, genes), kind="stable")]

    def _candidates(self, rng: np.random.Generator) -> Genes:
        if self._everything is not None:
            return self._everything
        parents = self._elite.parents(*PARENTS)
        few = CANDIDATES // 8
        return np.concatenate([self._varied(parents, CANDIDATES - few, rng), sample(self._space, few, rng)])

    def _varied(self, parents: Genes, count: int, rng: np.random.Generator) -> Genes:
        """Children of random parents: half have one gene changed, a quarter two, a quarter are crossovers."""
        space = self._space
        few = count // 4

        def some(count: int) -> Genes:
            return parents[rng.integers(len(parents), size=count)]

        once, twice = mutate(space, some(count - 2 * few), rng), mutate(space, mutate(space, some(few), rng), rng)
        return np.concatenate([once, twice, crossover(space, some(few), some(few), rng)])

    def _fresh(self, genes: Genes, taken: Collection[bytes]) -> Genes:
        """The distinct rows that were not proposed before."""
        first = {identity: i for i, identity in reversed(list(enumerate(identities(genes))))}
        kept = [i for key, i in first.items() if key not in taken and self._history.is_new(key)]
        return genes[sorted(kept)]

    def _judge(self, pending: Genes, normal: Floats, rng: np.random.Generator) -> Judge:
        """Orders candidates by expected improvement; where none is expected, by violation and then by loss.

        Those that can probably not be measured come last.
        """
        model, problem, least = self._learner.surrogate(), self._problem, self._elite.least_violation
        front = self._elite.front
        frame = Frame.of(front, np.concatenate([front, model.typical_losses]))
        there = np.concatenate([front, model.expected_losses(pending)])
        rays = directions(DIRECTIONS, len(problem.objectives), rng)

        def judge(genes: Genes) -> NDArray[np.int64]:
            values, success = model.sample(genes, normal), model.success(genes)
            broken = (success < 0.5).astype(np.float64)
            violation, loss = violations(problem, values), losses(problem, values)
            if least > 0:  # feasibility comes first
                gain = expected_improvement(violation, least)
                return best_first(broken, -gain * success, violation.mean(axis=0))
            gain = hypervolume_improvement(frame.scale(loss), frame.scale(there), rays) * (violation == 0)
            worth = gain.mean(axis=0) * success
            return best_first(broken, -worth, violation.mean(axis=0), frame.scale(loss).mean(axis=(0, 2)))

        return judge
