"""Energy by formula: the published figures, populations as each of their networks, and what must save some."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces import load_space
from search_spaces.declared import DeclaredSpace
from search_spaces.energy import multiply_accumulate

SPACES = ("digits-tiny", "nas-bench-201", "ofa-mobilenetv3", "nasnet", "vit-resnas-tiny", "hourglass-mlp")


def declared(document: Any) -> DeclaredSpace:
    found = load_space(document)
    assert isinstance(found, DeclaredSpace)
    return found


def energy(space: DeclaredSpace, genes: Any) -> np.ndarray:
    return space.costs(genes, ["energy_mj"])["energy_mj"]


def linear(**quantization: Any) -> DeclaredSpace:
    """A network of a single layer: 64 inputs, 10 outputs."""
    return declared(
        {
            "family": "mlp",
            "input": [1, 8, 8],
            "classes": 10,
            "architecture": {"latent": 64, "projection": "random", "stages": []},
            "quantization": quantization,
        }
    )


def test_figures_of_the_published_table() -> None:
    assert multiply_accumulate(32, 32) == pytest.approx(4.6)
    assert multiply_accumulate(8, 8) == pytest.approx(0.3)
    assert multiply_accumulate("ternary", 8) == pytest.approx(0.1)
    assert multiply_accumulate(8, 32) == multiply_accumulate(32, 8) == multiply_accumulate(32, 32)
    assert multiply_accumulate(4, 8) == pytest.approx(0.2)


@pytest.mark.parametrize("name", SPACES)
def test_a_population_takes_what_each_of_its_networks_takes(name: str) -> None:
    space = declared(name)
    genes = space.genes(space.sample(24, 3))
    alone = np.concatenate([energy(space, row[None]) for row in genes])
    np.testing.assert_allclose(energy(space, genes), alone, rtol=1e-12)
    assert (alone > 0).all()


@pytest.mark.parametrize("name", SPACES)
def test_it_is_no_less_than_fetching_the_model_and_multiplying(name: str) -> None:
    space = declared(name)
    genes = space.genes(space.sample(24, 4))
    costs = space.costs(genes, ["energy_mj", "model_size_bytes", "macs"])
    at_least = (162.5 * costs["model_size_bytes"] + multiply_accumulate("ternary", 4) * costs["macs"]) * 1e-9
    assert (costs["energy_mj"] > at_least).all()


@settings(max_examples=15)
@given(st.sampled_from([2, 3, 4, 8, 16]), st.sampled_from([4, 8, 16]), st.integers(0, 1000))
def test_fewer_bits_take_less(weight: int, activation: int, seed: int) -> None:
    document = {
        "family": "staged",
        "input": [1, 8, 8],
        "classes": 10,
        "architecture": {
            "stem": {"width": [8, 16]},
            "stages": [{"block": ["conv", "inverted_residual"], "depth": [1, 2], "width": [16, 24], "stride": 2}],
        },
    }
    floats = declared(document)
    quantized = declared({**document, "quantization": {"weight_bits": weight, "activation_bits": activation}})
    (arch,) = floats.sample(1, seed)
    values = {name: value for name, value in dict(arch).items() if not name.startswith("quantization")}
    genes = quantized.genes([quantized.architecture(values)])
    assert energy(quantized, genes)[0] < energy(floats, floats.genes([arch]))[0]


def test_it_is_given_where_it_is_asked_for_only() -> None:
    space = declared("digits-tiny")
    genes = space.genes(space.sample(2, 0))
    assert "energy_mj" not in space.costs(genes)
    assert list(space.costs(genes, ["energy_mj"])) == ["energy_mj"]
    assert space.asked_costs == ("energy_mj",)
