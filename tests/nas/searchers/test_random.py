"""Quasi-random search: the points of one scrambled sequence, by the numbers of trials."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import qmc

from nas.objectives import Problem
from nas.searchers.random import BLOCK, Points, RandomConfig
from nas.trial import Trial
from search_spaces import Architecture, Choice
from search_spaces.space import Space

PROBLEM = Problem.parse(["max accuracy"])


class Numbers(Space):
    name = "numbers"
    choices = tuple(Choice(f"n{i}", tuple(range(16))) for i in range(6))

    def build(self, arch: Architecture) -> None:  # type: ignore[override]
        raise AssertionError


def genes(config: RandomConfig, count: int, seed: int = 0) -> np.ndarray:
    return np.array([p.architecture.genes for p in config.build(Numbers(), PROBLEM, seed).ask(count)])


@pytest.mark.parametrize("seed", range(3))
def test_a_sequence_fills_every_gene_and_every_pair_of_genes_evenly(seed: int) -> None:
    drawn = genes(RandomConfig(quasi=True), 64, seed)
    for column in drawn.T:
        assert (np.bincount(column, minlength=16) == 4).all()
    even = qmc.discrepancy((drawn + 0.5) / 16)
    assert even < 0.7 * qmc.discrepancy((genes(RandomConfig(), 64, seed) + 0.5) / 16)


def test_a_point_is_the_same_whenever_it_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    forward, backward = Points(5, 7), Points(5, 7)
    numbers = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 3]
    points = {i: forward.at(i, rng) for i in numbers}
    for i in reversed(numbers):
        np.testing.assert_array_equal(backward.at(i, rng), points[i])
    assert len({p.tobytes() for p in points.values()}) == len(numbers)


def test_the_sequence_goes_on_after_a_restart() -> None:
    config = RandomConfig(quasi=True)
    whole = config.build(Numbers(), PROBLEM, 1).ask(40)
    later = config.build(Numbers(), PROBLEM, 1)
    later.tell([Trial(i, p) for i, p in enumerate(whole[:25])])
    assert list(later.ask(15)) == list(whole[25:])


def test_more_genes_than_there_are_sobol_numbers_are_drawn_independently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.searchers.random.MAX_DIMENSIONS", 4)
    points = Points(6, 0)
    drawn = np.array([points.at(i, np.random.default_rng(i)) for i in range(64)])
    assert drawn.shape == (64, 6)
    assert ((drawn >= 0) & (drawn < 1)).all()
    assert (np.bincount((drawn[:, 3] * 8).astype(int), minlength=8) == 8).all()
    assert len(np.unique(drawn[:, 5])) == 64
