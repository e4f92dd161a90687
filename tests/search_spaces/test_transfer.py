"""What `CellSpace.transfer` takes: an architecture, or the values of one as results and tables hold them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from search_spaces import SpecError, load_space
from search_spaces.cell import CellSpace


def cell_space(name: str) -> CellSpace:
    space = load_space(name)
    assert isinstance(space, CellSpace)
    return space


@pytest.mark.parametrize("name", ["fashion-cell", "nas-bench-201"])
def test_values_by_name_transfer_as_the_architecture_does(name: str) -> None:
    space = cell_space(name)
    for arch in space.sample(4, 3):
        large, same = space.transfer(arch, cells=4)
        again, by_name = space.transfer(dict(arch), cells=4)
        assert (again.identity, by_name) == (large.identity, same)


def test_an_architecture_of_another_space_is_read_by_its_names() -> None:
    space, other = cell_space("nas-bench-201"), cell_space("fashion-cell")
    larger, arch = space.transfer(space.sample(1, 0)[0], width=32)
    assert space.transfer(arch)[1].key == space.canonical(space.architecture(dict(arch))).key
    assert larger.identity != space.identity
    with pytest.raises(SpecError, match="is not a choice of nas-bench-201"):
        space.transfer(other.sample(1, 0)[0])


@pytest.mark.parametrize("given", [None, 3, "edge_0_1", (0, 1, 2, 3, 4, 0), [{"edge_0_1": "none"}]])
def test_anything_else_is_told_in_one_message(given: object) -> None:
    with pytest.raises(SpecError) as caught:
        cell_space("nas-bench-201").transfer(cast(Any, given), cells=6)
    (fault,) = caught.value.faults
    assert fault.path == "architecture"
    assert fault.message.endswith("allowed: an Architecture of nas-bench-201, or values by choice name")


def test_values_that_the_space_does_not_have_are_refused_by_name() -> None:
    with pytest.raises(SpecError) as caught:
        cell_space("nas-bench-201").transfer({"edge_0_1": "conv", "edge_9_9": "none"}, cells=6)
    assert [f.path for f in caught.value.faults] == ["edge_0_1", "edge_9_9"]


def test_a_part_that_only_the_new_network_has_takes_the_whole_policy_of_the_part_beside_it() -> None:
    policy = {
        "per": "layer",
        "weight_bits": [4, 8],
        "activation_bits": [4, 8],
        "weight_granularity": ["tensor", "group"],
        "group_size": [144, 288],
        "activation_observer": ["min_max", "mse"],
    }
    space, same = cell_space("nas-bench-201").transfer(
        cell_space("nas-bench-201").sample(1, 0)[0], cells=1, width=4, quantization=policy
    )
    last = {"weight_bits": 8, "activation_bits": 8, "weight_granularity": "group", "group_size": 288}
    last |= {"activation_observer": "mse"}
    chosen = {c.name: last.get(c.name.rpartition(".")[2], same[c.name]) for c in space.choices}
    large, arch = space.transfer(space.architecture(chosen), cells=3)
    assert len(large.choices) > len(space.choices)
    assert {(b.weight, b.granularity, b.group_size, b.observer) for b in large.policy(arch).values()} == {
        (8, "group", 288, "mse")
    }
