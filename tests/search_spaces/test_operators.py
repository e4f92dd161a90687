import json
import pickle
from typing import Any

import numpy as np
import pytest
from all_documents import ANY
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import SpecError, load_space, presets
from search_spaces.cell_edges import EdgeCellSpace
from search_spaces.encodings import mixed, one_hot, ordinal
from search_spaces.operators import crossover, enumerate_all, mutate, neighbours, sample

pytestmark = pytest.mark.law

SEEDS = st.integers(0, 2**32 - 1)


@given(ANY, SEEDS)
def test_canonical_is_idempotent_and_keeps_the_key(document: dict[str, Any], seed: int) -> None:
    space = load_space(document)
    rng = np.random.default_rng(seed)
    genes = rng.integers(0, space.sizes, size=(20, len(space.choices)))
    once = space.canonical_genes(genes)
    assert (space.canonical_genes(once) == once).all()
    assert [a.key for a in space.architectures(genes)] == [a.key for a in space.architectures(once)]
    for arch in space.architectures(genes):
        assert space.canonical(arch).key == arch.key == space.canonical(space.canonical(arch)).key


@given(ANY, SEEDS)
def test_equal_keys_are_equal_canonical_genes_and_cost_the_same(document: dict[str, Any], seed: int) -> None:
    space = load_space(document)
    genes = np.random.default_rng(seed).integers(0, space.sizes, size=(40, len(space.choices)))
    canonical = space.canonical_genes(genes)
    by_key: dict[str, tuple[int, ...]] = {}
    for arch, row in zip(space.architectures(genes), canonical.tolist(), strict=True):
        assert by_key.setdefault(arch.key, tuple(row)) == tuple(row)
    assert len(set(by_key.values())) == len(by_key)
    if isinstance(space, EdgeCellSpace):
        return  # twins compute the same function with different numbers of weights, as in the benchmark
    raw, reset = space.costs(genes), space.costs(canonical)
    for name in raw:
        np.testing.assert_array_equal(raw[name], reset[name])


@given(ANY, SEEDS)
def test_operators_stay_in_the_space_and_give_canonical_genes(document: dict[str, Any], seed: int) -> None:
    space = load_space(document)
    rng = np.random.default_rng(seed)
    parents = sample(space, 12, rng)
    for genes in (parents, mutate(space, parents, rng), crossover(space, parents, parents[::-1], rng)):
        assert ((genes >= 0) & (genes < space.sizes)).all()
        assert (space.canonical_genes(genes) == genes).all()


@given(ANY, SEEDS)
def test_mutate_changes_a_canonical_architecture(document: dict[str, Any], seed: int) -> None:
    space = load_space(document)
    rng = np.random.default_rng(seed)
    parents = sample(space, 12, rng)
    changed = (mutate(space, parents, rng) != parents).any(axis=1)
    for row, was_changed in zip(parents, changed, strict=True):
        assert was_changed or len(neighbours(space, row)) == 0


@given(ANY, SEEDS)
def test_neighbours_are_distinct_others(document: dict[str, Any], seed: int) -> None:
    space = load_space(document)
    here = sample(space, 1, np.random.default_rng(seed))[0]
    around = neighbours(space, here)
    assert len({tuple(r) for r in around.tolist()}) == len(around)
    assert not (around == here).all(axis=1).any() or len(space.choices) == 0


@given(ANY, SEEDS)
def test_an_architecture_reads_back_from_its_values(document: dict[str, Any], seed: int) -> None:
    space = load_space(json.loads(json.dumps(document)))
    for arch in space.sample(5, seed):
        assert space.architecture(dict(arch)) == arch
        assert pickle.loads(pickle.dumps(arch)) == arch
        assert pickle.loads(pickle.dumps(space)).canonical(arch) == arch


@given(ANY, SEEDS)
def test_genes_without_effect_do_not_reach_a_predictor(document: dict[str, Any], seed: int) -> None:
    space = load_space(document)
    genes = np.random.default_rng(seed).integers(0, space.sizes, size=(10, len(space.choices)))
    noisy = np.where(space.active(genes), genes, (genes + 1) % space.sizes)
    for encode in (one_hot, ordinal, mixed):
        np.testing.assert_array_equal(encode(space, genes), encode(space, noisy))
        assert np.isfinite(encode(space, genes)).all()


@given(ANY)
def test_a_document_and_its_space_mean_the_same(document: dict[str, Any]) -> None:
    space = load_space(document)
    again = load_space(json.loads(space.document.model_dump_json(exclude_none=True)))  # type: ignore[attr-defined]
    assert (again.choices, again.identity) == (space.choices, space.identity)


def test_same_seed_same_sample() -> None:
    space = load_space("digits-tiny")
    assert space.sample(50, 7) == space.sample(50, 7) != space.sample(50, 8)


def test_every_preset_loads_and_its_reset_genes_are_not_shown() -> None:
    for name in presets():
        space = load_space(name)
        assert space.name == name
    shallow = load_space("digits-tiny").sample(200, 0)
    flat = next(a for a in shallow if a["stages.0.depth"] == 0)
    assert not any(name.startswith("stages.0.") and name != "stages.0.depth" for name in flat)
    assert flat["stages.0.kernel"] == 3  # still readable by name


def test_nas_bench_201_has_fewer_networks_than_gene_tuples() -> None:
    space = load_space("nas-bench-201")
    every = enumerate_all(space, limit=20_000)
    assert every is not None
    assert (space.size, len(every)) == (15_625, 6_466)
    assert enumerate_all(space, limit=10_000) is None  # limits count gene tuples


def test_wrong_values_are_refused_by_name() -> None:
    space = load_space("nas-bench-201")
    good = dict(space.sample(1, 0)[0])
    for change, words in [
        ({"edge_0_1": "conv"}, "edge_0_1: 'conv' is not allowed; allowed: none, skip_connect"),
        ({"edge_9_9": "none"}, "edge_9_9: is not a choice of nas-bench-201"),
    ]:
        with pytest.raises(SpecError, match=words):
            space.architecture({**good, **change})
    small = load_space(
        {
            "family": "staged",
            "input": [1, 8, 8],
            "classes": 2,
            "architecture": {
                "stem": {"width": 8},
                "stages": [{"block": "basic", "depth": [1, 2], "width": 8, "squeeze_excite": [False, True]}],
            },
        }
    )
    depth, excite = "stages.0.depth", "stages.0.squeeze_excite"
    assert small.architecture({depth: 1.0, excite: True})[depth] == 1
    for change in ({depth: True, excite: True}, {depth: 1, excite: 1}, {depth: 1, excite: 0.0}):
        with pytest.raises(SpecError, match=r"(depth: True|squeeze_excite: (1|0\.0)) is not allowed"):
            small.architecture(change)
    del good["edge_2_3"]
    with pytest.raises(SpecError, match="edge_2_3: is required"):
        space.architecture(good)
