"""What every searcher must keep: the laws, on any space, whatever happens to trials and in whatever order."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pytest
from all_documents import ANY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas.config import SearcherSettings
from nas.contracts import Searcher
from nas.objectives import Constraint, Objective, Problem
from nas.trial import Broken, BrokenKind, Measured, Outcome, Trial, TrialState
from search_spaces import Architecture, Choice, Condition, load_space
from search_spaces.architecture import Genes
from search_spaces.operators import enumerate_all
from search_spaces.space import Space

BENCH = load_space("nas-bench-201")
DIGITS = load_space("digits-tiny")
LIMIT = 4_000
INHERITED = [HealthCheck.differing_executors, HealthCheck.too_slow]  # every subclass runs the same test


class Tiny(Space):
    """A space of one's own: one choice decides whether another has an effect; 3 x 2 x (1 + 3) networks."""

    name = "tiny"
    choices = (
        Choice("a", (1, 2, 3)),
        Choice("b", ("x", "y")),
        Choice("skip", (False, True)),
        Choice("c", (10, 20, 30), when=(Condition("skip", (False,)),)),
    )

    def build(self, arch: Architecture) -> None:  # type: ignore[override]
        raise AssertionError("searchers build nothing")

    def costs(self, genes: Genes, metrics: Collection[str] | None = None) -> dict[str, np.ndarray]:
        return {"macs": 1e5 * (1.0 + genes.sum(axis=1))}


TINY = Tiny()
SPACES = st.sampled_from([BENCH, DIGITS, TINY]) | ANY.map(load_space)


def problem(objectives: int = 2, constraints: Sequence[str] = ()) -> Problem:
    goals = ["max m0", *(f"min m{i}" for i in range(1, objectives))]
    return Problem(
        [Objective.model_validate(g) for g in goals], [Constraint.model_validate(c) for c in constraints]
    )


def measure(architecture: Architecture) -> dict[str, float]:
    """Smooth made-up metrics m0 .. m7 in [0, 1]."""
    sizes = [max(1, len(c.values) - 1) for c in architecture.choices]
    x = np.array([g / s for g, s in zip(architecture.genes, sizes, strict=True)])
    i = np.arange(len(x))
    waves = [np.sin(2 * x + i * (m + 1)).mean() if len(x) else 0.0 for m in range(8)]
    return {f"m{m}": float(0.5 + 0.5 * w) for m, w in enumerate(waves)}


def outcome(trial: Trial, rng: np.random.Generator, broken: float) -> Outcome:
    if rng.random() < broken:
        kind = [BrokenKind.INFEASIBLE, BrokenKind.FAILED, BrokenKind.LOST, BrokenKind.CANCELLED][rng.integers(4)]
        return Broken(kind, "made up")
    return Measured(measure(trial.architecture))


def keys(searcher: Searcher, n: int) -> list[str]:
    return [p.architecture.key for p in searcher.ask(n)]


def simulate(
    searcher: Searcher,
    wanted: Problem,
    steps: int,
    workers: int = 1,
    seed: int = 0,
    broken: float = 0.0,
) -> list[Trial]:
    """Trials by number after `steps` turns: start as many as there is room for, then one of them ends."""
    rng = np.random.default_rng(seed)
    trials: list[Trial] = []
    order = 0
    for _ in range(steps):
        running = [t for t in trials if t.state is TrialState.RUNNING]
        proposals = searcher.ask(workers - len(running))
        opened = [Trial(len(trials) + i, p) for i, p in enumerate(proposals)]
        searcher.tell(opened)
        trials += opened
        running += opened
        if not running:
            break
        ended = running[rng.integers(len(running))]
        closed = ended.close(outcome(ended, rng, broken), wanted, order, 0.0)
        order += closed.order is not None
        trials[ended.number] = closed.start() if closed.state is TrialState.PENDING else closed
        searcher.tell([trials[ended.number]])
    return trials


