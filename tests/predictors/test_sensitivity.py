"""Expected noise of policies: that of the schemes themselves, added up over the layers that are there."""

from __future__ import annotations

import math

import numpy as np
import pytest
from family_contract import declared

from predictors import Auto, Ridge
from predictors.sensitivity import NAMES, UNHEARD, noise, policy_noise, sensitivity
from search_spaces import load_space
from search_spaces.load import preset
from search_spaces.quantization import Bits

SPACE = declared({**preset("digits-tiny"), "quantization": {"weight_bits": [2, 4, 32], "activation_bits": [4, 8]}})


def of(bits: Bits, length: float) -> float:
    return float(noise(bits.stored, np.array([length]))[0])


@pytest.mark.parametrize("bits", [Bits(2, 32), Bits(4, 32), Bits(8, 32, "asymmetric"), Bits("ternary", 32)])
def test_it_is_the_noise_of_normal_weights(bits: Bits) -> None:
    weight = np.random.default_rng(1).normal(size=(500, 48)).astype(np.float32)
    lost = float(((weight - bits.stored.fake(weight)) ** 2).sum() / (weight**2).sum())
    assert of(bits, 48) == pytest.approx(lost, rel=0.15)


def test_fewer_bits_and_longer_blocks_lose_more() -> None:
    for length in (16, 64, 1000):
        found = [of(Bits(b, 32), length) for b in (2, 3, 4, 8, 16)]
        assert found == sorted(found, reverse=True)
        assert of(Bits(4, 32), length) < of(Bits(4, 32), 2 * length)
        assert of(Bits(4, 32), 10 * 2**16) == of(Bits(4, 32), 2**16)


def test_a_population_loses_what_its_layers_lose_by_the_outline() -> None:
    arches = SPACE.sample(20, 0)
    found = sensitivity(SPACE, SPACE.genes(arches))
    assert found.shape == (20, len(NAMES))
    for arch, row in zip(arches, found, strict=True):
        policy, lines = SPACE.policy(arch), [n for n in SPACE.outline(arch) if n.operation.quantized]
        rows = [n.weights / n.output.channels for n in lines]
        weights = [of(policy[n.name], row) for n, row in zip(lines, rows, strict=True)]
        weights = [0.0 if policy[n.name].weight == 32 else w for n, w in zip(lines, weights, strict=True)]
        macs = [n.macs for n in lines]
        bits = [policy[n.name].activation for n in lines]
        activations = [0.0 if b == 32 else 4.0**-b for b in bits]
        by_macs = sum(w * m for w, m in zip(weights, macs, strict=True)) / sum(macs)
        worst = max(w + a for w, a in zip(weights, activations, strict=True))
        expected = [sum(weights), by_macs, sum(activations), worst]
        np.testing.assert_allclose(row[[0, 1, 3, 4]], np.log(np.array(expected) + UNHEARD), rtol=1e-9)
        assert (sensitivity(SPACE, SPACE.genes([arch]))[0] == pytest.approx(row)) is True


def test_floats_lose_nothing_and_spaces_of_one_policy_have_no_columns() -> None:
    plain = load_space({**preset("digits-tiny"), "quantization": {"weight_bits": 4}})
    assert policy_noise(plain) is None
    values = {c.name: 32 if c.name.endswith("weight_bits") else c.values[0] for c in SPACE.choices}
    floats = SPACE.canonical_genes(SPACE.genes([SPACE.architecture(values)]))
    np.testing.assert_allclose(sensitivity(SPACE, floats), math.log(UNHEARD))


def test_auto_ranks_policies_from_few_networks() -> None:
    """Of a target that the noise of the weights decides, which genes tell less plainly."""
    genes = np.unique(SPACE.genes(SPACE.sample(300, 1)), axis=0)
    target = 1 / (1 + np.exp(sensitivity(SPACE, genes)[:, 0] * 2))
    order = np.random.default_rng(0).permutation(len(genes))
    known, new = order[:25], order[25:]

    def error(guess: np.ndarray) -> float:
        return float(np.sqrt(np.mean((guess[:, 0] - target[new]) ** 2)))

    auto, ridge = (
        p.fit_genes(genes[known], target[known]).mean_genes(genes[new]) for p in (Auto(SPACE), Ridge(SPACE))
    )
    assert error(auto) < error(ridge) / 2
