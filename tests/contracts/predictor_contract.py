"""What every predictor must keep."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau

from predictors import Prediction, Predictor
from search_spaces import Architecture, Choice, load_space
from search_spaces.encodings import mixed
from search_spaces.space import Space

DIGITS = load_space("digits-tiny")
BENCH = load_space("nas-bench-201")


class Bare(Space):
    """No formulas: predictors have only genes to go by."""

    name = "bare"
    choices = tuple(Choice(f"c{i}", ("p", "q", "r")) for i in range(5))

    def build(self, arch: Architecture) -> None:  # type: ignore[override]
        raise AssertionError("predictors build nothing")


def made_up(space: Space, archs: list[Architecture]) -> NDArray[np.float64]:
    """Two targets of every architecture, with interactions, on very different scales. Shape (n, 2)."""
    x = mixed(space, space.genes(archs))
    i = np.arange(x.shape[1])
    first = x @ np.sin(i) + (x @ np.cos(2 * i)) * x[:, 0] + 0.3 * (x @ np.sin(3 * i)) ** 2
    return np.stack([first, 1e6 * (x @ np.cos(i) + 3)], axis=1)


def same(a: Prediction, b: Prediction) -> None:
    np.testing.assert_array_equal(a.mean, b.mean)
    np.testing.assert_array_equal(a.std, b.std)


class PredictorContract:
    """Subclasses give `make`."""

    def make(self, space: Space) -> Predictor:
        raise NotImplementedError

    @pytest.fixture(params=[DIGITS, BENCH, Bare()], ids=lambda s: s.name)
    def space(self, request: pytest.FixtureRequest) -> Space:
        space: Space = request.param
        return space

    def test_shapes(self, space: Space) -> None:
        archs = space.sample(12, 0)
        targets = made_up(space, archs)
        for given, columns in ((targets, 2), (targets[:, 0], 1), (targets[:, :1], 1)):
            model = self.make(space)
            assert model.fit(archs, given) is model
            prediction = model.predict(space.sample(7, 1))
            assert prediction.mean.shape == prediction.std.shape == (7, columns)
            assert np.isfinite(prediction.mean).all()
            assert (prediction.std >= 0).all()
            assert model.predict([]).mean.shape == (0, columns)

    def test_it_is_deterministic_and_fit_starts_afresh(self, space: Space) -> None:
        archs, others = space.sample(20, 0), space.sample(30, 1)
        targets = made_up(space, archs)
        model = self.make(space).fit(archs, targets)
        first = model.predict(others)
        np.random.seed(5)  # a global seed must not matter
        model.fit(others, made_up(space, others) * 7)
        same(model.fit(archs, targets).predict(others), first)
        same(self.make(space).fit(archs, targets).predict(others), first)

    def test_it_pickles(self, space: Space) -> None:
        archs = space.sample(20, 0)
        model = self.make(space).fit(archs, made_up(space, archs))
        same(pickle.loads(pickle.dumps(model)).predict(archs), model.predict(archs))

    def test_it_ranks_what_it_has_not_seen(self, space: Space) -> None:
        known, new = space.sample(80, 0), space.sample(200, 1)
        prediction = self.make(space).fit(known, made_up(space, known)).predict(new)
        truth = made_up(space, new)
        for column in range(2):
            assert kendalltau(prediction.mean[:, column], truth[:, column]).statistic > 0.3

    def test_it_knows_how_sure_it_is(self, space: Space) -> None:
        known, new = space.sample(80, 0), space.sample(300, 1)
        prediction = self.make(space).fit(known, made_up(space, known)).predict(new)
        inside = np.abs(prediction.mean - made_up(space, new)) <= 1.645 * prediction.std
        assert 0.7 < inside.mean() <= 1.0

    def test_scale_and_shift_of_a_target_do_not_matter(self) -> None:
        known, new = DIGITS.sample(30, 0), DIGITS.sample(30, 1)
        targets = made_up(DIGITS, known)[:, 0]
        plain = self.make(DIGITS).fit(known, targets).predict(new)
        moved = self.make(DIGITS).fit(known, 1e7 * targets + 1e8).predict(new)
        np.testing.assert_allclose((moved.mean - 1e8) / 1e7, plain.mean, rtol=1e-2, atol=1e-2)
        np.testing.assert_allclose(moved.std / 1e7, plain.std, rtol=5e-2, atol=1e-3)

    def test_targets_are_learnt_apart(self) -> None:
        known, new = DIGITS.sample(30, 0), DIGITS.sample(10, 1)
        targets = made_up(DIGITS, known)
        together = self.make(DIGITS).fit(known, targets).predict(new)
        alone = self.make(DIGITS).fit(known, targets[:, 1]).predict(new)
        np.testing.assert_allclose(together.mean[:, 1], alone.mean[:, 0], rtol=1e-6)

    def test_equal_networks_are_predicted_alike(self) -> None:
        """An edge that leads nowhere does not matter, whatever stands on it."""
        values = dict.fromkeys((c.name for c in BENCH.choices), "none") | {"edge_0_3": "nor_conv_3x3"}
        twins = [BENCH.architecture(values | {"edge_0_1": op}) for op in ("none", "nor_conv_3x3")]
        known = BENCH.sample(30, 0)
        prediction = self.make(BENCH).fit(known, made_up(BENCH, known)).predict(twins)
        np.testing.assert_array_equal(prediction.mean[0], prediction.mean[1])
        other = self.make(BENCH).fit([*known, twins[0]], made_up(BENCH, [*known, twins[0]]))
        same(
            other.predict(known),
            self.make(BENCH).fit([*known, twins[1]], made_up(BENCH, [*known, twins[0]])).predict(known),
        )

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_very_few_architectures(self, space: Space, n: int) -> None:
        archs = space.sample(n, 0)
        prediction = self.make(space).fit(archs, made_up(space, archs)).predict(space.sample(9, 1))
        assert np.isfinite(prediction.mean).all()
        assert np.isfinite(prediction.std).all()

    def test_equal_targets_are_expected_everywhere(self, space: Space) -> None:
        archs = space.sample(15, 0)
        prediction = self.make(space).fit(archs, np.full(15, 0.9)).predict(space.sample(9, 1))
        np.testing.assert_allclose(prediction.mean, 0.9)
        np.testing.assert_allclose(prediction.std, 0.0, atol=1e-9)

    def test_repeats_with_different_values_are_averaged(self) -> None:
        archs = DIGITS.sample(20, 0)
        truth = made_up(DIGITS, archs)[:, 0]
        targets = np.concatenate([truth - 1, truth + 1])
        averaged = self.make(DIGITS).fit([*archs, *archs], targets).predict(archs)
        alone = self.make(DIGITS).fit(archs, truth).predict(archs)
        assert np.abs(averaged.mean - alone.mean).mean() < 0.5

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_a_target_that_is_not_finite_is_named(self, value: float) -> None:
        targets = np.ones((5, 2))
        targets[3, 1] = value
        with pytest.raises(ValueError, match=rf"target 1 of architecture 3 is {value}"):
            self.make(DIGITS).fit(DIGITS.sample(5, 0), targets)

    @pytest.mark.parametrize("shape", [(4,), (6, 2), (5, 1, 1), ()])
    def test_targets_of_a_wrong_shape_are_named(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"allowed: \(5,\) or \(5, t\)"):
            self.make(DIGITS).fit(DIGITS.sample(5, 0), np.ones(shape))

    def test_nothing_to_learn_from(self) -> None:
        with pytest.raises(ValueError, match="at least one"):
            self.make(DIGITS).fit([], np.zeros(0))

    def test_predict_before_fit(self) -> None:
        with pytest.raises(RuntimeError, match="not fitted"):
            self.make(DIGITS).predict(DIGITS.sample(1, 0))
