"""Scores help, whatever they are; features are finite and mean the same for equal networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from predictor_contract import BENCH, DIGITS, Bare, made_up
from scipy.stats import kendalltau

from predictors import GaussianProcess, MlpEnsemble, Prior, Ridge, ScoreTable, auto
from predictors.base import Warp
from predictors.features import Features, ScoreScale
from predictors.files import FileFault, load, save
from search_spaces import load_space
from search_spaces.space import Space


def test_a_table_gives_scores_by_network_and_nothing_for_others() -> None:
    twins = np.array([[0, 0, 0, 3, 0, 0], [3, 0, 0, 3, 0, 0]])
    assert (BENCH.canonical_genes(twins)[0] == BENCH.canonical_genes(twins)[1]).all()
    table = ScoreTable(BENCH, twins[:1], np.array([[1.0, -np.inf]]))
    others = BENCH.genes(BENCH.sample(3, 0))
    found = table(BENCH.canonical_genes(np.concatenate([twins, others])))
    np.testing.assert_array_equal(found[:2], [[1.0, -np.inf]] * 2)
    assert np.isnan(found[2:]).all()
    with pytest.raises(ValueError, match=r"allowed: \(2, k\)"):
        ScoreTable(BENCH, twins, np.zeros(2))


def test_scores_are_tamed_and_ranked() -> None:
    learnt = np.array([[1.0], [2.0], [3.0], [-np.inf], [np.nan]])
    found = ScoreScale.of(learnt)(np.array([[2.0], [-np.inf], [np.nan], [1e30], [np.inf]]))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 0], [2.0, 0.0, 2.0, 4.0, 4.0])
    assert found[1, 1] < found[0, 1] < found[3, 1]
    np.testing.assert_array_equal(found[:, 2], [1, 0, 0, 1, 0])
    assert np.isfinite(ScoreScale.of(np.full((3, 2), np.nan))(learnt.repeat(2, axis=1))).all()


@pytest.mark.parametrize("name", ["digits-tiny", "nas-bench-201", "ofa-mobilenetv3", "nasnet"])
def test_features_are_finite_and_blocks_weigh_alike(name: str) -> None:
    space = load_space(name)
    genes = space.genes(space.sample(60, 0))
    features = Features(space, lambda g: np.where(g[:, :1] == 0, -np.inf, g[:, :2]), genes)
    x = features(genes)
    assert np.isfinite(features(space.genes(space.sample(60, 1)))).all()
    blocks = np.maximum(features.groups, 0)
    for block in np.unique(blocks):
        assert x[:, blocks == block].var(axis=0).sum() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", [Ridge, GaussianProcess, auto, MlpEnsemble])
def test_scores_that_tell_the_truth_are_believed(kind: type) -> None:
    space = Bare()
    known, new = space.sample(20, 0), space.sample(200, 1)

    def score(genes: np.ndarray) -> np.ndarray:
        found = made_up(space, space.architectures(genes))[:, :1] ** 3
        return np.where(np.arange(len(genes))[:, None] % 10 == 0, np.nan, found)

    taus = [
        kendalltau(
            kind(space, s).fit(known, made_up(space, known)).predict(new).mean[:, 0], made_up(space, new)[:, 0]
        ).statistic
        for s in (None, score)
    ]
    assert taus[1] > taus[0] + 0.03


def test_a_prior_of_other_choices_is_refused() -> None:
    model = Ridge(BENCH).fit(BENCH.sample(5, 0), np.arange(5.0))
    with pytest.raises(ValueError, match="knows other choices than digits-tiny"):
        Prior(DIGITS, model)


def test_pretraining_on_free_statistics_helps() -> None:
    """Accuracy of a kind: it grows with the cost, with a little of its own."""
    space = load_space("mobilenetv3")
    known, new = space.sample(20, 0), space.sample(300, 1)

    def target(archs: list) -> np.ndarray:
        costs = space.costs(space.genes(archs), ("macs", "params"))
        return np.log(costs["macs"]) + 0.5 * np.log(costs["params"])

    taus = [
        kendalltau(
            MlpEnsemble(space, unlabelled=n).fit(known, target(known)).predict(new).mean[:, 0], target(new)
        ).statistic
        for n in (0, 1000)
    ]
    assert taus[1] > taus[0] + 0.1


@pytest.mark.parametrize(("unlabelled", "members"), [(-1, 5), (0, 1)])
def test_settings_of_the_mlp(unlabelled: int, members: int) -> None:
    with pytest.raises(ValueError, match="allowed: integers >= 0 and >= 2"):
        MlpEnsemble(DIGITS, unlabelled=unlabelled, members=members)


def test_the_warp_is_monotone_and_comes_back() -> None:
    y = np.concatenate([np.random.default_rng(0).normal(90, 2, size=50), [10.0, 9.0]])
    warp = Warp.of(y)
    warped = warp.forward(np.sort(y))
    assert (np.diff(warped) > 0).all()
    assert (warped.mean(), warped.std()) == (pytest.approx(0), pytest.approx(1))
    back, std = warp.back(warped, np.full(len(y), 0.1))
    np.testing.assert_allclose(back, np.sort(y))
    assert std[0] > 3 * std[25] > 0  # far from the median everything is coarser


@pytest.mark.parametrize("space", [DIGITS, BENCH], ids=["digits-tiny", "nas-bench-201"])
def test_a_predictor_comes_back_from_its_file(space: Space, tmp_path: Path) -> None:
    archs, new = space.sample(30, 0), space.sample(20, 1)
    model = auto(space).fit(archs, made_up(space, archs))
    save(model, tmp_path / "model.npz")
    again = load(tmp_path / "model.npz")
    np.testing.assert_array_equal(again.predict(new).mean, model.predict(new).mean)
    np.testing.assert_array_equal(again.predict(new).std, model.predict(new).std)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with pytest.raises(RuntimeError, match="not fitted"):
        save(Ridge(DIGITS), path)
    path.write_bytes(b"no archive")
    with pytest.raises(FileFault, match=r"model\.npz: is no predictor"):
        load(path)
    save(Ridge(Bare()).fit(Bare().sample(9, 0), np.arange(9.0)), path)
    with pytest.raises(FileFault, match="bare has no document; give it as `space`"):
        load(path)
    with pytest.raises(FileFault, match="of another space, bare, not digits-tiny"):
        load(path, DIGITS)
    assert isinstance(load(path, Bare()), Ridge)
    save(Ridge(DIGITS, lambda g: g[:, :1] * 1.0).fit(DIGITS.sample(9, 0), np.arange(9.0)), path)
    with pytest.raises(FileFault, match="was fitted with scores"):
        load(path)


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    payload = np.empty(1, dtype=object)
    payload[0] = Bare()
    np.savez(path, genes=payload, targets=payload, about=np.array("{}"))
    with pytest.raises(FileFault, match="is no predictor"):
        load(path)
