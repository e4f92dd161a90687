"""Quantization-aware training: it ends with the integers it trained with, and beats rounding afterwards."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.evaluators import datasets
from nas.evaluators.fitting import fit, measure
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.qat import finetuned
from nas.evaluators.quantize import Grid, Quantized, quantized
from nas.evaluators.training import TrainingConfig
from nas.trial import Proposal
from search_spaces import Recipe, load_space
from search_spaces.quantization import Bits
from search_spaces.staged import StagedSpace

RECIPE = Recipe(qat_learning_rate=0.01, batch_size=32, schedule="constant", weight_decay=0.0)
QUANTIZATION = {"weight_bits": [2, 8, 32], "activation_bits": [8, 32]}


def space(quantization: Mapping[str, Any] = QUANTIZATION, **recipe: Any) -> StagedSpace:
    """Depthwise networks that train in a second."""
    stage = {"block": "inverted_residual", "depth": 1, "width": 16, "stride": 2}
    found = load_space(
        {
            "family": "staged",
            "input": [1, 8, 8],
            "classes": 10,
            "architecture": {"stem": {"width": 8}, "stages": [stage]},
            "quantization": {"per": "network", **quantization},
            "recipe": {"learning_rate": 0.02, "batch_size": 32, **recipe},
        }
    )
    assert isinstance(found, StagedSpace)
    return found


def silent(step: int, metrics: Mapping[str, float]) -> None:
    pass


def again(network: Quantized, x: Tensor, y: Tensor, recipe: Recipe = RECIPE, epochs: int = 1) -> Quantized:
    return finetuned(network, x, y, recipe, epochs, np.random.default_rng(0), silent)


def examples(n: int = 64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(n, 6, generator=random)
    return x, (x[:, 0] > 0).long()


TWO = Bits(2, 8)


def small(bits: Bits = TWO) -> Quantized:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    return quantized(model, {"0": bits, "2": Bits(32, 32)}, [examples()[0]])


@pytest.mark.parametrize("bits", [Bits(2, 8), Bits(2, 4)])
def test_it_is_far_better_than_rounding_afterwards(bits: Bits) -> None:
    splits = datasets.load("digits")
    x, y, inputs, labels = map(
        torch.from_numpy, (splits.train.x, splits.train.y, splits.validation.x, splits.validation.y)
    )
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Flatten(), nn.Linear(64, 24), nn.ReLU()), *(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 10))
    )
    recipe = Recipe(learning_rate=0.01, batch_size=32, qat_learning_rate=0.005)
    fit(model, x, y, recipe, 4, np.random.default_rng(0), silent)
    rounded = quantized(model, dict.fromkeys(("1", "3", "5"), bits), x[:256].split(32))
    learnt = again(rounded, x, y, recipe, epochs=2)
    before, after = (measure(n.simulated(), inputs, labels)[0] for n in (rounded, learnt))
    assert after > max(before + 0.1, 0.8)


def test_its_last_loss_is_that_of_the_network_that_it_gives() -> None:
    """One step of no size: what was trained with is what is simulated."""
    x, y = examples()
    network, seen = small(), []
    still = replace(RECIPE, qat_learning_rate=1e-30, batch_size=len(x))
    found = finetuned(network, x, y, still, 2, np.random.default_rng(0), lambda i, m: seen.append((i, m["loss"])))
    expected = measure(found.simulated(), x, y)[1]
    assert seen == [(1, pytest.approx(expected)), (2, pytest.approx(expected))]


def test_the_grids_and_the_policy_stay_and_weights_are_floats_again() -> None:
    network = small()
    found = again(network, *examples())
    assert (found.grids, found.policy) == (network.grids, network.policy)
    assert isinstance(found.grids["0"], Grid)
    assert not found.model.training
    assert found.model[0].weight.unique().numel() > 10  # type: ignore[index]
    assert not found.model[0]._forward_pre_hooks  # type: ignore[index]
    simulated = found.simulated()[0]  # type: ignore[index]
    assert all(len(row.unique()) <= 3 for row in simulated.weight)
    copy.deepcopy(found)


def test_every_weight_learns_also_those_that_are_rounded_to_0_and_those_in_floating_point() -> None:
    network = small()
    before = copy.deepcopy(network.model.state_dict())
    found = again(network, *examples())
    for name, value in found.model.named_parameters():
        assert (value != before[name]).float().mean() > 0.5, name
    for name, value in network.model.state_dict().items():  # the network that was given is as it was
        assert torch.equal(value, before[name])


def test_a_table_learns_by_its_columns() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)).eval()
    x = torch.randint(9, (60, 3))
    network = quantized(model, {"0": Bits(2, 8), "2": Bits(4, 8)}, [x])
    y = (x[:, 0] > 4).long()
    found = again(network, x, y, replace(RECIPE, qat_learning_rate=0.05, batch_size=10), epochs=8)
    assert measure(found.simulated(), x, y)[1] < measure(network.simulated(), x, y)[1] - 0.3
    assert all(len(column.unique()) <= 3 for column in found.simulated()[0].weight.T)  # type: ignore[index]


def test_statistics_of_norms_that_are_left_stay_frozen() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    x, y = examples()
    found = again(quantized(model, {"0": Bits(4, 8), "2": Bits(4, 8)}, [x]), x, y)
    assert torch.equal(found.model[1].running_mean, model[1].running_mean)  # type: ignore[index]
    assert not torch.equal(found.model[1].weight, model[1].weight)  # type: ignore[index]


def test_nothing_is_done_where_nothing_is_quantized_or_no_epochs_are_given() -> None:
    x, y = examples()
    network, floats = small(), small(Bits(32, 32))
    assert again(network, x, y, epochs=0) is network
    assert again(floats, x, y, epochs=3) is floats


def test_divergence_is_infeasible_and_says_where() -> None:
    x, y = examples()
    wild = replace(RECIPE, optimizer="sgd", qat_learning_rate=1e30)
    with pytest.raises(Infeasible, match=r"^quantization-aware training diverged: loss is (nan|inf) in epoch \d$"):
        again(small(Bits(2, 32)), x, y, wild, epochs=5)


def measured(of: StagedSpace, seed: int = 0, **values: Any) -> tuple[dict[str, float], list[int]]:
    """Metrics of a training on a few examples, and the steps that it reports."""
    steps: list[int] = []
    chosen = {c.name: values.get(c.name.rpartition(".")[2], c.values[0]) for c in of.choices}
    proposal = Proposal(of.canonical(of.architecture(chosen)), values.get("fidelity"))
    evaluator = TrainingConfig(epochs=4, device="cpu", train_limit=120).bind(of, seed)
    found = dict(evaluator.evaluate(proposal, lambda step, metrics: steps.append(step)))
    assert found.pop("train_seconds") > 0
    assert all(math.isfinite(v) for v in found.values())
    return found, steps


def test_the_evaluator_trains_on_after_the_float_epochs_the_same_way_each_time() -> None:
    of = space(qat_epochs=[0, 2], qat_learning_rate=0.01)
    plain, learnt = measured(of, qat_epochs=0), measured(of, qat_epochs=2)
    assert plain[1] == [1, 2, 3, 4]
    assert learnt[1] == [1, 2, 3, 4, 5, 6]
    assert learnt[0]["loss"] < plain[0]["loss"]
    torch.manual_seed(9)
    assert measured(of, qat_epochs=2) == learnt
    assert measured(of, 1, qat_epochs=2)[0] != learnt[0]


@pytest.mark.parametrize(("fidelity", "steps"), [(0.5, 3), (0.25, 2), (0.01, 2)])
def test_fidelity_shortens_both_trainings_alike(fidelity: float, steps: int) -> None:
    assert measured(space(qat_epochs=2), fidelity=fidelity)[1] == list(range(1, steps + 1))


def test_genes_have_an_effect_where_something_is_quantized_and_trained() -> None:
    of = space(qat_epochs=[0, 2], qat_learning_rate=[1e-3, 1e-2])
    found = {a.key: dict(a) for a in of.sample(500, 0)}
    recipes = {
        (a["quantization.weight_bits"], a.get("recipe.qat_epochs"), a.get("recipe.qat_learning_rate"))
        for a in found.values()
    }
    assert recipes == {
        (32, 0, None),
        *((b, e, r) for b in (2, 8) for e, r in ((0, None), (2, 1e-3), (2, 1e-2))),
    }
    assert len(found) == 1 + 2 * 2 * 3
    assert of.recipe(of.sample(1, 0)[0]).qat_learning_rate in (1e-3, 1e-2)


def test_a_part_that_is_not_there_is_not_quantized() -> None:
    of = load_space(
        {
            **space().document.model_dump(mode="json", exclude_none=True),
            "architecture": {
                "stem": {"width": 8},
                "stages": [{"block": "conv", "depth": [0, 1], "width": 8}],
            },
            "quantization": {"per": "stage", "weight_bits": [4, 32]},
            "recipe": {"qat_epochs": [0, 1]},
        }
    )
    floats = {c.name: 32 for c in of.choices if c.name.endswith("weight_bits")}
    values = {**floats, "stages.0.depth": 0, "quantization.stages.0.weight_bits": 4, "recipe.qat_epochs": 1}
    absent, there = (of.canonical(of.architecture({**values, "stages.0.depth": depth})) for depth in (0, 1))
    assert absent["recipe.qat_epochs"] == 0
    assert there["recipe.qat_epochs"] == 1


def test_the_learning_rate_goes_by_the_optimizer() -> None:
    of = space(optimizer="sgd", sgd_factor=10, qat_epochs=1, qat_learning_rate=0.002)
    assert of.recipe(of.sample(1, 0)[0]).qat_learning_rate == pytest.approx(0.02)
