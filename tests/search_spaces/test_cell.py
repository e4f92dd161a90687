"""The `cell` family: its laws, the table of NAS-Bench-201, NASNet's networks, and the step from small to large."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from family_contract import FamilyContract, any_architecture, counted_macs, counted_params, declared, inputs
from hypothesis import given
from hypothesis import strategies as st
from space_documents import BLOCK_CELLS, CELLS
from torch import nn

from nas.evaluators import datasets
from nas.evaluators.fitting import fit, measure
from predictors.threads import one_torch_thread
from search_spaces import Architecture, SpecError, load_space
from search_spaces.architecture import Genes
from search_spaces.cell import CellSpace
from search_spaces.cell_blocks import BlockCellSpace
from search_spaces.cell_classes import representatives
from search_spaces.cell_edges import EdgeCellSpace
from search_spaces.costs import Counting
from search_spaces.declared import DeclaredSpace
from search_spaces.domains import Value
from search_spaces.load import load_reference
from search_spaces.modules.layers import Auxiliary, DropPath
from search_spaces.operations import Pool
from search_spaces.operators import mutate, sample
from search_spaces.outline import Outline
from search_spaces.space import Space
from search_spaces.variables import Values


@pytest.mark.law
class TestCells(FamilyContract):
    documents = CELLS
    rewires = True

    def says_all(self, one: Architecture, other: Architecture) -> bool:
        """Graphs may compute one function by other edges or blocks in another order; parts may be empty."""
        changed = {name for name in {*one, *other} if one[name] != other[name]}
        return not any(name.startswith(("edge", "normal", "reduction", "quantization")) for name in changed)

    @given(data=st.data())
    def test_blocks_as_written_are_their_canonical_form_rewired(self, data: st.DataObject) -> None:
        space = declared(data.draw(BLOCK_CELLS))
        arch = any_architecture(data, space)
        lines = [_written(space, a) for a in (arch, space.canonical(arch))]
        assert lines[0] == lines[1]


def _written(space: DeclaredSpace, arch: Architecture) -> list[tuple[object, ...]]:
    """The layers of genes as they are, whatever their names: what they are, and their sizes."""
    outline = Outline()
    space.write(outline, Values(space.genes([arch])))
    kinds = [(type(line.operation).__name__, line.weights, line.params, line.macs) for line in outline.lines]
    pools = [(repr(line.operation), 0, 0, 0) for line in outline.lines if isinstance(line.operation, Pool)]
    return sorted([*kinds, *pools])


def cell_space(document: dict[str, Any] | str) -> CellSpace:
    space = load_space(document)
    assert isinstance(space, CellSpace)
    return space


def blocks(*, size: int = 12, quantization: dict[str, Any] | None = None, **architecture: Any) -> dict[str, Any]:
    section = {"cell": "blocks", "width": 8, "cells": 1, "normal": {"blocks": 3, "combine": "add"}, **architecture}
    return {
        "family": "cell",
        "input": [1, size, size],
        "classes": 10,
        "architecture": section,
        "quantization": quantization or {},
    }


def rows(space: Space, frame: pd.DataFrame) -> Genes:
    """Genes of the table's rows."""
    columns = [frame[f"op_{c.name[-3]}{c.name[-1]}"].map(c.values.index) for c in space.choices]
    return np.stack(columns, axis=1).astype(np.int64)


