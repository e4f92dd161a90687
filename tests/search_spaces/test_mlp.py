"""The `mlp` family: its laws, its two shapes, what is fixed and random, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from family_contract import FamilyContract, counted_params, declared
from mlp_documents import MLPS
from sklearn.datasets import load_digits
from torch import nn

from nas.evaluators.fitting import fit, measure
from predictors.threads import one_torch_thread
from search_spaces import Architecture, SpecError, load_space
from search_spaces.declared import DeclaredSpace


@pytest.mark.law
class TestMlp(FamilyContract):
    documents = MLPS


def document(**architecture: Any) -> dict[str, Any]:
    section = {"latent": 24, "stages": [{"hidden": 8, "depth": 3, "per": "block"}], **architecture}
    return {"family": "mlp", "input": [1, 8, 8], "classes": 10, "architecture": section}


def only(space: DeclaredSpace) -> Architecture:
    (arch,) = space.sample(1, 0)
    return arch


def linears(model: nn.Module) -> dict[str, tuple[int, int]]:
    return {n: (m.in_features, m.out_features) for n, m in model.named_modules() if isinstance(m, nn.Linear)}


def test_a_list_of_hidden_widths_makes_a_network() -> None:
    space = declared(document(stages=[{"hidden": 8}, {"hidden": 40}]))
    assert linears(space.build(only(space))) == {
        "projection": (64, 24),
        "stages.0.0.fc1": (24, 8),
        "stages.0.0.fc2": (8, 24),
        "stages.1.0.fc1": (24, 40),
        "stages.1.0.fc2": (40, 24),
        "classifier": (24, 10),
    }


def test_costs_by_hand() -> None:
    space = declared(document(projection="random", norm="layer"))
    blocks = 3 * (2 * 24 * 8 + 8 + 24 + 2 * 24)
    cost = space.cost(only(space))
    assert cost["params"] == blocks + 24 * 10 + 10
    assert cost["macs"] == 64 * 24 + 3 * 2 * 24 * 8 + 24 * 10
    assert cost["model_size_bytes"] == 4 * (64 * 24 + cost["params"])


def test_the_random_projection_is_stored_and_never_trained() -> None:
    space = declared(document(projection=["learned", "random"]))
    learned, fixed = (space.architecture({"projection": kind}) for kind in ("learned", "random"))
    assert space.cost(learned)["params"] - space.cost(fixed)["params"] == 64 * 24 + 24
    assert space.cost(learned)["model_size_bytes"] - space.cost(fixed)["model_size_bytes"] == 4 * 24
    assert space.cost(learned)["macs"] == space.cost(fixed)["macs"]
    model = space.build(fixed)
    assert counted_params(model) == space.cost(fixed)["params"]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    x, y = torch.randn(32, 1, 8, 8), torch.arange(32) % 10
    fit(model, x, y, space.recipe(fixed), 1, np.random.default_rng(0), lambda step, metrics: None)
    assert {name for name, p in model.named_parameters() if torch.equal(p, before[name])} == {"projection.weight"}


def test_a_random_projection_keeps_the_size_of_what_it_reads() -> None:
    space = declared({**document(projection="random", latent=2048), "input": [1, 28, 28]})
    torch.manual_seed(0)
    x = torch.randn(4, 784)
    lengths = space.build(only(space)).get_submodule("projection")(x).norm(dim=1) / 2048**0.5
    torch.testing.assert_close(lengths, x.norm(dim=1) / 784**0.5, rtol=0.1, atol=0)


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("topology", ["serial", "parallel"])
def test_blocks_add_to_the_latent_vector(topology: str, norm: str) -> None:
    stages = [{"hidden": 8, "depth": 3, "topology": topology}]
    space = declared(document(stages=stages, norm=norm, activation="relu"))
    model = space.build(only(space)).eval()
    x = torch.randn(5, 1, 8, 8)

    def branch(i: int, z: torch.Tensor) -> torch.Tensor:
        part = model.get_submodule(f"stages.0.{i}")
        y = part.get_submodule("norm")(z) if norm == "layer" else z
        return part.get_submodule("fc2")(part.get_submodule("fc1")(y).relu())

    with torch.no_grad():
        first = z = model.get_submodule("projection")(x.flatten(1))
        for i in range(3):
            z = z + branch(i, first if topology == "parallel" else z)
        torch.testing.assert_close(model(x), model.get_submodule("classifier")(z))


def test_genes_have_an_effect_only_where_there_are_blocks() -> None:
    stages = [{"hidden": [4, 8], "depth": [1, 2], "per": "block", "topology": ["serial", "parallel"]}]
    space = declared(document(stages=stages))
    assert dict(space.architecture({"stages.0.depth": 1, "stages.0.0.hidden": 8})) == {
        "stages.0.depth": 1,
        "stages.0.0.hidden": 8,
    }
    keys = {a.key for a in space.sample(400, 0)}
    assert len(keys) == 2 + 2 * 2 * 2


@pytest.mark.parametrize("per", ["network", "stage", "layer", "module"])
def test_a_policy_for_every_part(per: str) -> None:
    section = {"per": per, "weight_bits": [2, 4, 8, 16, 32, "ternary"]}
    space = declared({**document(), "quantization": section})
    choices = [c.name.removesuffix(".weight_bits").removeprefix("quantization") for c in space.choices]
    blocks = [f".stages.0.{i}" for i in range(3)]
    expected = {
        "network": [""],
        "stage": [".projection", ".stages.0", ".classifier"],
        "layer": [".projection", *blocks, ".classifier"],
        "module": [".projection", *(f"{b}.{fc}" for b in blocks for fc in ("fc1", "fc2")), ".classifier"],
    }
    assert choices == expected[per]


def test_dropout_and_stochastic_depth_are_in_the_network() -> None:
    space = declared({**document(), "recipe": {"dropout": 0.2, "stochastic_depth": 0.4}})
    model = space.build(only(space))
    rates = {n: m.rate for n, m in model.named_modules() if n.endswith("drop_path")}
    assert rates == {"stages.0.1.drop_path": pytest.approx(0.2), "stages.0.2.drop_path": pytest.approx(0.4)}
    dropout = model.get_submodule("dropout")
    assert isinstance(dropout, nn.Dropout)
    assert dropout.p == 0.2
    x = torch.randn(64, 1, 8, 8)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_what_is_wrong_is_told_at_once() -> None:
    wrong = document(latent=0, projection="frozen", stages=[{"hidden": 8, "depth": -1}])
    with pytest.raises(SpecError) as told:
        load_space({**wrong, "input": [3, 4096, 4096]})
    assert [(f.path, f.message) for f in told.value.faults] == [
        ("input", "[3, 4096, 4096] has 50331648 entries in all; allowed: at most 16777216"),
        ("architecture.latent", "0 is not allowed; allowed: integers >= 1 and <= 65536"),
        ("architecture.projection", "'frozen' is not allowed; allowed: learned, random"),
        ("architecture.stages.0.depth", "-1 is not allowed; allowed: integers >= 1 and <= 128"),
    ]
    with pytest.raises(SpecError, match="up to 384 blocks in all; allowed: at most 256"):
        load_space(document(stages=[{"hidden": 8, "depth": 128}] * 3))


def test_the_preset_holds_both_shapes() -> None:
    space = declared("hourglass-mlp")
    genes = space.genes(space.sample(200, 0))
    assert np.isfinite(list(space.costs(genes).values())).all()
    pairs = {"stages.0.depth": 2, "recipe.learning_rate": 5e-4}
    conventional = {"latent": 784, "stages.0.0.hidden": 1150, "stages.0.1.hidden": 1150}
    hourglass = {"latent": 1150, "stages.0.0.hidden": 784, "stages.0.1.hidden": 784}
    wide, narrow = (space.cost(space.architecture({**pairs, **v})) for v in (conventional, hourglass))
    weights = 2 * 2 * 784 * 1150
    assert wide["params"] == weights + 2 * (1150 + 784) + 784 * 10 + 10
    assert narrow["params"] == weights + 2 * (784 + 1150) + 1150 * 10 + 10


@pytest.mark.parametrize(("latent", "hidden"), [(64, 16), (32, 96)])
def test_it_learns_digits(latent: int, hidden: int) -> None:
    digits = load_digits()
    x = torch.from_numpy(digits.images[:, None] / 8 - 1).float()
    y = torch.from_numpy(digits.target)
    space = declared(
        {
            **document(latent=latent, projection="random", norm="layer", stages=[{"hidden": hidden, "depth": 3}]),
            "recipe": {"learning_rate": 0.005, "stochastic_depth": 0.1, "ema_decay": 0.98},
        }
    )
    arch = only(space)
    with one_torch_thread(), torch.random.fork_rng():
        torch.manual_seed(0)
        model = space.build(arch)
        fit(
            model, x[:1400], y[:1400], space.recipe(arch), 15, np.random.default_rng(0), lambda step, metrics: None
        )
        assert measure(model, x[1400:], y[1400:])[0] > 0.9
