"""The `transformer` family: its laws, the published networks, removable blocks, reductions, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from family_contract import FamilyContract, any_architecture, counted_macs, counted_params, declared, inputs
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from transformer_documents import TRANSFORMERS

from search_spaces import Architecture, SpecError, load_space
from search_spaces.declared import DeclaredSpace
from search_spaces.load import reference
from search_spaces.operators import mutate, sample

REFERENCES = {
    ("deit-tiny-16", 224): (5_717_416, 1_253_683_200),
    ("deit-small-16", 224): (22_050_664, 4_598_882_304),
    ("vit-base-16", 224): (86_567_656, 17_563_828_224),
    ("vit-res-tiny", 224): (42_012_736, 1_794_378_240),
    ("vit-resnas-tiny", 224): (40_793_552, 1_782_630_272),
    ("vit-resnas-small", 224): (63_724_108, 2_845_501_856),
    ("vit-resnas-medium", 224): (96_442_672, 4_513_135_936),
    ("vit-resnas-medium", 336): (96_588_272, 10_739_099_456),
    ("vit-resnas-medium", 392): (96_682_912, 15_200_890_816),
}
BERT_PARAMS = 109_482_240
BERT_LAYER_MACS = 11_173_625_856
PRESETS = ("deit", "vit-resnas-tiny", "vit-resnas-small", "bert-base-sst2")


@pytest.mark.law
class TestTransformer(FamilyContract):
    documents = TRANSFORMERS

    def says_all(self, one: Architecture, other: Architecture) -> bool:
        """Where blocks share their genes it is the same whichever of them is left out."""
        return not any(name.endswith(".kept") for name in {*one, *other} if one[name] != other[name])

    @given(data=st.data())
    def test_canonical_is_idempotent_and_mutation_leaves_it(self, data: st.DataObject) -> None:
        space = declared(data.draw(TRANSFORMERS))
        arch = any_architecture(data, space)
        once = space.canonical(arch)
        assert space.canonical(once) == once
        if space.choices:
            genes = space.genes([once])
            changed = mutate(space, genes, np.random.default_rng(0))
            assert np.array_equal(space.canonical_genes(changed), changed)
            assert not np.array_equal(changed, genes)


def only(space: DeclaredSpace) -> Architecture:
    (arch,) = space.sample(1, 0)
    return arch


def on_meta(space: DeclaredSpace, arch: Architecture) -> tuple[int, float]:
    """Params and MACs of the built network, whose weights take no memory."""
    with torch.device("meta"):
        model = space.build(arch)
        return counted_params(model), counted_macs(model, inputs(space, 1, "meta"))


@pytest.mark.parametrize(("name", "resolution"), REFERENCES)
def test_a_published_network_is_rebuilt_to_the_last_parameter(name: str, resolution: int) -> None:
    space = declared({**reference(name), "input": [3, resolution, resolution]})
    arch, figures = only(space), REFERENCES[name, resolution]
    assert space.size == 1
    assert (space.cost(arch)["params"], space.cost(arch)["macs"]) == figures
    assert on_meta(space, arch) == figures


def test_bert_base_is_rebuilt_to_the_last_parameter() -> None:
    space = declared(reference("bert-base-uncased"))
    arch, figures = (
        only(space),
        (BERT_PARAMS, BERT_LAYER_MACS + 768 * 768),
    )  # the published MACs leave out the pooler
    assert (space.cost(arch)["params"], space.cost(arch)["macs"]) == figures
    assert on_meta(space, arch) == figures


@pytest.mark.parametrize("name", PRESETS)
def test_the_networks_of_a_preset_cost_what_they_are_predicted_to(name: str) -> None:
    space = declared(name)
    for arch in space.sample(3, 0):
        assert on_meta(space, arch) == (space.cost(arch)["params"], space.cost(arch)["macs"])


def test_the_space_of_deit_holds_the_three_of_the_paper() -> None:
    space = declared("deit")
    for name, heads in [("deit-tiny-16", 3), ("deit-small-16", 6), ("vit-base-16", 12)]:
        blocks = {f"stages.0.{i}.{k}": v for i in range(12) for k, v in {"heads": heads, "mlp_ratio": 4.0}.items()}
        arch = space.architecture({"stages.0.width": 64 * heads, "stages.0.depth": 12, **blocks})
        assert space.cost(arch)["params"] == REFERENCES[name, 224][0]


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("vit-resnas-tiny", "vit-resnas-tiny"),
        ("vit-resnas-small", "vit-resnas-small"),
        ("vit-resnas-small", "vit-resnas-medium"),
    ],
)
def test_the_spaces_of_vit_resnas_hold_what_was_found_in_them(preset: str, name: str) -> None:
    space = declared(preset)
    values: dict[str, Any] = {}
    for s, stage in enumerate(reference(name)["architecture"]["stages"]):
        blocks, there = stage["blocks"], iter(range(7))
        left_out = declared(preset).document.architecture.stages[s].max_depth - len(blocks)  # type: ignore[attr-defined]
        removed = [1, 3, 5][:left_out]
        values[f"stages.{s}.width"] = stage["width"]
        values |= {f"stages.{s}.{p}.kept": p not in removed for p in (1, 3, 5)}
        for block in blocks:
            position = next(p for p in there if p not in removed)
            values |= {f"stages.{s}.{position}.{k}": v for k, v in block.items()}
    params, macs = REFERENCES[name, 224]
    cost = space.cost(space.architecture(values))
    assert (cost["params"], cost["macs"]) == (params, macs)


def test_bert_under_a_policy_has_a_choice_for_every_linear_layer() -> None:
    space = declared("bert-base-sst2")
    bits = [c for c in space.choices if c.name.endswith("weight_bits")]
    assert len(bits) == 1 + 12 * 6 + 1  # look-up table, six of each layer, head
    shallow = next(a for a in space.sample(200, 0) if a["stages.0.depth"] == 6)
    assert sum(name.endswith("weight_bits") for name in shallow) == 1 + 6 * 6 + 1


SMALL: dict[str, Any] = {"width": 12, "depth": 5, "heads": 2, "head_dim": 4, "mlp": 16}


def document(*stages: dict[str, Any], **architecture: Any) -> dict[str, Any]:
    section = {"stem": {"patch": 2}, "stages": list(stages) or [SMALL], **architecture}
    return {"family": "transformer", "input": [1, 8, 8], "classes": 10, "architecture": section}


TEXT: dict[str, Any] = {
    **document(SMALL, norm="post", head={"pooler": True}),
    "input": {"vocabulary": 50, "length": 6, "positions": 9, "segments": 2},
}
del TEXT["architecture"]["stem"]


def test_a_removed_block_takes_the_removable_ones_behind_it_along() -> None:
    space = declared(document({**SMALL, "removable": [1, 2, 4], "per": "block", "heads": [1, 2]}))
    heads_of_one = {f"stages.0.{p}.heads": 1 for p in range(5)}
    expected = {
        (True, True, True): {0, 1, 2, 3, 4},
        (True, False, True): {0, 1, 3, 4},
        (False, True, False): {0, 3},
        (False, True, True): {0, 3, 4},
        (True, True, False): {0, 1, 2, 3},
    }
    for values, positions in expected.items():
        chosen = dict(zip(("stages.0.1.kept", "stages.0.2.kept", "stages.0.4.kept"), values, strict=True))
        arch = space.canonical(space.architecture({**heads_of_one, **chosen}))
        names = {name for name, _ in space.build(arch).get_submodule("stages.0").named_children()}
        assert names == {str(p) for p in positions}
        assert {name.split(".")[2] for name in arch if name.endswith("heads")} == names


def test_equal_networks_of_removed_blocks_have_equal_keys() -> None:
    space = declared(document({**SMALL, "removable": [1, 2, 4], "per": "block", "heads": [1, 2]}))
    everything = np.indices(space.sizes).reshape(len(space.choices), -1).T
    keys = {a.key for a in space.canonical_architectures(space.canonical_genes(everything))}
    patterns = [
        (1 + second + (second and third), fifth) for second in (0, 1) for third in (0, 1) for fifth in (0, 1)
    ]
    assert len(keys) == sum(2 ** (1 + first + fifth) for first, fifth in set(patterns))  # block 3 is always there


def test_a_single_block_is_neither_serial_nor_parallel() -> None:
    space = declared(document({**SMALL, "depth": 2, "removable": [1], "topology": ["parallel", "serial"]}))
    alone, both = (space.canonical_genes(np.array([[k, 0], [k, 1]])) for k in (0, 1))
    assert np.array_equal(alone[0], alone[1])
    assert not np.array_equal(both[0], both[1])


def test_parallel_blocks_each_add_to_what_the_stage_reads() -> None:
    for norm in ("pre", "post"):
        stage = {**SMALL, "depth": 3, "topology": "parallel"}
        space = declared(document(stage, norm=norm, head={"classifier": False, "pool": "mean"}))
        model = space.build(only(space)).eval()
        ends: dict[str, torch.Tensor] = {}
        last = "mlp.down" if norm == "pre" else "mlp_norm"
        for p in range(3):
            reads = "query" if norm == "post" else "attention_norm"
            watch(model, f"stages.0.{p}.{reads}", ends, inner=True)
            watch(model, f"stages.0.{p}.{last}", ends)
            watch(model, f"stages.0.{p}.output", ends)
        with torch.no_grad():
            y = model(inputs(space, 2))
        x = ends["stages.0.0.attention_norm" if norm == "pre" else "stages.0.0.query"]
        assert all(torch.equal(x, ends[f"stages.0.{p}.{reads}"]) for p in range(3))
        if norm == "pre":
            added = sum(ends[f"stages.0.{p}.{part}"] for p in range(3) for part in (last, "output"))
            expected = model.get_submodule("head.norm")(x + added).mean(1)
        else:
            expected = (x + sum(ends[f"stages.0.{p}.{last}"] - x for p in range(3))).mean(1)
        torch.testing.assert_close(y, expected)


def watch(model: nn.Module, name: str, found: dict[str, torch.Tensor], inner: bool = False) -> None:
    """Keep what a layer gives, or what it reads."""

    def keep(_: nn.Module, given: tuple[torch.Tensor, ...], result: torch.Tensor) -> None:
        found[name] = given[0] if inner else result

    model.get_submodule(name).register_forward_hook(keep)


def test_a_reduction_passes_averaged_and_padded_tokens_on() -> None:
    wide = {**SMALL, "width": 20, "depth": 0}
    space = declared(document({**SMALL, "depth": 0}, wide, head={"classifier": False}))
    model = space.build(only(space)).eval()
    ends: dict[str, torch.Tensor] = {}
    watch(model, "stem.positions", ends)
    watch(model, "head.norm", ends, inner=True)
    for part in ("patches", "class_token", "positions"):
        for parameter in model.get_submodule(f"stages.1.reduction.{part}").parameters():
            nn.init.zeros_(parameter)
    with torch.no_grad():
        model(inputs(space, 2))
    before, after = ends["stem.positions"], ends["head.norm"]
    assert after.shape == (2, 1 + 2 * 2, 20)
    assert not after[:, :, 12:].any()
    torch.testing.assert_close(after[:, 0, :12], before[:, 0])
    corner = before[:, 1:].reshape(2, 4, 4, 12)[:, :2, :2].mean((1, 2))
    torch.testing.assert_close(after[:, 1, :12], corner)


def test_a_text_network_reads_word_numbers_in_their_order() -> None:
    space = declared(TEXT)
    model = space.build(only(space)).eval()
    words = torch.tensor([[7, 3, 49, 0, 3, 7], [7, 49, 3, 0, 3, 7]])
    with torch.no_grad():
        logits = model(words)
    assert logits.shape == (2, 10)
    assert not torch.allclose(logits[0], logits[1])
    assert model.get_submodule("stem.positions").weight.shape == (1, 9, 12)
    assert model.get_submodule("stem.segments").weight.shape == (2, 12)


def test_dropped_paths_and_dropout_follow_the_recipe() -> None:
    space = declared({**document(), "recipe": {"stochastic_depth": 0.4, "dropout": 0.2}})
    model = space.build(only(space))
    rates = [model.get_submodule(f"stages.0.{p}.mlp_drop_path").rate for p in range(1, 5)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert model.get_submodule("dropout").p == 0.2


@pytest.mark.parametrize(
    ("changed", "faults"),
    [
        (document(stem={"patch": [2, 3]}), {"input": "multiples of 6"}),
        (document(SMALL, {**SMALL, "width": 16}, stem={"patch": 8}), {"input": "multiples of 16"}),
        (document(resolution=[8, 9, 15]), {"architecture.resolution": "9, 15 cannot be divided"}),
        (
            document(SMALL, {**SMALL, "width": [8, 16]}, stem={"patch": 3}),
            {"architecture.stages.1.width": "8 is less than the 12 before it", "input": "multiples of 6"},
        ),
        (
            document({**SMALL, "removable": [0]}),
            {"architecture.stages.0.removable.0": "greater than or equal to 1"},
        ),
        (
            document({**SMALL, "removable": [1, 5, 1]}),
            {"architecture.stages.0.removable.1": "5 is beyond", "architecture.stages.0.removable.2": "1 twice"},
        ),
        (document({**SMALL, "depth": -1}), {"architecture.stages.0.depth": "-1 is not allowed"}),
        (document({**SMALL, "heads": 0}), {"architecture.stages.0.heads": "0 is not allowed"}),
        (
            document({"width": 8, "depth": 2}),
            {"architecture.stages.0.heads": "is required", "architecture.stages.0.mlp": "is required"},
        ),
        (document({**SMALL, "blocks": [{"heads": 1}]}), {"architecture.stages.0.depth": "1 blocks are listed"}),
        (document({**SMALL, "mlp_ratio": 4}), {"architecture.stages.0": "has both mlp and mlp_ratio"}),
        (
            {**document(), "input": TEXT["input"]},
            {"architecture.stem": "unknown key; allowed: norm, stages, head"},
        ),
        ({**TEXT, "input": [3, 8, 8]}, {"architecture.stem": "is required"}),
        ({**TEXT, "input": {**TEXT["input"], "positions": 5}}, {"input.positions": "less than the length 6"}),
        (
            {**TEXT, "architecture": {"stages": [SMALL, {**SMALL, "width": 16}]}},
            {"architecture.stages.1.width": "text has none"},
        ),
    ],
)
def test_a_fault_is_told_with_its_path(changed: dict[str, Any], faults: dict[str, str]) -> None:
    with pytest.raises(SpecError) as caught:
        load_space(changed)
    told = {fault.path: fault.message for fault in caught.value.faults}
    assert set(told) == set(faults)
    assert all(words in told[path] for path, words in faults.items()), told


def test_an_architecture_outside_of_the_space_is_refused_by_name() -> None:
    space = declared(document({**SMALL, "heads": [1, 2]}))
    with pytest.raises(SpecError, match=r"stages\.0\.heads: 3 is not allowed; allowed: 1, 2"):
        space.architecture({"stages.0.heads": 3})


def test_a_network_of_two_stages_learns_digits() -> None:
    stage = {"depth": 2, "removable": [1], "head_dim": 8, "mlp_ratio": 2}
    stages = [{**stage, "width": 32, "heads": [2, 4]}, {**stage, "width": 64, "heads": [4, 8]}]
    space = declared(document(*stages, stem={"patch": 2, "convolutions": {"width": 12, "stride": 1}}))
    digits = load_digits()
    x = torch.tensor(digits.images[:, None] / 8 - 1, dtype=torch.float32)
    y = torch.tensor(digits.target)
    torch.manual_seed(0)
    model = space.build(space.architectures(sample(space, 1, np.random.default_rng(0)))[0]).train()
    epochs, batch, train = 8, 64, 1400
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * (train // batch))
    for _ in range(epochs):
        for rows in torch.randperm(train)[: train // batch * batch].split(batch):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        guessed = model.eval()(x[train:]).argmax(1)
    assert (guessed == y[train:]).float().mean() >= 0.85