def faults(document: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        load_space(document)
    return {f.path: f.message for f in caught.value.faults}


# NAS-Bench-201


@pytest.fixture(scope="module")
def bench(shared_data: Path) -> pd.DataFrame:
    return pd.read_parquet(shared_data / "nasbench201_cifar10.parquet")


def test_classes_are_those_of_nas_bench_201(bench: pd.DataFrame) -> None:
    space = load_space("nas-bench-201")
    canonical = space.canonical_genes(rows(space, bench))
    classes = pd.Series([g.tobytes() for g in canonical])
    assert classes.nunique() == bench["canonical"].nunique() == 6_466
    assert classes.groupby(bench["canonical"].to_numpy()).nunique().max() == 1
    assert np.array_equal(space.canonical_genes(canonical), canonical)


def test_costs_are_those_of_nas_bench_201(bench: pd.DataFrame) -> None:
    """Exactly, of all architectures without a dead operation.

    Beside multiply-accumulates the benchmark counts 3 an output of a convolution with its batch norm, and 9 an
    output of a 3 x 3 pooling; skeleton and cells have 28,672 outputs in each of five cells.
    """
    space = load_space("nas-bench-201")
    assert isinstance(space, EdgeCellSpace)
    genes, costs = rows(space, bench), space.costs(rows(space, bench), ["params", "macs"])
    names = np.array(space.choices[0].values)[genes]
    live = np.stack(space._live(Values(genes)), axis=1)
    whole = (live == (names != "none")).all(axis=1)
    assert whole.sum() == 9_445
    np.testing.assert_array_equal(costs["params"][whole], bench["cifar10_params"][whole])
    convolutions, pools = np.char.startswith(names, "nor_conv").sum(axis=1), (names == "avg_pool_3x3").sum(axis=1)
    operations = costs["macs"] + 5 * 28_672 * (3 * convolutions + 9 * pools) + 160_832
    np.testing.assert_allclose(bench["cifar10_mflops"][whole] * 1e6, operations[whole], rtol=0, atol=1e-3)


def test_dead_operations_of_larger_cells_become_none() -> None:
    document = {
        "family": "cell",
        "input": [3, 8, 8],
        "classes": 2,
        "architecture": {"nodes": 5, "operations": ["skip_connect", "nor_conv_3x3", "avg_pool_3x3", "none"]},
    }
    space = load_space(document)
    dead = {c.name: "none" for c in space.choices}
    one = space.architecture({**dead, "edge_0_4": "nor_conv_3x3"})
    two = space.architecture(
        {**dead, "edge_0_4": "nor_conv_3x3", "edge_0_2": "nor_conv_3x3", "edge_3_4": "skip_connect"}
    )
    assert one.key == two.key
    assert space.cost(one) == space.cost(two)
    assert one.key != space.architecture({**dead, "edge_0_4": "avg_pool_3x3"}).key


@given(
    st.integers(2, 4), st.lists(st.sampled_from(["none", "skip_connect", "nor_conv_1x1"]), min_size=1, unique=True)
)
def test_a_class_is_represented_by_a_member_with_most_nones(nodes: int, operations: list[str]) -> None:
    table = representatives(nodes, operations)
    edges = nodes * (nodes - 1) // 2
    every = np.stack(np.unravel_index(np.arange(len(operations) ** edges), (len(operations),) * edges), axis=1)
    number = np.ravel_multi_index(tuple(table.T), (len(operations),) * edges)
    assert table.shape == every.shape
    assert np.array_equal(table[number], table)  # it stands for itself
    if "none" in operations:
        none = operations.index("none")
        assert ((table == none).sum(axis=1) >= (every == none).sum(axis=1)).all()


def test_a_policy_for_every_convolution_keeps_twins_apart() -> None:
    """Where each edge has its bits, the same operation on another edge is another network."""
    document = {
        "family": "cell",
        "input": [3, 8, 8],
        "classes": 2,
        "architecture": {"nodes": 3, "operations": ["none", "skip_connect", "nor_conv_3x3"]},
    }
    twins = [
        {"edge_0_1": "skip_connect", "edge_0_2": "nor_conv_3x3", "edge_1_2": "skip_connect"},
        {"edge_0_1": "skip_connect", "edge_0_2": "skip_connect", "edge_1_2": "nor_conv_3x3"},
    ]
    space = load_space(document)
    one, other = (space.architecture(t) for t in twins)
    assert one.key == other.key
    space = load_space({**document, "quantization": {"per": "module", "weight_bits": [4, 8]}})
    bits: dict[str, Value] = {c.name: 4 for c in space.choices if c.name.startswith("quantization")}
    one, other = (space.architecture({**bits, **t}) for t in twins)
    assert one.key != other.key


# NASNet


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("nasnet-a-mobile", 5_289_978, 563_638_816),
        ("nasnet-a-cifar", 3_346_538, 544_333_312),
        ("nasnet-a-large", 88_753_150, 23_783_414_658),
    ],
)
def test_nasnet_is_rebuilt_to_the_last_parameter(name: str, params: int, macs: int) -> None:
    space = load_reference(name)
    arch = space.architecture({})
    cost = space.cost(arch)
    assert (cost["params"], cost["macs"]) == (params, macs)
    with torch.device("meta"):
        model = space.build(arch)
        x = torch.empty(1, *space.document.input)  # type: ignore[attr-defined]
        assert (counted_params(model), counted_macs(model, x)) == (params, macs)


@pytest.mark.parametrize("preset", ["nas-bench-201", "nasnet", "fashion-cell"])
def test_presets_cost_what_they_build(preset: str) -> None:
    space = declared(preset)
    for arch in space.sample(6, seed=1):
        with torch.device("meta"):
            model = space.build(arch)
            x = torch.empty(1, *space.document.input)  # type: ignore[attr-defined]
            built = (counted_params(model), counted_macs(model, x))
        cost = space.cost(arch)
        assert built == (cost["params"], cost["macs"])


