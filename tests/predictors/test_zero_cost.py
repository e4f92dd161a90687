"""Every score against its definition, calculated another way; then what becomes of networks that are no use."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.tables import nas_bench_201
from nas.evaluators import datasets
from nas.evaluators.cost import CostConfig
from nas.evaluators.training import TrainingConfig
from predictors.zero_cost import Proxy, ZeroCost, consensus
from predictors.zero_cost import proxies as scored
from predictors.zero_cost.proxies import Probe
from predictors.zero_cost.store import FileStore
from search_spaces import Architecture, BuildError, Choice, load_space
from search_spaces.space import Space

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 1, 8, 8)), RNG.integers(0, 10, 6)
DIGITS = load_space("digits-tiny")


def probe(*layers: nn.Module, n: int = 5, inputs: int = 4, classes: int = 3) -> Probe:
    """Of a chain, and n examples."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, inputs, generator=generator)

    def build() -> nn.Module:
        for layer in layers:
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
        return nn.Sequential(*layers)

    return Probe(build, x, torch.arange(n) % classes, seed=0)


def softmax_gradient(weight: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Of the mean cross entropy of a linear layer without bias."""
    error = torch.softmax(x @ weight.T, dim=1) - torch.nn.functional.one_hot(y, len(weight))
    return error.T @ x / len(x)


def test_synflow_of_a_chain_is_the_product_of_its_weights_once_for_each_layer() -> None:
    one, two = nn.Linear(4, 6, bias=False), nn.Linear(6, 3, bias=False)
    found = scored.synflow(probe(one, nn.BatchNorm1d(6), nn.ReLU(), nn.Tanh(), two))
    product = two.weight.detach().abs() @ one.weight.detach().abs()
    assert found == pytest.approx(math.log(2 * float(product.sum())))


def test_synflow_of_a_very_deep_network_is_finite() -> None:
    layers = [nn.Linear(64, 64, bias=False) for _ in range(150)]
    assert 150 < scored.synflow(probe(*layers, inputs=64, classes=64)) < 709  # a single float ends at 88


def test_snip_and_grad_norm_of_a_linear_classifier() -> None:
    p = probe(nn.Linear(4, 3, bias=False))
    assert p.y is not None
    weight = p.model[0].weight.detach()  # type: ignore[index]
    gradient = softmax_gradient(weight, p.x, p.y)
    assert scored.snip(p) == pytest.approx(float((gradient * weight).abs().sum()), rel=1e-5)
    assert scored.grad_norm(p) == pytest.approx(float(gradient.norm()), rel=1e-5)


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.GELU(), nn.Hardswish()])
def test_naswot_is_the_determinant_of_agreeing_patterns(activation: nn.Module) -> None:
    one, two = nn.Linear(4, 16), nn.Linear(16, 8)
    p = probe(one, activation, two, activation, nn.Linear(8, 3))
    hidden = p.model[0](p.x)  # type: ignore[index]
    after = p.model[2](activation(hidden.clone()))  # type: ignore[index]
    kernel = np.zeros((5, 5))
    for z in (hidden, after):
        on = (z > 0).numpy()
        kernel += (on[:, None] == on[None]).sum(axis=2)
    assert scored.naswot(p) == pytest.approx(float(np.linalg.slogdet(kernel)[1]), rel=1e-9)


def test_naswot_of_twin_examples_is_minus_infinity() -> None:
    p = probe(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    p.x[1] = p.x[0]
    assert scored.naswot(p) == -math.inf


def test_jacobian_as_by_brute_force() -> None:
    p = probe(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))
    rows = [torch.autograd.functional.jacobian(p.model, x[None])[0, :, 0].sum(dim=0) for x in p.x]
    values = np.linalg.eigvals(np.corrcoef(torch.stack(rows).double().numpy())).real.clip(0) + 1e-5
    assert scored.jacobian(p) == pytest.approx(-float(np.sum(np.log(values) + 1 / values)), rel=2e-3)


def test_zen_of_a_linear_layer_is_what_gaussians_give() -> None:
    """The mean of |w . e| of two normal vectors of length d is about sqrt(2 d / pi)."""
    plain = scored.zen(probe(nn.Linear(400, 900), nn.Linear(900, 3), inputs=400))
    assert plain == pytest.approx(math.log(0.01 * 900 * math.sqrt(2 / math.pi * 400)), abs=0.02)
    normed = probe(nn.Linear(400, 900), nn.BatchNorm1d(900), nn.Linear(900, 3), inputs=400)
    assert scored.zen(normed) == pytest.approx(plain, abs=0.1), "what the norm divides by is put back"


def test_zen_looks_at_maps_before_they_are_pooled() -> None:
    to_map, conv, pool = nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 50, 1), nn.AdaptiveAvgPool2d(1)
    found = scored.zen(probe(to_map, conv, pool, nn.Flatten(), nn.Linear(50, 3), inputs=64))
    assert found == pytest.approx(math.log(0.01 * 50 * 64 * 2 / math.pi), abs=0.3)


@pytest.mark.parametrize("name", ["digits-tiny", "fashion-cell", "fashion-small"])
def test_counts_of_modules_are_those_of_formulas(name: str) -> None:
    space = load_space(name)
    for arch in space.sample(2, 0):
        p = Probe(lambda a=arch: space.build(a), torch.randn(2, *space.document.input), None, 0)  # type: ignore[attr-defined,misc]
        cost = space.cost(arch)
        assert (scored.params(p), scored.macs(p)) == (cost["params"], cost["macs"])


TEXT = {
    "family": "transformer",
    "input": {"vocabulary": 30, "length": 6},
    "classes": 3,
    "architecture": {"stages": [{"depth": [1, 2], "width": 12, "heads": [2, 3], "mlp": [16, 24]}]},
}
IMAGES = {
    "family": "transformer",
    "input": [1, 8, 8],
    "classes": 10,
    "architecture": {
        "stem": {"patch": 4},
        "stages": [{"depth": [1, 2], "width": 12, "heads": 2, "mlp": 24}],
        "head": {"pool": ["class_token", "mean"]},
    },
}
MLP = {
    "family": "mlp",
    "input": [1, 8, 8],
    "classes": 10,
    "architecture": {"latent": 32, "stages": [{"depth": [1, 3], "hidden": [8, 64]}], "norm": ["none", "layer"]},
}


@pytest.mark.parametrize("document", ["digits-tiny", TEXT, IMAGES, MLP])
def test_networks_of_every_family_have_every_score(document: str | dict) -> None:
    space = load_space(document)
    text = document is TEXT
    x, y = (RNG.integers(0, 30, (6, 6)), Y % 3) if text else (X, Y)
    score, genes = ZeroCost(space, x, y), space.genes(space.sample(3, 0))
    found = score(genes)
    assert (found.shape, score.failures) == ((3, len(Proxy)), {})
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(ZeroCost(space, x, y)(genes[::-1]), found[::-1])
    if not text:  # what does not look at pixels sees nothing of them
        seeds = ZeroCost(space, x, y, seed=1)(genes)
        assert (seeds[:, :2] == found[:, :2]).all()
        assert (seeds[:, 2:] != found[:, 2:]).all()


class Odd(Space):
    """Networks as they come: good, dead, wrong, and such as cannot be built."""

    name = "odd"
    choices = (Choice("kind", ("good", "dead", "deaf", "giant", "wrong", "none", "plain")),)

    def __init__(self) -> None:
        self.built: list[str] = []

    def build(self, arch: Architecture) -> nn.Module:
        kind = arch["kind"]
        self.built.append(str(kind))
        if kind == "none":
            raise BuildError("no such network")
        middle = {"dead": Times(0.0), "deaf": Times(0.0), "giant": Times(1e30)}.get(str(kind), nn.ReLU())
        last = nn.Linear(9 if kind == "wrong" else 40, 3)
        if kind == "plain":
            return nn.Sequential(nn.Linear(4, 40), nn.Linear(40, 3))
        return nn.Sequential(
            nn.Linear(4, 40), nn.ReLU(), *[middle] * (3 if kind == "giant" else 1), nn.ReLU(), last
        )


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


FLAT, CLASSES = RNG.normal(size=(6, 4)), np.arange(6) % 3


def test_one_bad_network_spoils_nothing_but_itself() -> None:
    space = Odd()
    score = ZeroCost(space, FLAT, CLASSES)
    kinds = space.choices[0].values
    found = dict(zip(kinds, score(np.arange(len(kinds))[:, None]), strict=True))
    assert np.isfinite(found["good"]).all()
    for dead in ("dead", "deaf"):
        assert np.isfinite(found[dead][:2]).all()
        assert np.isneginf(found[dead][2:]).all()
    assert np.isnan(found["none"]).all()
    assert np.isnan(found["wrong"]).all()
    assert np.isnan(found["giant"]).any()
    assert not np.isposinf(found["giant"]).any()
    assert np.isnan(found["plain"][score.names.index(Proxy.NASWOT)])
    assert np.isfinite(np.delete(found["plain"], score.names.index(Proxy.NASWOT))).all()
    reasons = sorted(score.failures.values())
    assert any("no such network" in r for r in reasons)
    assert any("naswot: ValueError: the network has no activations" in r for r in reasons)
    assert len(reasons) == 4


def test_a_network_is_built_for_the_first_question_only() -> None:
    space, told = Odd(), []
    score = ZeroCost(
        space, FLAT, None, ["naswot", "jacobian"], progress=lambda done, all_: told.append((done, all_))
    )
    genes = np.array([[0], [1], [0]])
    first = score(genes)
    assert (space.built, told) == (["good", "dead"], [(1, 2), (2, 2)])
    np.testing.assert_array_equal(score(genes), first)
    assert len(space.built) == 2
    assert score(np.zeros((0, 1), dtype=np.int64)).shape == (0, 2)


def test_formulas_need_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(DIGITS), "build", None)
    genes = DIGITS.genes(DIGITS.sample(4, 0))
    np.testing.assert_array_equal(ZeroCost(DIGITS, X, None, ["macs"])(genes)[:, 0], DIGITS.costs(genes)["macs"])


def test_recipes_and_bits_are_no_other_network(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [c.name for c in DIGITS.choices]
    kept = np.array([not n.startswith(("recipe.", "quantization.")) for n in names])
    genes = DIGITS.genes(DIGITS.sample(30, 0))
    genes = DIGITS.canonical_genes(np.where(kept, genes[:1], genes))
    assert len(np.unique(genes, axis=0)) > 5
    built, build = [], type(DIGITS).build
    monkeypatch.setattr(type(DIGITS), "build", lambda self, arch: built.append(arch.key) or build(self, arch))
    found = ZeroCost(DIGITS, X, None, ["naswot"])(genes)
    assert (len(built), len(np.unique(found))) == (1, 1)


def test_a_file_keeps_scores_and_knows_what_they_depend_on(tmp_path: Path) -> None:
    space, path = Odd(), tmp_path / "scores.sqlite"
    genes = np.array([[0], [1], [5]])

    def ask(names: list[str], seed: int = 0, inputs: np.ndarray = FLAT) -> np.ndarray:
        space.built.clear()
        return ZeroCost(space, inputs, CLASSES, names, seed, cache=path)(genes)

    found = ask(["naswot", "snip"])
    assert np.isneginf(found[1]).all()
    np.testing.assert_array_equal(ask(["snip", "naswot"])[:, ::-1], found)
    assert space.built == ["none"], "failures are tried again"
    ask(["snip", "zen"])
    assert set(space.built) == {"good", "dead", "none"}
    for other in ({"seed": 1}, {"inputs": FLAT + 1}):
        assert (ask(["snip"], **other)[0] != found[0, 1]).all()  # type: ignore[arg-type]
        assert "good" in space.built


def test_several_may_write_one_file(tmp_path: Path) -> None:
    path, start = tmp_path / "scores.sqlite", threading.Barrier(4)

    def work(worker: int) -> None:
        start.wait()
        store = FileStore(path)
        for i in range(50):
            store.write({f"{worker}-{i}".encode(): float(i)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    keys = [f"{w}-{i}".encode() for w in range(4) for i in range(50)]
    assert len(FileStore(path).read(keys)) == 200
    (tmp_path / "text").write_text("no database at all, but a text of some length")
    with pytest.raises(ValueError, match=r"text'.*allowed: a file of scores"):
        FileStore(tmp_path / "text")


def test_scoring_leaves_the_process_as_it_was() -> None:
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    ZeroCost(Odd(), FLAT, CLASSES)(np.array([[0], [4]]))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_importing_loads_no_torch() -> None:
    code = "import sys, predictors.zero_cost; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ZeroCost(DIGITS, X, Y, ["nasvot"]),
            r"'nasvot' is no score; allowed: params, .*did you mean .naswot",
        ),
        (lambda: ZeroCost(DIGITS, X, Y, []), "no names of scores; allowed: params"),
        (lambda: ZeroCost(DIGITS, X, Y, ["zen", "zen"]), "'zen' stands twice"),
        (lambda: ZeroCost(DIGITS, X, None, ["snip"]), r"'snip' needs labels; allowed without: params"),
        (lambda: ZeroCost(DIGITS, X[:1]), r"of shape \[1, 1, 8, 8\]; allowed: .* n at least 2"),
        (lambda: ZeroCost(DIGITS, X[:, :, 1:]), r"reads examples of shape \[1, 8, 8\]"),
        (lambda: ZeroCost(DIGITS, X * 0), "6 times the same example"),
        (lambda: ZeroCost(DIGITS, X * np.nan), "not finite"),
        (
            lambda: ZeroCost(DIGITS, X, Y[:2]),
            r"labels are int64 of shape \(2,\); allowed: integers of shape \(6,\)",
        ),
        (lambda: ZeroCost(DIGITS, X, Y + 10), "allowed: 0 to 9"),
        (lambda: ZeroCost(load_space(TEXT), np.arange(60).reshape(10, 6)), "word numbers from 0 to 29"),
        (lambda: ZeroCost(DIGITS, X, cache="/no/such/folder/x"), "cache '/no/such/folder/x': .*allowed"),
    ],
)
def test_what_does_not_fit_is_named(make: Callable[[], ZeroCost], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_consensus_ranks_networks() -> None:
    scores = np.array([[1.0, 10], [2, 30], [3, np.nan], [np.nan, 20], [-np.inf, -np.inf]])
    expected = [[1 / 6, 1 / 6], [3 / 6, 5 / 6], [5 / 6, 1 / 2], [1 / 2, 3 / 6], [0, 0]]
    np.testing.assert_allclose(consensus(scores), np.mean(expected, axis=1))


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "zero-cost.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(compile(page.split("```python\n")[1].split("```")[0], "docs/zero-cost.md", "exec"), {})


def test_the_training_evaluator_scores_by_its_data() -> None:
    scores = TrainingConfig(dataset="digits", train_limit=20).scores(DIGITS, [Proxy.NASWOT, Proxy.SNIP], seed=3)
    genes = DIGITS.genes(DIGITS.sample(2, 0))
    batch = datasets.load("digits").train[:20]
    by_hand = ZeroCost(DIGITS, batch.x, batch.y, ["naswot", "snip"], seed=3)
    np.testing.assert_array_equal(scores(genes), by_hand(genes))
    assert CostConfig().scores(DIGITS, [Proxy.NASWOT], 0) is None


def test_scores_tell_good_networks_of_a_public_benchmark(shared_data: Path) -> None:
    """Smaller networks on smaller images, so that it takes seconds: even these know the order of the trained."""
    table = nas_bench_201()
    document = table.space.document.model_dump(mode="json")  # type: ignore[attr-defined]
    document["architecture"]["cells"] = 2
    small = load_space({**document, "input": [3, 16, 16]})
    images = datasets.load(str(shared_data / "fashion-mnist")).train[:16].x
    halved = images.reshape(16, 1, 14, 2, 14, 2).mean(axis=(3, 5))
    x = np.pad(halved, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge").repeat(3, axis=1)
    rows = np.random.default_rng(0).choice(len(table.genes), 40, replace=False)
    score = ZeroCost(small, x, None, ["naswot", "synflow", "zen"])
    naswot, synflow, zen = score(table.genes[rows]).T
    assert table.scores is not None
    accuracy, (published_zen, published_naswot) = table.targets["accuracy"][rows], table.scores[rows].T
    alive = np.isfinite(published_naswot) & np.isfinite(published_zen)
    assert (np.isfinite(naswot) == alive).all()
    for ours, other, least in (
        (naswot, accuracy, 0.5),
        (synflow, accuracy, 0.4),
        (naswot, published_naswot, 0.8),
        (zen, published_zen, 0.5),  # it sums over a depth that these do not have
    ):
        assert spearmanr(ours[alive], other[alive]).statistic > least
