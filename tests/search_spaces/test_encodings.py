"""Encodings against plain counting."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from search_spaces import load_space
from search_spaces.cell_paths import path_features
from search_spaces.encodings import counts, mixed, one_hot, pairs

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


def _walk(nodes: int, operations: dict[tuple[int, int], str]) -> list[tuple[str, ...]]:
    """Operations of every path from the first node to the last, without those that do nothing."""
    found: list[tuple[str, ...]] = []

    def go(node: int, path: tuple[str, ...]) -> None:
        if node == nodes - 1:
            found.append(path)
        for target in range(node + 1, nodes):
            operation = operations[node, target]
            if operation != "none":
                go(target, path if operation == "skip_connect" else (*path, operation))

    go(0, ())
    return found


@pytest.mark.parametrize("nodes", [2, 3, 4, 5])
def test_paths_are_those_of_a_walk(nodes: int) -> None:
    edges = [(i, j) for j in range(1, nodes) for i in range(j)]
    cells = np.random.default_rng(nodes).integers(0, 5, size=(40, len(edges)))
    found = path_features(nodes, OPERATIONS, cells)
    words = OPERATIONS[2:]
    sequences = [s for length in range(nodes) for s in product(words, repeat=length)]
    place = {s: _column(s, words) for s in sequences}
    assert sorted(place.values()) == list(range(len(sequences)))
    for row, cell in zip(found, cells, strict=True):
        paths = _walk(nodes, dict(zip(edges, [OPERATIONS[o] for o in cell], strict=True)))
        lengths = [len(p) for p in paths]
        most = [max((p.count(w) for p in paths), default=0) for w in words]
        expected = [np.log1p(len(paths)), max(lengths, default=0), min(lengths, default=0), *most]
        np.testing.assert_allclose(row[: len(expected)], expected)
        for sequence in sequences:
            assert row[len(expected) + place[sequence]] == paths.count(sequence)


def _column(sequence: tuple[str, ...], words: tuple[str, ...]) -> int:
    column = 0
    for word in sequence:
        column = column * len(words) + 1 + words.index(word)
    return column


@pytest.mark.parametrize(
    "change", [{}, {"nodes": 5}, {"nodes": 3, "operations": ["skip_connect", "nor_conv_3x3"]}]
)
def test_equal_cells_have_equal_structure(change: dict[str, Any]) -> None:
    document = load_space("nas-bench-201").document.model_dump()  # type: ignore[attr-defined]
    document["architecture"].update(change)
    space = load_space(document)
    genes = np.random.default_rng(0).integers(0, space.sizes, size=(500, len(space.choices)))
    structure = space.structure(genes)
    assert len(structure) == 500
    assert structure.std(axis=0).max() > 0
    np.testing.assert_array_equal(structure, space.structure(space.canonical_genes(genes)))


def test_most_spaces_have_no_structure() -> None:
    space = load_space("digits-tiny")
    assert space.structure(space.genes(space.sample(3, 0))).shape == (3, 0)


@pytest.mark.parametrize("name", ["digits-tiny", "nas-bench-201", "ofa-mobilenetv3", "fbnetv3"])
def test_counts_are_shares_of_alike_choices(name: str) -> None:
    space = load_space(name)
    archs = space.sample(20, 0)
    found = counts(space, space.genes(archs))
    assert found.shape[1] > 0
    assert (found >= 0).all()
    assert (found <= 1).all()
    if name == "ofa-mobilenetv3":
        kernels = [c.name for c in space.choices if c.name.endswith(".kernel")]
        expected = [sum(a[k] == 5 for k in kernels if k in set(a)) / len(kernels) for a in archs]
        assert (np.abs(found - np.array(expected)[:, None]).max(axis=0) < 1e-12).any()


def test_pairs_are_products() -> None:
    space = load_space("nas-bench-201")
    genes = space.genes(space.sample(30, 0))
    hot, both = one_hot(space, genes), pairs(space, genes)
    assert both.shape == (30, 15 * 25)
    assert (both.sum(axis=1) == 15).all()
    np.testing.assert_array_equal(both[:, :25].reshape(30, 5, 5), hot[:, :5, None] * hot[:, None, 5:10])


def test_mixed_is_one_hot_and_positions() -> None:
    space = load_space("fbnetv3")
    genes = space.genes(space.sample(50, 0))
    hot, found, active = one_hot(space, genes), mixed(space, genes), space.active(genes)
    column = start = 0
    for i, choice in enumerate(space.choices):
        if choice.ordered:
            place = genes[:, i] / (len(choice.values) - 1)
            np.testing.assert_allclose(found[:, column], np.where(active[:, i], place, 0))
            column += 1 + bool(choice.when)
        else:
            np.testing.assert_array_equal(
                found[:, column : column + len(choice.values)], hot[:, start : start + len(choice.values)]
            )
            column += len(choice.values)
        start += len(choice.values)
    assert column == found.shape[1]