def test_the_two_sides_of_a_block_are_alike_and_dead_blocks_have_no_genes() -> None:
    space = load_space(blocks(normal={"blocks": 3, "output": [4]}, reduction={"blocks": 1, "combine": "add"}))
    assert isinstance(space, BlockCellSpace)
    values: dict[str, Value] = dict(space.sample(1, 0)[0])
    values |= {f"normal.{k}.combine": "add" for k in range(3)}
    values |= {
        "normal.2.input_1": 2,
        "normal.2.input_2": 0,
        "normal.2.operation_1": "sep3",
        "normal.2.operation_2": "max3",
    }
    one = space.architecture(values)
    mirrored = {
        "normal.2.input_1": 0,
        "normal.2.input_2": 2,
        "normal.2.operation_1": "max3",
        "normal.2.operation_2": "sep3",
    }
    assert space.architecture({**values, **mirrored}).key == one.key
    for operation in ("sep7", "conv3"):  # nothing reads block 1
        other = space.architecture({**values, "normal.1.operation_1": operation})
        assert other.key == one.key
        assert space.cost(other) == space.cost(one)
    assert space.architecture({**values, "normal.0.operation_1": "sep7"}).key != one.key


@given(document=CELLS, seed=st.integers(0, 2**32))
def test_canonical_form_keeps_the_costs_of_blocks_and_a_mutation_changes_it(
    document: dict[str, Any], seed: int
) -> None:
    space, rng = cell_space(document), np.random.default_rng(seed)
    raw = rng.integers(0, space.sizes, size=(6, len(space.choices)))
    canonical = space.canonical_genes(raw)
    assert np.array_equal(space.canonical_genes(canonical), canonical)
    if isinstance(space, BlockCellSpace):
        before, after = (DeclaredSpace.costs(space, genes, ["params", "macs"]) for genes in (raw, canonical))
        assert all(np.array_equal(before[m], after[m]) for m in before)
    mutants = mutate(space, canonical, rng)
    single = len(np.unique(sample(space, 64, rng), axis=0)) < 2
    assert single or (mutants != canonical).any(axis=1).all()


def test_states_that_nobody_reads_are_the_output() -> None:
    """Two blocks on the older input: both, and the newer input, stand side by side."""
    fixed = {"inputs": [1, 1], "operations": ["identity", "max3"]}
    space = declared(blocks(normal={"blocks": [fixed, fixed]}, reduction={"blocks": [fixed], "output": "blocks"}))
    arch = space.architecture({})
    (cell,) = [line for line in space.outline(arch) if line.name == "stages.1.0.newer"]
    assert cell.inputs[0].channels == 16  # one block of the reduction
    last = space.outline(arch)[-1]
    assert last.inputs[0].channels == 3 * 32


def test_an_auxiliary_head_is_there_while_training_only() -> None:
    space = declared(blocks(size=28, auxiliary_head=True, drop_path=0.3, normal={"blocks": 2, "combine": "add"}))
    arch = space.canonical(space.sample(1, 3)[0])
    genes = space.genes([arch])
    without = space.costs(genes)
    everything = space.costs(genes, counting=Counting(auxiliary=True))
    model = space.build(arch)
    head = model.get_submodule("auxiliary")
    assert isinstance(head, Auxiliary)
    assert everything["params"][0] == counted_params(model)
    assert without["params"][0] == counted_params(model) - counted_params(head)
    assert without["macs"][0] == counted_macs(model, inputs(space, 1))
    assert head.logits is None
    model.train()(inputs(space, 2))
    assert isinstance(head.logits, torch.Tensor)
    assert head.logits.shape == (2, 10)
    assert isinstance(copy.deepcopy(model), nn.Module)  # the graph of the logits stays behind
    assert "auxiliary" not in {name.split(".")[0] for name in space.policy(arch)}


def test_drop_path_grows_with_depth_and_spares_identities() -> None:
    block = {"inputs": [0, 1], "operations": ["sep3", "identity"]}
    space = declared(blocks(cells=2, drop_path=0.4, normal={"blocks": [block]}))
    model = space.build(space.architecture({}))
    rates = {n: m.rate for n, m in model.named_modules() if isinstance(m, DropPath)}
    assert all(".first." in name for name in rates)
    assert list(rates.values()) == pytest.approx([0.4 * k / 8 for k in range(1, 9)])  # 6 cells and 2 reductions


# Search small, use large


def test_cells_of_nas_bench_201_move_to_a_larger_network() -> None:
    space = cell_space("nas-bench-201")
    arch = space.sample(1, 5)[0]
    larger, same = space.transfer(arch, width=32, cells=6, classes=100)
    assert dict(same) == dict(arch)
    assert larger.cost(same)["params"] > space.cost(arch)["params"]
    back, again = larger.transfer(same, width=16, cells=5, classes=10)
    assert (back.identity, again.key) == (space.identity, arch.key)
    assert larger.cost(same) == pickle.loads(pickle.dumps(larger)).cost(same)


