"""The torch networks of the staged family are those whose costs the formulas tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from search_spaces import Architecture, load_space
from search_spaces.layers import LayerTable
from search_spaces.modules.staged import ACTIVATIONS, DepthwiseBlock, StagedNetwork
from search_spaces.staged import ACTIVATIONS as DECLARED_ACTIVATIONS
from search_spaces.staged import StagedSpace

pytestmark = pytest.mark.law


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some(values: list[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


WIDTHS = [1, 3, 8, 12, 20]
KERNELS = [1, 3, 5, 7]
STRIDES = [1, 2, 3]
STAGES = st.fixed_dictionaries(
    {
        "block": some(["conv", "depthwise_separable", "inverted_residual"]),
        "depth": some([0, 1, 2]),
        "width": some(WIDTHS),
        "kernel": some(KERNELS),
        "expansion": some([1, 1.5, 4]),
        "squeeze_excite": some([False, True]),
        "activation": some(list(DECLARED_ACTIVATIONS)),
        "stride": some(STRIDES),
    }
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "family": st.just("staged"),
        "input": st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13)),
        "classes": st.integers(2, 11),
        "architecture": st.fixed_dictionaries(
            {
                "stem": st.fixed_dictionaries(
                    {"width": some(WIDTHS), "kernel": some(KERNELS), "stride": some(STRIDES)}
                ),
                "stages": st.lists(STAGES, min_size=1, max_size=3),
                "head": st.fixed_dictionaries({"width": some([0, 8, 17])}),
            }
        ),
        "quantization": st.fixed_dictionaries(
            {
                "per": st.sampled_from(["stage", "layer"]),
                "weight_bits": some([2, 4, 8, 32]),
                "activation_bits": some([8, 32]),
            }
        ),
    }
)


def staged(document: dict[str, Any] | str) -> StagedSpace:
    space = load_space(document)
    assert isinstance(space, StagedSpace)
    return space


@st.composite
def networks(draw: st.DrawFn) -> tuple[StagedSpace, Architecture]:
    """A staged space and any of its architectures, canonical or not."""
    space = staged(draw(DOCUMENTS))
    genes = [draw(st.integers(0, len(c.values) - 1)) for c in space.choices]
    return space, space.architectures(np.array([genes], dtype=np.int64).reshape(1, len(genes)))[0]


def counted_params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def counted_macs(model: nn.Module, shape: tuple[int, ...]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    return counter.get_total_flops() / 2


def row(space: StagedSpace, arch: Architecture) -> LayerTable:
    return space.layers(space.genes([arch]))


@given(networks())
def test_predicted_cost_is_built_cost(drawn: tuple[StagedSpace, Architecture]) -> None:
    space, arch = drawn
    model = space.build(arch)
    cost = space.cost(arch)
    assert cost["params"] == counted_params(model)
    assert cost["macs"] == counted_macs(model, space.document.input)


@pytest.mark.parametrize("seed", range(3))
def test_predicted_cost_is_built_cost_on_the_preset(seed: int) -> None:
    space = staged("digits-tiny")
    for arch in space.sample(10, seed):
        model = space.build(arch)
        assert space.cost(arch)["params"] == counted_params(model)
        assert space.cost(arch)["macs"] == counted_macs(model, (1, 8, 8))


@given(networks())
def test_equal_keys_build_equal_networks(drawn: tuple[StagedSpace, Architecture]) -> None:
    space, arch = drawn
    twin = space.canonical(arch)
    assert twin.key == arch.key
    x = torch.randn(2, *space.document.input, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        one = space.build(arch).eval()
        torch.manual_seed(3)
        other = space.build(twin).eval()
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(one(x), other(x))


@given(networks())
def test_every_network_learns_from_a_batch(drawn: tuple[StagedSpace, Architecture]) -> None:
    space, arch = drawn
    model = space.build(arch).train()
    logits = model(torch.randn(2, *space.document.input))
    assert logits.shape == (2, space.document.classes)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@given(networks())
def test_the_table_names_exactly_the_weighted_modules(drawn: tuple[StagedSpace, Architecture]) -> None:
    space, arch = drawn
    model, layers = space.build(arch), row(space, arch)
    weighted = {
        name: (module.weight.numel(), module.weight.shape[0])
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    table = zip(layers.names, layers.weights[0].tolist(), layers.outputs[0].tolist(), strict=True)
    assert weighted == {name: (weights, outputs) for name, weights, outputs in table if weights}
    assert list(space.policy(arch)) == list(weighted)


def test_a_stage_of_depth_zero_is_absent_and_the_next_keeps_its_name() -> None:
    space = staged("digits-tiny")
    shallow = next(a for a in space.sample(50, 0) if a["stages.0.depth"] == 0)
    names = dict(space.build(shallow).named_modules())
    assert "stages.1.0" in names
    assert not any(name.startswith("stages.0") for name in names)


def test_the_activations_that_documents_know_are_there() -> None:
    assert set(ACTIVATIONS) == set(DECLARED_ACTIVATIONS)


def block(**changes: Any) -> DepthwiseBlock:
    settings = {
        "hidden": 16,
        "kernel": 3,
        "stride": 1,
        "activation": "relu",
        "squeeze_excite": False,
        "linear": True,
    }
    return DepthwiseBlock(8, **{"width": 8, **settings, **changes}).eval()


def test_a_shortcut_where_shape_stays_and_only_there() -> None:
    x = torch.randn(2, 8, 6, 6)
    for changes, kept in [
        ({}, True),
        ({"stride": 2}, False),
        ({"width": 4}, False),
        ({"linear": False}, False),
    ]:
        silent = block(**changes)
        nn.init.zeros_(silent.project.weight)
        assert torch.equal(silent(x), x) is kept


def test_a_block_of_two_convolutions_computed_by_hand() -> None:
    separable = block(hidden=None, linear=False, stride=2)
    x = torch.randn(3, 8, 7, 5)
    weight, pointwise = separable.depthwise.weight, separable.project.weight[:, :, 0, 0]
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    patches = padded.unfold(2, 3, 2).unfold(3, 3, 2)  # (batch, channels, height, width, 3, 3)
    y = torch.einsum("bchwij,cij->bchw", patches, weight[:, 0])
    scale = 1 / (1 + 1e-5) ** 0.5  # batch norm before any training
    y = torch.einsum("bchw,oc->bohw", (y * scale).relu(), pointwise)
    torch.testing.assert_close(separable(x), (y * scale).relu())


def test_squeeze_and_excitation_gates_whole_channels() -> None:
    gated, plain = block(squeeze_excite=True, linear=False), block(linear=False)
    plain.load_state_dict(gated.state_dict(), strict=False)
    for bias, gate in [(-3.0, 0.0), (3.0, 1.0)]:  # the ends of the hard sigmoid
        nn.init.zeros_(gated.excite.weight)
        nn.init.constant_(gated.excite.bias, bias)
        x = torch.randn(2, 8, 4, 4)
        torch.testing.assert_close(gated(x), plain(x) * gate)


def test_signals_keep_their_scale_at_the_start() -> None:
    space = staged({**DOCUMENT, "architecture": {**DOCUMENT["architecture"]}})
    torch.manual_seed(0)
    model = StagedNetwork(space, space.sample(1, 0)[0])
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2 / module.groups
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.15)


DOCUMENT: dict[str, Any] = {
    "family": "staged",
    "input": [3, 16, 16],
    "classes": 10,
    "architecture": {
        "stem": {"width": 64},
        "stages": [{"block": "inverted_residual", "depth": 2, "width": 96, "kernel": 5, "squeeze_excite": True}],
    },
}
