"""Latency keeps the contract of predictors, finds operators' rates, and carries over from device to device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from predictor_contract import BENCH, DIGITS, PredictorContract, made_up, same
from scipy.stats import kendalltau

from benchmarks import latency as benchmark
from benchmarks.tables import ofa_latency
from predictors import Latency, Predictor, Ridge, Transfer
from predictors.files import load, save
from predictors.latency import fit_table
from predictors.transfer import Map
from search_spaces import load_space
from search_spaces.declared import DeclaredSpace
from search_spaces.space import Space
from search_spaces.workload import NAMES, workload

OFA = load_space("ofa-mobilenetv3")


class TestLatency(PredictorContract):
    def make(self, space: Space) -> Predictor:
        return Latency(space)


class TestTransfer(PredictorContract):
    def make(self, space: Space) -> Predictor:
        archs = space.sample(40, 7)
        return Transfer(space, Ridge(space).fit(archs, 3 * made_up(space, archs) + 5))


def device(archs: list, seed: int = 0) -> np.ndarray:
    """Milliseconds on a device where every kind of operator has rates of its own, and nothing else counts."""
    assert isinstance(OFA, DeclaredSpace)
    work = workload(OFA, OFA.genes(archs))
    usual = workload(OFA, OFA.genes(OFA.sample(20, 99))).mean(axis=0)
    rates = np.random.default_rng(seed).uniform(0, 1, len(NAMES)) / np.maximum(usual, 1)
    return 2.0 + work @ (rates * ["roofline" not in n and "floor" not in n for n in NAMES])


def off(model: Predictor, archs: list, truth: np.ndarray) -> float:
    """Mean absolute percentage error."""
    return float(np.abs(model.predict(archs).mean[:, 0] / truth - 1).mean())


def test_an_additive_device_is_recovered_up_to_its_noise() -> None:
    known, new = OFA.sample(120, 0), OFA.sample(300, 1)
    exact = Latency(OFA).fit(known, device(known))
    assert off(exact, new, device(new)) < 1e-3
    noise = np.random.default_rng(0).normal(scale=0.02, size=120)
    noisy = Latency(OFA).fit(known, device(known) * (1 + noise))
    assert off(noisy, new, device(new)) < 0.01
    assert off(noisy, new, device(new)) < 0.5 * off(Ridge(OFA).fit(known, device(known)), new, device(new)) + 0.005


def test_rates_are_not_negative_and_unseen_work_takes_no_time() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(40, 6))
    x[:, 5] = 0
    groups = np.array([0, 5, 5, 5, 5, 5])
    table = fit_table(x, groups, 3 * x[:, 1] - 2 * x[:, 2] + 0.5 * x[:, 3])
    assert (table.rates >= 0).all()
    assert table.rates[[1, 4]].tolist() == [0.0, 0.0]
    assert table.rates[0] > table.rates[2] > 0


def test_the_unit_of_latency_does_not_matter() -> None:
    known, new = OFA.sample(30, 0), OFA.sample(50, 1)
    noisy = device(known) * (1 + np.random.default_rng(0).normal(scale=0.05, size=30))
    learnt = OFA.sample(60, 2)
    source = Latency(OFA).fit(learnt, device(learnt, seed=1))
    for model in (Latency(OFA), Transfer(OFA, source)):
        ms, ns = (model.fit(known, noisy * unit).predict(new) for unit in (1.0, 1e6))
        np.testing.assert_allclose(ns.mean / 1e6, ms.mean, rtol=0.02)


def test_of_an_identical_device_the_source_is_believed() -> None:
    learnt, known, new = OFA.sample(60, 0), OFA.sample(5, 1), OFA.sample(300, 2)
    noise = np.random.default_rng(3).normal(scale=0.05, size=60)
    source = Latency(OFA).fit(learnt, device(learnt) * (1 + noise))
    for few in (2, 5):
        model = Transfer(OFA, source).fit(known[:few], device(known[:few]))
        assert off(model, new, device(new)) < 1.25 * off(source, new, device(new)) + 0.01


@pytest.mark.parametrize("few", [5, 20])
def test_from_an_alike_device_few_networks_suffice(few: int) -> None:
    learnt, known, new = OFA.sample(100, 0), OFA.sample(few, 1), OFA.sample(300, 2)
    target = 0.3 * device(new) + 4
    source = Latency(OFA).fit(learnt, device(learnt))
    moved = Transfer(OFA, source).fit(known, 0.3 * device(known) + 4)
    assert off(moved, new, target) < 0.01
    assert off(moved, new, target) < off(Latency(OFA).fit(known, 0.3 * device(known) + 4), new, target) + 1e-3


def test_a_device_that_disagrees_is_not_believed() -> None:
    learnt, known, new = OFA.sample(100, 0), OFA.sample(20, 1), OFA.sample(300, 2)
    source = Latency(OFA).fit(learnt, 50 - device(learnt))  # what is slow here is fast there
    model = Transfer(OFA, source).fit(known, device(known))
    own = Latency(OFA).fit(known, device(known))
    assert kendalltau(model.predict(new).mean[:, 0], device(new)).statistic > 0.8
    assert off(model, new, device(new)) < 1.5 * off(own, new, device(new)) + 0.01


def test_of_several_sources_the_one_that_agrees_is_mapped() -> None:
    rng = np.random.default_rng(0)
    sources = rng.uniform(1, 9, size=(12, 3))
    found = Map.best(sources, 0.5 * sources[:, 1] + 3 + rng.normal(scale=0.01, size=12))
    assert found.source == 1
    assert (found.slope, found.offset) == (pytest.approx(0.5, abs=0.01), pytest.approx(3, abs=0.05))
    assert Map.best(sources, sources[:, 2] + rng.normal(scale=0.1, size=12)).slope == pytest.approx(1, abs=0.03)
    assert Map.best(sources, -sources[:, 0]).slope == 0 or Map.best(sources, -sources[:, 0]).source != 0


def test_a_left_out_network_is_expected_as_by_a_map_without_it() -> None:
    rng = np.random.default_rng(1)
    s = rng.uniform(1, 9, size=9)
    y = 2 * s + 5 + rng.normal(size=9)
    found = Map.best(s[:, None], y)
    slope, offset = np.polyfit(s[1:], y[1:], 1)
    assert found.unseen[0] == pytest.approx(offset + slope * s[0])


def test_sources_that_cannot_be_used_are_named() -> None:
    with pytest.raises(ValueError, match="knows other choices than digits-tiny"):
        Transfer(DIGITS, Latency(BENCH).fit(BENCH.sample(5, 0), np.arange(5.0)))
    with pytest.raises(RuntimeError, match="Latency was not fitted"):
        Transfer(DIGITS, Latency(DIGITS)).fit(DIGITS.sample(5, 0), np.arange(5.0))


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    archs, new = DIGITS.sample(15, 0), DIGITS.sample(10, 1)
    model = Latency(DIGITS).fit(archs, made_up(DIGITS, archs))
    save(model, tmp_path / "model.npz")
    same(load(tmp_path / "model.npz").predict(new), model.predict(new))


def test_measured_latencies_are_ranked_better_than_from_genes(shared_data: Path) -> None:
    table = ofa_latency()
    tau = {row.model: row.tau for row in benchmark.alone(table, "titan_xp_64", 20, 1)}
    assert tau["latency"] > max(tau["ridge"], tau["gradient boosting"], tau["gaussian process"])
    moved = {r.model: r for r in benchmark.transferred(table, "titan_rtx_1", "v100_1", (10,), 1)}
    assert moved["transfer"].tau > moved["latency, from scratch"].tau
    ((what, rows),) = benchmark.agreement(list(moved.values()))
    assert what == "agree"
    assert "transfer" in "\n".join(benchmark.report(rows, "title"))


def test_the_benchmark_says_where_there_are_no_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(benchmark, "DATA", tmp_path / "none")
    monkeypatch.setattr("sys.argv", ["latency", "--only", "alone"])
    benchmark.main()
    assert capsys.readouterr().out.startswith("skipped: the tables are not at")