def test_a_transfer_keeps_what_is_open_and_the_policy_of_the_part_beside() -> None:
    small = cell_space(blocks(cells=[1, 2], quantization={"per": "layer", "weight_bits": [4, 8]}))
    values: dict[str, Value] = {c.name: c.values[0] for c in small.choices}
    bits = {name: 8 for name in values if name.startswith("quantization.stages.1.")}
    arch = small.architecture({**values, **bits, "cells": 2})
    large, same = small.transfer(arch, cells=4, drop_path=0.2)
    assert same["quantization.stages.1.3.weight_bits"] == 8
    assert same["quantization.stages.0.3.weight_bits"] == 4
    assert "cells" not in {c.name for c in large.choices}
    assert {k: v for k, v in same.items() if k in arch} == {k: v for k, v in arch.items() if k != "cells"}


@pytest.mark.parametrize(
    ("skeleton", "message"),
    [
        ({"width": 0}, "0 is not allowed"),
        ({"widht": 8}, 'did you mean "width"?'),
        ({"normal": 3}, "is not of the skeleton"),
    ],
)
def test_a_skeleton_that_cannot_be_is_refused(skeleton: dict[str, Any], message: str) -> None:
    space = cell_space("fashion-cell")
    with pytest.raises(SpecError) as caught:
        space.transfer(space.sample(1, 0)[0], **skeleton)
    assert message in str(caught.value)


def test_a_cell_found_small_is_trained_large_on_fashion_mnist(shared_data: Path) -> None:
    """One epoch on a part of the images, at half their size, which is what one core does in half a minute."""
    operations = ["identity", "conv1", "sep3", "avg3", "max3"]
    document = blocks(
        size=14,
        cells=2,
        width=16,
        stem_multiplier=1,
        normal={"blocks": 2, "operations": operations, "combine": "add"},
    )
    space = cell_space({**document, "recipe": {"learning_rate": 0.003, "batch_size": 16}})
    found = min(space.sample(64, 0), key=lambda arch: abs(space.cost(arch)["params"] - 20_000))
    larger, arch = space.transfer(found, cells=6, width=32)
    assert larger.cost(arch)["params"] > 10 * space.cost(found)["params"]
    splits = datasets.load(datasets.locate(str(shared_data / "fashion-mnist")))
    (x, y), unseen = (
        (nn.functional.avg_pool2d(torch.from_numpy(part.x[:960]), 2), torch.from_numpy(part.y[:960]))
        for part in (splits.train, splits.validation)
    )
    with one_torch_thread(), torch.random.fork_rng():
        torch.manual_seed(0)
        model = larger.build(arch)
        fit(model, x, y, larger.recipe(arch), 1, np.random.default_rng(0), lambda step, metrics: None)
        assert measure(model, *unseen)[0] > 0.35  # 0.1 by chance


# Bad documents


def test_faults_of_cells_name_their_places() -> None:
    late = [{"inputs": [0, 2], "operations": ["sep3", "sep5"]}]
    found = faults(blocks(normal={"blocks": late}, reduction={"blocks": 40}, widht=3))
    assert found["architecture.normal.blocks.0.inputs.1"].endswith("0 to 1")
    assert "less than or equal to 16" in found["architecture.reduction.blocks"]
    assert 'did you mean "width"?' in found["architecture.widht"]
    one = [{"inputs": [0], "operations": ["sep9", "sep5"]}]
    found = faults(blocks(normal={"blocks": one, "output": [0, 7]}))
    assert "a list of two" in found["architecture.normal.blocks.0.inputs"]
    assert "'sep9' is not allowed" in found["architecture.normal.blocks.0.operations.0"]
    assert "0 to 3" in faults(blocks(normal={"blocks": 2, "output": [0, 7]}))["architecture.normal.output"]
    assert ">= 8" in faults(blocks(skeleton="imagenet", width=4))["architecture.width"]
    assert "5 x 5" in faults(blocks(size=8, auxiliary_head=True))["architecture.auxiliary_head"]
    assert "at least 3" in faults(blocks(size=2, skeleton="imagenet"))["input"]
    assert list(faults(blocks(normal={"blocks": late, "output": [77]}))) == [
        "architecture.normal.blocks.0.inputs.1"
    ]
    typo = faults(blocks(cell="bloks"))
    assert typo == {
        "architecture.cell": "'bloks' is not allowed; allowed: edges, blocks; did you mean \"blocks\"?"
    }


@given(BLOCK_CELLS)
def test_a_space_of_blocks_can_be_pickled(document: dict[str, Any]) -> None:
    space = load_space(document)
    assert pickle.loads(pickle.dumps(space)).sample(3, 0) == space.sample(3, 0)
