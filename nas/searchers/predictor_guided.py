"""Ours, and the default: propose what a predictor expects to improve the Pareto front most.

Bayesian optimisation over architectures (White, Neiswanger, Savani: "BANANAS", AAAI 2021): candidates are
mutants and crossovers of the best networks measured so far, and some drawn at random; the most promising
are varied again a few times, and the best of all is proposed. Costs that formulas give are known exactly, so
they are not predicted. With zero-cost scores, which are too dear for every candidate, the most promising few are
scored, and a predictor that knows the scores of everything measured chooses among them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property, partial
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from nas.config import EvaluatorSettings, SearcherSettings
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
from nas.searchers.surrogate import Learner, Surrogate
from nas.trial import Proposal, Trial
from predictors.features import Scores
from predictors.zero_cost import Proxy, consensus
from search_spaces import Fault
from search_spaces.architecture import Genes
from search_spaces.operators import crossover, enumerate_all, identities, mutate, sample
from search_spaces.space import Space

Floats = NDArray[np.float64]
Judge: TypeAlias = Callable[[Genes], NDArray[np.int64]]
"""Gives the order of candidates (n, d), the best first."""
Aim: TypeAlias = Callable[[Surrogate, Genes], NDArray[np.int64]]
"""The same, as a surrogate sees them."""

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
SCORED = 32
"""So many candidates of a trial are scored, which takes seconds; and drawn before anything is predicted."""


class PredictorGuidedConfig(SearcherSettings):
    """Gaussian processes over everything measured, and expected hypervolume improvement."""

    kind: Literal["predictor_guided"] = "predictor_guided"
    initial: int = Field(default=12, ge=2, description="trials drawn at random before any is predicted")
    exploration: float = Field(
        default=0.05, ge=0, le=1, description="share of trials that go where the predictor knows little"
    )
    scores: tuple[Proxy, ...] = Field(
        default=(),
        description="zero-cost scores that help to choose; for an evaluator that builds networks from data",
    )

    def build(self, space: Space, problem: Problem, seed: int, scores: Scores | None = None) -> PredictorGuided:
        """A fresh searcher; `scores`: any that depend on genes alone, for those that the settings name."""
        return PredictorGuided(self, space, problem, seed, scores)

    def build_for(
        self, evaluator: EvaluatorSettings, space: Space, problem: Problem, seed: int
    ) -> PredictorGuided:
        """See `SearcherSettings`."""
        scores = evaluator.scores(space, self.scores, seed) if self.scores else None
        return self.build(space, problem, seed, scores)

    def faults_for(self, evaluator: EvaluatorSettings, space: Space) -> list[Fault]:
        """Scores need networks and data."""
        if not self.scores or evaluator.scores(space, self.scores, 0) is not None:
            return []
        kind = getattr(evaluator, "kind", "given")
        return [
            Fault(
                "scores",
                f"the {kind} evaluator builds no networks to score; allowed: no scores, or a training evaluator",
            )
        ]

    @field_validator("scores")
    @classmethod
    def _each_once(cls, names: tuple[Proxy, ...]) -> tuple[Proxy, ...]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name} stands twice; allowed: each score once")
        return names


class PredictorGuided:
    """Finished trials in order, and the best of them; the predictor is a pure function of these."""

    def __init__(
        self,
        config: PredictorGuidedConfig,
        space: Space,
        problem: Problem,
        seed: int,
        scores: Scores | None = None,
    ) -> None:
        self._config, self._space, self._problem, self._seed = config, space, problem, seed
        self._scores = scores
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
            self._scored_learner.add(trial)
            if trial.measured:
                self._elite.add(trial)

    def _clear(self) -> None:
        self._elite = Elite(self._space, self._problem)
        self._learner = Learner(self._space, self._problem)
        self._scored_learner = Learner(self._space, self._problem, self._scores)  # fitted only where it is asked

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
        aim = self._aim(pending, normal, rng)
        judge = partial(aim, self._learner.surrogate())
        best = self._promising(self._candidates(rng), taken, judge)
        deep = self._everything is None and rng.random() < 0.5
        for _ in range(ROUNDS if deep else 0):
            kept = best[:KEPT]
            if not len(kept):
                break
            best = self._promising(np.concatenate([kept, self._varied(kept, CHILDREN, rng)]), taken, judge)
        return self._by_scores(best, aim)

    def _by_scores(self, best: Genes, aim: Aim) -> Genes:
        """Candidates, the best first, with the first few put in the order of the predictor that knows scores."""
        if self._scores is None or not len(best):
            return best
        few, others = best[:SCORED], best[SCORED:]
        order = aim(self._scored_learner.surrogate(), few)
        dead = self._dead(few)[order]
        return np.concatenate([few[order[np.argsort(dead, kind="stable")]], others])

    def _dead(self, genes: Genes) -> NDArray[np.bool_]:
        """Which networks have a score that is not finite: they do not work, or nothing is known of them."""
        assert self._scores is not None
        return np.asarray(~np.isfinite(self._scores(genes)).all(axis=1))

    def _promising(self, genes: Genes, taken: Collection[bytes], judge: Judge) -> Genes:
        """The distinct rows that were not proposed before, the best first."""
        genes = self._fresh(genes, taken)
        return genes[judge(genes)] if len(genes) else genes

    def _unguided(self, rng: np.random.Generator) -> Genes:
        """Uniform over genes, those first that break no constraint on formula metrics.

        With scores, now and then the best of several by the mean rank of these: in every second trial, or more
        rarely where there are other objectives, for which scores do not speak. The rest keeps its variety.
        """
        genes = sample(self._space, SCORED, rng)
        violation = known_violations(self._space, self._problem, genes)
        order = np.argsort(violation, kind="stable")
        if self._scores is None or rng.random() > 1 / (1 + len(self._problem.objectives)):
            return genes[order]
        genes, violation = genes[order], violation[order]
        return genes[np.lexsort((-consensus(self._scores(genes)), self._dead(genes), violation))]

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

    def _aim(self, pending: Genes, normal: Floats, rng: np.random.Generator) -> Aim:
        """Orders candidates by expected improvement; where none is expected, by violation and then by loss.

        Those that can probably not be measured come last.
        """
        model, problem, least = self._learner.surrogate(), self._problem, self._elite.least_violation
        front = self._elite.front
        frame = Frame.of(front, np.concatenate([front, model.typical_losses]))
        there = np.concatenate([front, model.expected_losses(pending)])
        rays = directions(DIRECTIONS, len(problem.objectives), rng)

        def aim(model: Surrogate, genes: Genes) -> NDArray[np.int64]:
            values, success = model.sample(genes, normal), model.success(genes)
            broken = (success < 0.5).astype(np.float64)
            violation, loss = violations(problem, values), losses(problem, values)
            if least > 0:  # feasibility comes first
                gain = expected_improvement(violation, least)
                return best_first(broken, -gain * success, violation.mean(axis=0))
            gain = hypervolume_improvement(frame.scale(loss), frame.scale(there), rays) * (violation == 0)
            worth = gain.mean(axis=0) * success
            return best_first(broken, -worth, violation.mean(axis=0), frame.scale(loss).mean(axis=(0, 2)))

        return aim
