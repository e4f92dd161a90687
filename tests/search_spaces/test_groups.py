"""Sizes of groups: refused by the name of a layer whose channels they do not divide."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from family_contract import declared
from hypothesis import given
from hypothesis import strategies as st
from mlp_documents import MLPS
from space_documents import CELLS, DOCUMENTS
from transformer_documents import TRANSFORMERS

from nas.check import check
from nas.job import JobSpec
from search_spaces import SpecError, load_space, presets
from search_spaces.groups import ALL, fitting, rows
from search_spaces.outline import Line

MLP: dict[str, Any] = {
    "family": "mlp",
    "input": [1, 4, 4],
    "classes": 3,
    "architecture": {"latent": [32, 48], "stages": [{"hidden": [64, 80], "depth": 1}]},
}


def refused(document: dict[str, Any], size: Any, **section: Any) -> str:
    quantization = {"weight_bits": [4, 32], "weight_granularity": ["channel", "group"], "group_size": size}
    with pytest.raises(SpecError) as caught:
        load_space({**document, "quantization": {**quantization, **section}})
    (fault,) = caught.value.faults
    assert fault.path == "quantization.group_size"
    return fault.message


def test_a_size_that_leaves_a_rest_is_refused_by_layer_row_and_what_would_do() -> None:
    assert refused(MLP, 32) == (
        "32 does not divide the 48 weights of an output channel of stages.0.0.fc1; "
        "allowed: 2, 4, 8, 16, integers >= 80, where a group is a whole channel"
    )
    assert refused(MLP, [16, 24, 40]).startswith(
        "24 does not divide the 32 weights of an output channel of stages.0.0.fc1; 40 does not divide the 48"
    )
    for size in (2, 16, 80, 100, [8, 16, 4096]):
        quantization = {"weight_bits": 4, "weight_granularity": "group", "group_size": size}
        assert load_space({**MLP, "quantization": quantization}).size > 1


def test_the_size_that_is_left_out_is_looked_at_too() -> None:
    with pytest.raises(SpecError, match="32 does not divide the 48 weights"):
        load_space({**MLP, "quantization": {"weight_bits": 4, "weight_granularity": "group"}})


@pytest.mark.parametrize(
    "section", [{"weight_granularity": ["tensor", "channel"]}, {"weight_bits": 32, "weight_granularity": "group"}]
)
def test_where_there_are_no_groups_every_size_is_allowed(section: dict[str, Any]) -> None:
    assert load_space({**MLP, "quantization": {"weight_bits": 4, "group_size": 7, **section}}).size > 1


def test_kernels_count_and_channels_shorter_than_a_group_do_not() -> None:
    stage = {"block": "depthwise_separable", "depth": 1, "width": 64}
    document = {
        "family": "staged",
        "input": [3, 8, 8],
        "classes": 3,
        "architecture": {"stem": {"width": 32}, "stages": [stage]},
    }
    quantization = {"weight_bits": 4, "weight_granularity": "group", "group_size": 32}
    assert load_space({**document, "quantization": quantization}).size == 1  # rows of 27, 9, 32 and 64
    assert refused(document, 16).startswith("16 does not divide the 27 weights of an output channel of stem.conv")


def test_a_job_with_such_a_space_is_refused_at_its_path() -> None:
    quantization = {"weight_bits": 4, "weight_granularity": "group", "group_size": 32}
    spec = JobSpec.parse(
        {
            "name": "groups",
            "space": {**MLP, "quantization": quantization},
            "objectives": ["min params"],
            "evaluator": "cost",
        }
    )
    with pytest.raises(SpecError, match=r"^space\.quantization\.group_size: 32 does not divide"):
        check(spec)


def lengths(lines: list[Line]) -> set[int]:
    return {line.weights // line.output.channels for line in lines if line.operation.quantized}


@given(st.data())
def test_rows_are_those_of_the_networks(data: st.DataObject) -> None:
    space = declared(data.draw(DOCUMENTS | CELLS | TRANSFORMERS | MLPS))
    found = rows(space)
    shaped = [len(c.values) for c in space.choices if not c.name.startswith(("quantization.", "recipe."))]
    if math.prod(shaped) <= ALL:
        assert set().union(*(lengths(space.outline(a)) for a in space.sample(5, 0))) <= set(found)
    assert min(found) > 0


@pytest.mark.parametrize(
    "name", ["digits-tiny", "mobilenetv2", "vit-resnas-tiny", "hourglass-mlp", "nas-bench-201"]
)
def test_hardly_any_row_of_a_large_space_is_missed(name: str) -> None:
    space = declared(name)
    found = set(rows(space))
    drawn = set().union(*(lengths(space.outline(a)) for a in space.sample(60, 5)))
    assert len(drawn - found) <= len(found) // 20


@given(st.lists(st.integers(1, 200), min_size=1), st.lists(st.integers(2, 300), min_size=1))
def test_fitting_by_its_definition(lengths: list[int], sizes: list[int]) -> None:
    found = fitting(dict.fromkeys(lengths, "layer"), np.array(sizes))
    assert found.tolist() == [all(n <= size or n % size == 0 for n in lengths) for size in sizes]


def test_no_preset_is_refused() -> None:
    for name in presets():
        load_space(name)


def test_a_space_of_many_fixed_choices_is_looked_at_whole() -> None:
    stage = {"block": "conv", "depth": 1, "width": 8}
    architecture = {"stem": {"width": 8}, "stages": [stage] * 40}
    document = {"family": "staged", "input": [1, 8, 8], "classes": 10, "architecture": architecture}
    assert refused(document, 5, per="layer").startswith("5 does not divide the 8 weights")


def test_no_larger_group_is_suggested_than_a_document_may_have() -> None:
    assert refused({**MLP, "input": [3, 499, 499]}, 64).endswith("; allowed: 499, 1497")
