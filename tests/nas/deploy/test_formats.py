"""What torch reads: a program that computes what is simulated, for any batch, and plain weights."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from networks import FAMILIES, apart, declared, trained

from nas.deploy.formats import program, state
from nas.deploy.onnx_file import random_examples
from nas.evaluators.quantize import folded, quantized
from search_spaces.quantization import Bits


@pytest.mark.parametrize("family", ["digits", "vit-resnas", "text"])
def test_a_program_computes_what_is_simulated_for_any_batch(family: str) -> None:
    space = declared(FAMILIES[family])
    arch = space.sample(1, 1)[0]
    x = random_examples(space, 5)
    network = quantized(trained(space, arch), dict.fromkeys(space.policy(arch), Bits(4, 8)), [x])
    loaded = torch.export.load(io.BytesIO(program(network, x[:1]))).module()
    for count in (1, 2, 5):
        with torch.no_grad():
            found = loaded(x[:count]).numpy()
        assert apart(found.astype(np.float32), network.simulated(), x[:count]) < 1e-4


def test_plain_weights_fit_into_the_folded_network() -> None:
    space = declared("digits-tiny")
    arch = space.sample(1, 1)[0]
    model, x = trained(space, arch), random_examples(space, 5)
    for bits in (Bits(32, 32), Bits(4, 8)):
        network = quantized(model, dict.fromkeys(space.policy(arch), bits), [x])
        weights = torch.load(io.BytesIO(state(network)), weights_only=True)
        other = folded(trained(space, arch, seed=9))
        other.load_state_dict(weights)
        with torch.no_grad():
            torch.testing.assert_close(other(x), model(x), rtol=1e-4, atol=1e-4)
