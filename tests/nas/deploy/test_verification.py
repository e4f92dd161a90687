"""Every check of an export passes for what is right, and names what is wrong with its figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import FAMILIES, declared, trained
from torch import Tensor

from nas.deploy.onnx_file import onnx_file, random_examples
from nas.deploy.verification import VerificationFailed, verify
from nas.evaluators.quantize import Quantized, quantized
from search_spaces.quantization import Bits


def ready(family: str, bits: Bits, examples: int = 200) -> tuple[Quantized, Tensor, Tensor, float]:
    """A network, examples, labels of which it gets all but a tenth right, and its size by the formula."""
    document = FAMILIES[family]
    space = declared(document)
    arch = space.sample(1, 1)[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = random_examples(space, examples)
    model = trained(space, arch)
    network = quantized(model, dict.fromkeys(space.policy(arch), bits), [x])
    with torch.no_grad():
        labels = network.simulated()(x).argmax(1)
    labels[::10] = (labels[::10] + 1) % space.document.classes
    weights = sum(
        bits.stored.bytes(m.weight.numel(), m.weight.shape[1 if isinstance(m, torch.nn.Embedding) else 0])
        for m in (network.model.get_submodule(name) for name in network.policy)
    )
    names = {f"{name}.weight" for name in network.policy}
    others = sum(4 * p.numel() for name, p in network.model.named_parameters() if name not in names)
    return network, x, labels, weights + others


@pytest.mark.parametrize(
    ("family", "bits"),
    [("digits", Bits(8, 8)), ("text", Bits(4, 32)), ("vit", Bits("ternary", 16)), ("nasnet", Bits(2, 32))],
)
def test_what_is_right_passes(family: str, bits: Bits) -> None:
    network, x, labels, size = ready(family, bits)
    file = onnx_file(network, x)
    found = verify(file, network, x, labels, 0.9, size)
    found.require()
    assert found.passed
    assert found.accuracy == pytest.approx(0.9, abs=0.005)
    assert found.graph_bytes + found.tensor_bytes == len(file)
    assert {check.name for check in found.checks} == {"accuracy", "agreement", "file_bytes"}


def test_what_is_wrong_is_named_with_its_figures() -> None:
    network, x, labels, size = ready("digits", Bits(8, 8))
    file = onnx_file(network, x)
    other = replace(network, model=trained(declared("digits-tiny"), declared("digits-tiny").sample(1, 2)[0], 5))
    others = onnx_file(Quantized(other.model, {}, {}), x)
    cases = [
        (verify(file, network, x, labels, 0.92, size), r"accuracy is 0\.9.*, allowed: 0\.9150 to 0\.9250"),
        (verify(file, network, x, labels, 0.9, size / 2), r"file_bytes is \d+.*, allowed: \d+ to \d+"),
        (verify(others, network, x, labels, 0.9, size), r"agreement is 0\S*, allowed: at least 0\.9900"),
    ]
    for found, message in cases:
        assert not found.passed
        with pytest.raises(VerificationFailed, match=message):
            found.require()


def test_of_few_examples_one_may_differ() -> None:
    network, x, labels, size = ready("digits", Bits(8, 8), examples=20)
    file = onnx_file(network, x)
    verify(file, network, x, labels, 0.95, size).require()  # it is 0.9: one example less
    with pytest.raises(VerificationFailed, match="accuracy"):
        verify(file, network, x, labels, 1.0, size).require()


def test_a_network_whose_logits_are_no_numbers_never_passes() -> None:
    network, x, labels, size = ready("digits", Bits(8, 8), examples=50)
    broken = trained(declared("digits-tiny"), declared("digits-tiny").sample(1, 1)[0])
    with torch.no_grad():
        broken.get_submodule("classifier").bias.fill_(np.nan)  # type: ignore[operator, union-attr]
    found = verify(onnx_file(Quantized(broken, {}, {}), x), network, x, labels, 0.9, size)
    assert found.accuracy == 0
    assert not found.passed
