"""Banded evolution stays within its band, finds narrow ones, and says what has no formula."""

from __future__ import annotations

import numpy as np
import pytest

from nas.check import check
from nas.job import JobSpec
from nas.objectives import Problem
from nas.searchers.banded_evolution import BandedEvolutionConfig
from nas.trial import Measured, Proposal, Trial
from search_spaces import Architecture, Choice, SpecError, load_space
from search_spaces.space import Space

PROBLEM = Problem.parse(["max accuracy"])
WIDE = load_space("fbnetv3")


class Weights(Space):
    """Twelve numbers; the cost is their weighted sum, so that a narrow band holds few architectures."""

    name = "weights"
    choices = tuple(Choice(f"n{i}", tuple(range(5))) for i in range(12))

    def build(self, arch: Architecture) -> None:  # type: ignore[override]
        raise AssertionError

    def costs(self, genes: np.ndarray, metrics: object = None) -> dict[str, np.ndarray]:
        return {"macs": (genes * (1.0 + np.arange(12) ** 2)).sum(axis=1)}


class Numbers(Space):
    """Five digits to the base of five; the cost is the number itself."""

    name = "numbers"
    choices = tuple(Choice(f"n{i}", tuple(range(5))) for i in range(5))

    def build(self, arch: Architecture) -> None:  # type: ignore[override]
        raise AssertionError

    def costs(self, genes: np.ndarray, metrics: object = None) -> dict[str, np.ndarray]:
        return {"macs": genes @ 5.0 ** np.arange(5)}


def search(
    config: BandedEvolutionConfig, space: Space, count: int, seed: int = 0
) -> tuple[list[Proposal], list[float]]:
    """Everything proposed, and its accuracy: the closer the genes to their middle, the better."""
    searcher = config.build(space, PROBLEM, seed)
    proposals, values = [], []
    for number in range(count):
        (proposal,) = searcher.ask(1)
        x = np.array(proposal.architecture.genes) / np.maximum(space.sizes - 1, 1)
        values.append(float(1 - np.abs(x - 0.6).mean()))
        closed = Trial(number, proposal).close(Measured({"accuracy": values[-1]}), PROBLEM, number, 0.0)
        searcher.tell([closed])
        proposals.append(proposal)
    return proposals, values


def costs(space: Space, proposals: list[Proposal]) -> np.ndarray:
    return space.costs(space.genes([p.architecture for p in proposals]), ["macs"])["macs"]


@pytest.mark.parametrize("limit", [5e8, 8e8])
def test_every_proposal_lies_in_the_band_and_the_best_becomes_better(limit: float) -> None:
    proposals, values = search(BandedEvolutionConfig(limit=limit, initial=20, parents=8), WIDE, 100)
    spent = costs(WIDE, proposals)
    assert ((0.975 * limit <= spent) & (spent <= limit)).all()
    assert np.mean(values[-30:]) > np.mean(values[:20]) + 2 * np.std(values[:20])


def test_a_band_that_random_draws_never_meet_is_walked_to() -> None:
    space = Weights()
    drawn = space.costs(np.random.default_rng(0).integers(0, 5, size=(20_000, 12)))["macs"]
    limit = 150.0
    assert ((drawn <= limit) & (drawn >= 0.975 * limit)).mean() < 1e-3
    proposals, _ = search(BandedEvolutionConfig(limit=limit, initial=10, parents=5), space, 60)
    spent = costs(space, proposals)
    assert ((0.975 * limit <= spent) & (spent <= limit)).all()


@pytest.mark.parametrize(("limit", "nearest"), [(1e6, "most"), (1e-3, "least")])
def test_a_band_that_holds_nothing_gives_the_nearest_to_it(limit: float, nearest: str) -> None:
    space = Weights()
    proposals, _ = search(BandedEvolutionConfig(limit=limit), space, 30)
    spent = costs(space, proposals)
    most = 4 * (1.0 + np.arange(12) ** 2).sum()
    assert len({p.architecture.key for p in proposals}) == 30
    assert (spent > 0.9 * most).all() if nearest == "most" else (spent < 0.1 * most).all()


def test_around_a_band_that_is_used_up_the_nearest_are_measured() -> None:
    """Of costs 0 to 3124 the band holds 51, and 100 more lie within 50 of it."""
    space = Numbers()
    proposals, _ = search(BandedEvolutionConfig(limit=2000.0, initial=20), space, 130)
    spent = costs(space, proposals)
    assert ((spent >= 1950) & (spent <= 2000)).sum() == 51
    assert ((spent >= 1890) & (spent <= 2060)).all()


def test_a_metric_without_a_formula_is_refused_in_one_line() -> None:
    document = {
        "space": "digits-tiny",
        "objectives": ["max accuracy"],
        "searcher": {"kind": "banded_evolution", "metric": "mac", "limit": 1e6},
    }
    with pytest.raises(
        SpecError, match=r"searcher\.metric: 'mac' has no formula; allowed: macs.*did you mean \"macs\""
    ) as e:
        check(JobSpec.parse(document))
    assert "\n" not in str(e.value)
    with pytest.raises(SpecError, match=r"^metric: 'accuracy' has no formula"):
        BandedEvolutionConfig(metric="accuracy", limit=1).build(WIDE, PROBLEM, 0)


def test_a_document_reads_back() -> None:
    spec = JobSpec.parse(
        {
            "space": "digits-tiny",
            "objectives": ["max accuracy"],
            "searcher": {"kind": "banded_evolution", "limit": 5},
        }
    )
    assert JobSpec.parse(spec.dump()) == spec
    with pytest.raises(SpecError, match=r"searcher\.limit"):
        JobSpec.parse(spec.dump() | {"searcher": {"kind": "banded_evolution"}})
