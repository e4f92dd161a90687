"""The staged family: the laws of every family, and its blocks computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from family_contract import FamilyContract, declared
from space_documents import DOCUMENTS
from torch import nn

from search_spaces import Architecture, SpecError, load_space
from search_spaces.modules.functions import ACTIVATIONS
from search_spaces.staged_document import ACTIVATIONS as DECLARED_ACTIVATIONS


@pytest.mark.law
class TestStagedFamily(FamilyContract):
    documents = DOCUMENTS

    def says_all(self, one: Architecture, other: Architecture) -> bool:
        """Expansions may round to one width, group widths to one divisor; the head may have no layers."""
        changed = {name for name in {*one, *other} if one[name] != other[name]}
        return not any(n.endswith(("expansion", "group_width", "head.activation")) for n in changed)


def document(stage: dict[str, Any], **architecture: Any) -> dict[str, Any]:
    """A network of one stage on a stem that keeps 8 channels."""
    return {
        "family": "staged",
        "input": [8, 6, 6],
        "classes": 5,
        "architecture": {"stem": {"width": 8}, "stages": [{"depth": 1, "width": 8, **stage}], **architecture},
    }


def built(stage: dict[str, Any], **architecture: Any) -> nn.Module:
    space = declared(document(stage, **architecture))
    return space.build(space.sample(1, 0)[0]).eval()


def after(model: nn.Module, module: str, x: torch.Tensor) -> torch.Tensor:
    """The input of a module while the model sees x."""
    seen: list[torch.Tensor] = []
    handle = model.get_submodule(module).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0]


def identity_stem(model: nn.Module) -> None:
    """The stem passes what is not negative on as it is."""
    nn.init.dirac_(model.get_submodule("stem.conv").weight)


X = torch.rand(2, 8, 6, 6)
SCALE = 1 / (1 + 1e-5) ** 0.5  # batch norm before any training


def test_a_stage_of_depth_zero_is_absent_and_the_next_keeps_its_name() -> None:
    space = declared("digits-tiny")
    shallow = next(a for a in space.sample(50, 0) if a["stages.0.depth"] == 0)
    names = dict(space.build(shallow).named_modules())
    assert "stages.1.0" in names
    assert not any(name.startswith("stages.0") for name in names)


def test_the_activations_that_documents_know_are_there() -> None:
    assert set(DECLARED_ACTIVATIONS) <= set(ACTIVATIONS)


@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        ({"block": "inverted_residual"}, True),
        ({"block": "inverted_residual", "stride": 2}, False),
        ({"block": "inverted_residual", "width": 4}, False),
        ({"block": "inverted_residual", "residual": False}, False),
        ({"block": "depthwise_separable"}, False),
        ({"block": "depthwise_separable", "residual": True}, True),
        ({"block": "conv"}, False),
        ({"block": "conv", "residual": True}, True),
    ],
)
def test_a_shortcut_where_shape_stays_and_the_block_has_one(stage: dict[str, Any], kept: bool) -> None:
    model = built(stage)
    identity_stem(model)
    last = "conv" if stage["block"] == "conv" else "project"
    nn.init.zeros_(model.get_submodule(f"stages.0.0.{last}").weight)
    pooled = after(model, "classifier", X)
    assert torch.allclose(pooled, X.mean(dim=(2, 3)) * SCALE if kept else torch.zeros_like(pooled), atol=1e-4)


def test_a_depthwise_separable_block_computed_by_hand() -> None:
    model = built({"block": "depthwise_separable", "stride": 2})
    identity_stem(model)
    block = model.get_submodule("stages.0.0")
    x = X * SCALE
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    patches = padded.unfold(2, 3, 2).unfold(3, 3, 2)  # (batch, channels, height, width, 3, 3)
    y = torch.einsum("bchwij,cij->bchw", patches, block.depthwise.weight[:, 0])
    y = torch.einsum("bchw,oc->bohw", (y * SCALE).relu(), block.project.weight[:, :, 0, 0])
    expected = (y * SCALE).relu().mean(dim=(2, 3))
    torch.testing.assert_close(after(model, "classifier", X), expected, atol=1e-4, rtol=1e-4)


def test_squeeze_and_excitation_gates_whole_channels() -> None:
    model = built({"block": "depthwise_separable", "squeeze_excite": True})
    block = model.get_submodule("stages.0.0")
    nn.init.zeros_(block.excite.weight)
    nn.init.constant_(block.excite.bias, -3.0)  # the lower end of the hard sigmoid
    assert not after(model, "stages.0.0.project", X).any()
    nn.init.constant_(block.excite.bias, 3.0)
    open_gate = after(model, "stages.0.0.project", X)
    torch.testing.assert_close(open_gate, after(model, "stages.0.0.depthwise_norm", X).mul(SCALE).relu())


def test_parallel_blocks_read_the_first_and_add_up() -> None:
    serial, parallel = (
        built({"block": "inverted_residual", "depth": 3, "topology": topology}, excite={"ratio": 0.5})
        for topology in ("serial", "parallel")
    )
    parallel.load_state_dict(serial.state_dict())
    first = after(serial, "stages.0.1.expand", X)
    for position in (1, 2):
        torch.testing.assert_close(after(parallel, f"stages.0.{position}.expand", X), first)

    def branch(position: int) -> torch.Tensor:
        b = parallel.get_submodule(f"stages.0.{position}")
        y = b.depthwise_norm(b.depthwise(b.expand_norm(b.expand(first)).relu())).relu()
        return b.project_norm(b.project(y))

    expected = (first + branch(1) + branch(2)).mean(dim=(2, 3))
    torch.testing.assert_close(after(parallel, "classifier", X), expected)


@pytest.mark.parametrize(("depth", "same"), [(2, True), (3, False)])
def test_a_parallel_resnet_stage_is_its_serial_one_where_only_one_block_follows(depth: int, same: bool) -> None:
    serial, parallel = (
        built({"block": "basic", "depth": depth, "topology": topology}) for topology in ("serial", "parallel")
    )
    parallel.load_state_dict(serial.state_dict())
    assert torch.equal(serial(X), parallel(X)) is same


def test_the_second_convolution_of_a_stem_has_a_shortcut_around_it() -> None:
    model = built({"block": "conv"}, stem={"width": 8, "convolutions": 3, "inner": 4, "residual": True})
    first = after(model, "stem.conv2", X)
    assert first.shape[1] == 4
    assert after(model, "stem.conv3", X).shape == first.shape
    nn.init.zeros_(model.get_submodule("stem.conv2").weight)
    torch.testing.assert_close(after(model, "stem.conv3", X), first)
    plain = built({"block": "conv"}, stem={"width": 8, "convolutions": 3, "inner": 4})
    nn.init.zeros_(plain.get_submodule("stem.conv2").weight)
    assert not after(plain, "stem.conv3", X).any()


def test_the_inner_width_of_a_stem_matters_where_several_convolutions_are() -> None:
    stem = {"width": 8, "convolutions": [1, 2, 3], "inner": [4, 8, 12], "residual": True}
    space = declared(document({"block": "conv"}, stem=stem))
    archs = space.sample(60, 0)
    single = space.architecture({"stem.convolutions": 1})
    assert {a.key for a in archs if a["stem.convolutions"] == 1} == {single.key}
    assert len({a.key for a in archs}) == 1 + 2 * 3
    for arch in archs:
        params = sum(p.numel() for p in space.build(arch).parameters())
        assert space.cost(arch)["params"] == params
    assert declared(document({"block": "conv"}, stem={**stem, "convolutions": 1})).choices == ()


def test_the_stem_of_once_for_all_has_its_widths_and_its_skipped_convolution() -> None:
    space = declared("ofa-resnet50")
    stem = {c.name: c.values for c in space.choices if c.name.startswith("stem.")}
    assert stem == {"stem.width": (40, 48, 64), "stem.convolutions": (2, 3), "stem.inner": (24, 32)}
    largest = {c.name: c.values[-1] for c in space.choices}
    costs = [space.cost(space.architecture({**largest, "stem.convolutions": n})) for n in (2, 3)]
    params, macs = (costs[1][m] - costs[0][m] for m in ("params", "macs"))
    assert (params, macs) == (9 * 32 * 32 + 2 * 32, 9 * 32 * 32 * 112 * 112)
    with torch.device("meta"):
        model = space.build(space.architecture({**largest, "stem.inner": 24, "stem.width": 40}))
    assert [model.get_submodule(f"stem.{n}").out_channels for n in ("conv", "conv2", "conv3")] == [24, 24, 40]


def test_signals_keep_their_scale_at_the_start() -> None:
    torch.manual_seed(0)
    model = built({"block": "inverted_residual", "depth": 2, "width": 96, "kernel": 5, "squeeze_excite": True})
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2 / module.groups
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.15)


def test_a_width_multiplier_scales_and_rounds_all_but_a_small_head() -> None:
    stage = {"block": "conv", "width": 40}
    space = declared(document(stage, width_multiplier=[0.5, 1.0, 1.5], head={"width": 64}))
    for arch in space.sample(20, 0):
        m = arch["width_multiplier"]
        model = space.build(arch)
        assert model.get_submodule("stages.0.0.conv").out_channels == {0.5: 24, 1.0: 40, 1.5: 64}[m]
        assert model.get_submodule("head.conv").out_channels == {0.5: 64, 1.0: 64, 1.5: 96}[m]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": [{"block": "conv", "depth": -1, "width": 8}]}, "stages.0.depth: -1 is not allowed"),
        ({"stages": [{"block": "conv", "depth": 1, "width": 8, "kernel": [3, 4]}]}, "stages.0.kernel: 4 is not"),
        (
            {"stages": [{"block": "conv", "depth": 1, "width": 8, "kernel": [2, 3, 4, 99]}]},
            "stages.0.kernel: 2, 4, 99 are not allowed; allowed: odd integers >= 1 and <= 31",
        ),
        ({"stages": [{"block": ["convs", "basic", "x"], "depth": 1, "width": 8}]}, "'convs', 'x' are not allowed"),
        ({"stages": [{"block": "convs", "depth": 1, "width": 8}]}, 'did you mean "conv"'),
        ({"stages": [{"block": "conv", "depth": 300, "width": 8}]}, "allowed: integers >= 0 and <= 128"),
        ({"head": {"width": 8, "expansion": 6}}, "head: has both width and expansion"),
        ({"resolution": [0, 8]}, "resolution: 0 is not allowed"),
        (
            {
                "stages": [
                    {"block": "inverted_residual", "depth": 1, "width": 8, "kernel": 7, "first": {"padding": 0}}
                ]
            },
            "stages.0.first.padding",
        ),
    ],
)
def test_faults_are_told_by_path_value_and_what_is_allowed(change: dict[str, Any], words: str) -> None:
    whole = document({"block": "conv"})
    whole["architecture"].update(change)
    with pytest.raises(SpecError) as caught:
        load_space(whole)
    assert words in str(caught.value)


def test_an_architecture_outside_of_the_space_is_refused_by_name() -> None:
    space = load_space(document({"block": "conv", "kernel": [3, 5]}))
    with pytest.raises(SpecError, match=r"stages\.0\.kernel: 7 is not allowed; allowed: 3, 5"):
        space.architecture({"stages.0.kernel": 7})
