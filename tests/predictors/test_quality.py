"""Figures of quality agree with counting and with SciPy; their intervals hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predictor_contract import DIGITS, made_up
from scipy.stats import kendalltau, spearmanr

from predictors import Prior, Quality, Ridge, auto, quality


def _guesses(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n)
    return truth, truth + rng.normal(scale=0.5, size=n), np.full(n, 0.5)


def test_figures_are_those_of_scipy_and_of_counting() -> None:
    truth, mean, std = _guesses(2000)
    found = Quality.of(truth, mean, std)
    assert found.count == 2000
    assert found.kendall.value == kendalltau(mean, truth).statistic
    assert found.spearman.value == spearmanr(mean, truth).statistic
    best, expected = set(np.argsort(-truth)[:200]), np.argsort(-mean)[:200]
    assert found.precision.value == pytest.approx(sum(i in best for i in expected) / 200)
    assert found.coverage_90.value == pytest.approx(0.9, abs=0.03)
    assert found.coverage_50.value == pytest.approx(0.5, abs=0.03)
    assert found.z_squared.value == pytest.approx(1.0, abs=0.1)


def test_intervals_hold_the_figures_of_all() -> None:
    whole = kendalltau(*_guesses(20_000)[:2]).statistic
    inside = []
    for seed in range(25):
        found = Quality.of(*_guesses(60, seed + 1)).kendall
        inside.append(found.low <= whole <= found.high)
    assert 0.75 <= np.mean(inside) <= 1.0


def test_more_architectures_narrow_the_interval() -> None:
    widths = [(q := Quality.of(*_guesses(n)).kendall).high - q.low for n in (50, 300, 3000)]
    assert widths[0] > 1.5 * widths[1] > 3 * widths[2]


@given(n=st.integers(2, 40), seed=st.integers(0, 1000), scale=st.sampled_from([0.0, 0.1, 1.0, 100.0]))
@settings(max_examples=10)
def test_intervals_hold_the_figure_and_stay_in_range(n: int, seed: int, scale: float) -> None:
    truth, mean, std = _guesses(n, seed)
    found = Quality.of(np.round(truth), mean, scale * std)
    for name, least, most in (
        ("kendall", -1, 1),
        ("spearman", -1, 1),
        ("precision", 0, 1),
        ("precision_low", 0, 1),
        ("coverage_50", 0, 1),
        ("coverage_90", 0, 1),
        ("z_squared", 0, np.inf),
    ):
        figure = getattr(found, name)
        assert least <= figure.low <= figure.value <= figure.high <= most


def test_coverage_of_a_few_is_not_certain() -> None:
    """Ten of ten could be luck."""
    truth = np.arange(10.0)
    found = Quality.of(truth, truth + 0.01, np.ones(10))
    assert found.coverage_90.value == found.coverage_90.high == 1.0
    assert found.coverage_90.low == pytest.approx(10 / (10 + 1.6449**2))  # Wilson's score at a share of 1


def test_a_standard_deviation_too_small_is_seen() -> None:
    truth, mean, std = _guesses(500)
    found = Quality.of(truth, mean, std / 5)
    assert found.coverage_90.high < 0.5
    assert found.z_squared.low > 10


def test_what_does_not_vary_ranks_nothing() -> None:
    flat = np.full(10, 3.0)
    found = Quality.of(flat, flat, np.zeros(10))
    assert (found.kendall.value, found.coverage_90.value, found.z_squared.value) == (0.0, 1.0, 0.0)
    assert Quality.of(flat, flat + 1, np.zeros(10)).coverage_90.value == 0.0


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_to_compare(n: int) -> None:
    with pytest.raises(ValueError, match="n >= 2"):
        Quality.of(np.zeros(n), np.zeros(n), np.zeros(n))


@pytest.mark.parametrize("make", [Ridge, auto])
def test_the_quality_of_a_fit_tells_that_on_new_networks(make: type) -> None:
    known, new = DIGITS.sample(200, 0), DIGITS.sample(400, 1)
    model = make(DIGITS).fit(known, made_up(DIGITS, known))
    told, prediction, truth = quality(model), model.predict(new), made_up(DIGITS, new)
    assert len(told) == 2
    for i in range(2):
        real = Quality.of(truth[:, i], prediction.mean[:, i], prediction.std[:, i])
        assert told[i].kendall.value == pytest.approx(real.kendall.value, abs=0.1)
        assert 0.8 <= real.coverage_90.value <= 0.99
        assert told[i].coverage_90.value == pytest.approx(real.coverage_90.value, abs=0.1)


def test_held_out_architectures_were_not_seen() -> None:
    """Targets without rhyme or reason can be learnt by heart, but not told of what was left out."""
    archs = DIGITS.sample(100, 0)
    noise = np.random.default_rng(0).normal(size=100)
    for model in (auto(DIGITS), Ridge(DIGITS)):
        assert quality(model.fit(archs, noise))[0].kendall.value < 0.2


def test_quality_before_fit() -> None:
    with pytest.raises(RuntimeError, match="not fitted"):
        quality(auto(DIGITS))


def test_a_prior_saves_measurements() -> None:
    """Another device shows most of what matters; a few architectures on the new one show the rest."""
    source, known, new = DIGITS.sample(200, 0), DIGITS.sample(15, 1), DIGITS.sample(300, 2)
    here, truth = (made_up(DIGITS, archs)[:, 0] for archs in (source, new))

    def there(archs: list) -> np.ndarray:
        return 50 - 3 * made_up(DIGITS, archs)[:, 0] + 0.5 * made_up(DIGITS, archs)[:, 1] / 1e6

    other = auto(DIGITS).fit(source, here)
    alone = auto(DIGITS).fit(known, there(known)).predict(new).mean[:, 0]
    helped = auto(DIGITS, Prior(DIGITS, other)).fit(known, there(known)).predict(new).mean[:, 0]
    assert len(truth) == 300
    taus = [kendalltau(guess, there(new)).statistic for guess in (alone, helped)]
    assert taus[1] > taus[0] + 0.05


def test_a_prior_that_is_wrong_does_little_harm() -> None:
    source, known, new = DIGITS.sample(100, 0), DIGITS.sample(40, 1), DIGITS.sample(300, 2)
    nonsense = Ridge(DIGITS).fit(source, np.random.default_rng(0).normal(size=100))
    targets, truth = made_up(DIGITS, known)[:, 0], made_up(DIGITS, new)[:, 0]
    taus = [
        kendalltau(auto(DIGITS, scores).fit(known, targets).predict(new).mean[:, 0], truth).statistic
        for scores in (None, Prior(DIGITS, nonsense))
    ]
    assert taus[1] > taus[0] - 0.05