class SearcherContract:
    """Subclasses set `config`, with settings small enough that the searcher does its real work early."""

    config: SearcherSettings

    @given(space=SPACES, seed=st.integers(0, 99), workers=st.integers(1, 4), data=st.data())
    @settings(max_examples=12, suppress_health_check=INHERITED)
    def test_a_fresh_searcher_told_everything_asks_the_same(
        self, space: Space, seed: int, workers: int, data: st.DataObject
    ) -> None:
        wanted = problem(constraints=data.draw(st.sampled_from([(), ("m2 <= 0.5",), ("m2 >= 0.9", "m1 <= 2")])))
        old = self.config.build(space, wanted, seed)
        trials = simulate(old, wanted, data.draw(st.integers(0, 24)), workers, seed, broken=0.2)
        expected = keys(old, 3)

        at_once = self.config.build(space, wanted, seed)
        at_once.tell(data.draw(st.permutations(trials)))
        assert keys(at_once, 3) == expected

        in_chunks = self.config.build(space, wanted, seed)
        told = data.draw(st.permutations(trials))
        while told:
            size = data.draw(st.integers(1, len(told)))
            in_chunks.tell(told[:size])
            told = told[size:]
            if data.draw(st.booleans()):
                in_chunks.ask(1)
        in_chunks.tell(trials)  # hearing it twice changes nothing
        assert keys(in_chunks, 3) == expected

    @given(space=SPACES, seed=st.integers(0, 99), workers=st.integers(1, 4))
    @settings(max_examples=10, suppress_health_check=INHERITED)
    def test_proposals_are_new_canonical_and_asking_changes_nothing(
        self, space: Space, seed: int, workers: int
    ) -> None:
        wanted = problem()
        searcher = self.config.build(space, wanted, seed)
        trials = simulate(searcher, wanted, 16, workers, seed, broken=0.1)
        first, again = searcher.ask(4), searcher.ask(4)
        assert first == again
        assert [p.architecture for p in first[:2]] == [p.architecture for p in searcher.ask(2)]
        seen = [t.architecture.key for t in trials] + [p.architecture.key for p in first]
        assert len(set(seen)) == len(seen)
        for proposal in first:
            assert space.canonical(proposal.architecture) == proposal.architecture

    def test_seeds_differ(self) -> None:
        one, two = (self.config.build(BENCH, problem(), seed) for seed in (0, 1))
        assert keys(one, 8) != keys(two, 8)

    @given(document=ANY, seed=st.integers(0, 9))
    @settings(max_examples=10, suppress_health_check=INHERITED)
    def test_a_space_is_exhausted_without_repeats(self, document: dict[str, object], seed: int) -> None:
        space = load_space(document)
        everything = enumerate_all(space, LIMIT)
        self._exhaust(space if everything is not None and len(everything) <= 40 else TINY, seed)

    def test_a_space_of_one_network_is_exhausted_by_one_trial(self) -> None:
        document = {
            "family": "staged",
            "input": [1, 8, 8],
            "classes": 2,
            "architecture": {"stem": {"width": 4}, "stages": [{"block": "conv", "depth": 1, "width": 4}]},
        }
        self._exhaust(load_space(document), 0)

    def _exhaust(self, space: Space, seed: int) -> None:
        everything = enumerate_all(space, LIMIT)
        assert everything is not None
        wanted = problem()
        searcher = self.config.build(space, wanted, seed)
        most = len(everything) // 2
        trials = simulate(searcher, wanted, most, 1, seed)
        rest = searcher.ask(len(everything) + 5)
        assert len(rest) == len(everything) - len(trials)
        found = [t.architecture.key for t in trials] + [p.architecture.key for p in rest]
        assert len(set(found)) == len(everything)
        searcher.tell([Trial(len(trials) + i, p) for i, p in enumerate(rest)])
        assert list(searcher.ask(1)) == []

    @pytest.mark.parametrize("kind", list(BrokenKind))
    def test_trials_that_only_fail_do_not_stop_the_search(self, kind: BrokenKind) -> None:
        wanted = problem()
        searcher = self.config.build(BENCH, wanted, 0)
        for number in range(20):
            (proposal,) = searcher.ask(1)
            closed = Trial(number, proposal, attempt=3).close(Broken(kind, "no"), wanted, number, 0.0)
            searcher.tell([closed])
        assert len(searcher.ask(2)) == 2

    def test_what_changed_is_heard(self) -> None:
        wanted = problem()
        trials = simulate(self.config.build(DIGITS, wanted, 0), wanted, 20)
        changed = [
            Trial(t.number, t.proposal).close(
                Measured(measure(t.architecture) | {"m0": 1.0 / (t.number + 1)}), wanted, t.number, 0.0
            )
            for t in trials
        ]
        corrected, fresh = (self.config.build(DIGITS, wanted, 0) for _ in range(2))
        corrected.tell(trials)
        corrected.ask(1)
        corrected.tell(changed)
        fresh.tell(changed)
        assert keys(corrected, 3) == keys(fresh, 3)

    @pytest.mark.parametrize("objectives", [1, 3, 8])
    def test_one_objective_and_many(self, objectives: int) -> None:
        wanted = problem(objectives, ["m0 <= 0.9"])
        trials = simulate(self.config.build(DIGITS, wanted, 0), wanted, 24, workers=3)
        assert sum(t.measured for t in trials) == 24

    def test_equal_results_are_no_reason_to_stop(self) -> None:
        wanted = problem()
        searcher = self.config.build(DIGITS, wanted, 0)
        for number in range(24):
            (proposal,) = searcher.ask(1)
            flat = Measured({"m0": 0.5, "m1": 0.5})
            searcher.tell([Trial(number, proposal).close(flat, wanted, number, 0.0)])
        assert len(searcher.ask(3)) == 3
