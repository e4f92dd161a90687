"""ONNX files compute what simulated networks do, in the bytes of the formula: every family and scheme."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from all_documents import ANY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import ANY_BITS, FAMILIES, TEXT, VIT, apart, declared, logits, operators, trained
from onnx import TensorProto
from torch import fx, nn

from nas.deploy.onnx_file import onnx_file, random_examples, untrained_file
from nas.evaluators.quantize import Grid, Quantized, by_channel, folded, is_table, quantized
from search_spaces.quantization import Bits

EXACT, ROUNDED = 1e-4, 0.05
"""Differences that are allowed: of sums in another order; of whole numbers, where a sum or a bias may be rounded
the other way and move an activation by a step."""


def named(bits: Bits) -> str:
    return f"{bits.weight}-{bits.activation}-{bits.scheme}-{bits.granularity}"


def on_grids(model: fx.GraphModule, policy: dict[str, Bits]) -> Quantized:
    """Quantized, with grids that hold activations from -2 to 6."""
    ready = folded(model)
    read = {k: b.activation for k, b in policy.items() if not is_table(ready.get_submodule(k))}
    return Quantized(ready, policy, {k: Grid.spanning(-2, 6, bits) for k, bits in read.items() if bits < 32})


def formula(network: Quantized) -> int:
    """Bytes of the weights by their schemes, and of everything else in 32 bits."""
    size = 0
    for name, parameter in network.model.named_parameters():
        layer, _, last = name.rpartition(".")
        if last == "weight" and layer in network.policy:
            weight = by_channel(network.model.get_submodule(layer))
            size += network.policy[layer].stored.bytes(weight.numel(), len(weight))
        else:
            size += 4 * parameter.numel()
    return size


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_what_it_was_in_the_bytes_of_the_formula(family: str) -> None:
    space = declared(FAMILIES[family])
    for arch in space.sample(2, 1):
        model, x = trained(space, arch), random_examples(space, 16)
        network = quantized(model, space.policy(arch), [x])
        file = onnx_file(network, x)
        assert apart(logits(file, x), network.simulated(), x) < ROUNDED
        size = space.cost(arch)["model_size_bytes"]
        assert 0.98 * size <= len(file) <= 1.02 * size + 4096


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_every_bit_width(family: str) -> None:
    """Each module has a policy of its own, so in a few networks there are all of them."""
    space = declared(FAMILIES[family])
    arch = space.sample(1, 3)[0]
    model, x, policies = trained(space, arch), random_examples(space, 8), cycle(ANY_BITS[::5])
    for _ in range(2):
        network = quantized(model, {name: next(policies) for name in space.policy(arch)}, [x])
        file = onnx_file(network, x)
        assert apart(logits(file, x), network.simulated(), x) < ROUNDED
        tensors = sum(len(tensor.raw_data) for tensor in onnx.load_from_string(file).graph.initializer)
        assert 0.98 * formula(network) <= tensors <= 1.02 * formula(network) + 2048


@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(document=ANY, seed=st.integers(0, 2**16))
def test_any_network_of_any_document_has_a_file(document: dict[str, object], seed: int) -> None:
    space = declared(document)
    arch = space.sample(1, seed)[0]
    model, x = trained(space, arch, seed), random_examples(space, 3)
    network = Quantized(model, {}, {})
    found = logits(onnx_file(network, x[:1]), x)
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * max(1.0, float(np.abs(expected).max())))
    assert logits(untrained_file(space, arch), x).shape == expected.shape


@pytest.fixture(scope="module")
def small() -> tuple[fx.GraphModule, dict[str, Bits], torch.Tensor]:
    """Convolutions of 3 x 3 and 1 x 1, one by channel, and a linear layer, with rows of odd lengths."""
    space = declared(
        {
            "family": "staged",
            "input": [3, 12, 12],
            "classes": 7,
            "architecture": {
                "stem": {"width": 5},
                "stages": [{"block": "inverted_residual", "width": 9, "depth": 1, "expansion": 3, "stride": 2}],
            },
        }
    )
    arch = space.sample(1, 0)[0]
    return trained(space, arch), space.policy(arch), random_examples(space, 8)


@pytest.mark.parametrize("bits", [b for i, b in enumerate(ANY_BITS) if i % 5 in (0, 2)], ids=named)
def test_every_scheme_computes_what_is_simulated(
    bits: Bits, small: tuple[fx.GraphModule, dict[str, Bits], torch.Tensor]
) -> None:
    """Among those tried is each pair of values."""
    model, policy, x = small
    network = on_grids(model, dict.fromkeys(policy, bits))
    file = onnx_file(network, x)
    whole = bits.activation == 8 and bits.weight != 16  # of a group as well, where it is a whole row
    assert apart(logits(file, x), network.simulated(), x) < (ROUNDED if whole else EXACT)
    tensors = sum(len(tensor.raw_data) for tensor in onnx.load_from_string(file).graph.initializer)
    assert 0 <= tensors - formula(network) < 1024
    assert len(file) - tensors < 4096


@pytest.mark.parametrize("document", [VIT, TEXT], ids=["images", "text"])
@pytest.mark.parametrize("bits", ANY_BITS[::7], ids=named)
def test_layers_of_tokens_and_tables_take_every_scheme(document: dict[str, object], bits: Bits) -> None:
    space = declared(document)
    arch = space.sample(1, 0)[0]
    x = random_examples(space, 4)
    network = on_grids(trained(space, arch), dict.fromkeys(space.policy(arch), bits))
    assert apart(logits(onnx_file(network, x), x), network.simulated(), x) < ROUNDED


@pytest.mark.parametrize("bits", [b for b in ANY_BITS if b.activation == 32][::2], ids=named)
def test_weights_are_unpacked_when_the_file_is_loaded_and_never_again(
    bits: Bits, small: tuple[fx.GraphModule, dict[str, Bits], torch.Tensor], tmp_path: Path
) -> None:
    model, policy, x = small
    for name, chosen in (("float", Bits(32, 32)), ("packed", bits)):
        logits(onnx_file(on_grids(model, dict.fromkeys(policy, chosen)), x), x, tmp_path / name)
    assert operators(tmp_path / "packed") == operators(tmp_path / "float")


def test_signed_bytes_never_meet_a_kernel_that_saturates(
    small: tuple[fx.GraphModule, dict[str, Bits], torch.Tensor], tmp_path: Path
) -> None:
    """On processors without VNNI, kernels for signed 8-bit weights saturate in 16 bits."""
    model, policy, x = small
    for weight in (8, 4, "ternary"):
        network = quantized(model, dict.fromkeys(policy, Bits(weight, 8)), [x])
        logits(onnx_file(network, x), x, tmp_path / "o")
        graph = onnx.load(tmp_path / "o").graph
        types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        weights = [node.input[3] for node in graph.node if node.op_type == "QLinearConv"]
        assert len(weights) >= 2
        assert {types[name] for name in weights} == {TensorProto.UINT8}


def test_the_largest_weights_and_activations_do_not_saturate(
    small: tuple[fx.GraphModule, dict[str, Bits], torch.Tensor],
) -> None:
    model, policy, x = small
    model = folded(model)
    with torch.no_grad():
        for name in policy:
            weight = model.get_submodule(name).weight
            assert isinstance(weight, nn.Parameter)
            weight.copy_(weight.sign() * 0.1)
    network = quantized(model, dict.fromkeys(policy, Bits(8, 8)), [x.abs()])
    assert apart(logits(onnx_file(network, x), x.abs()), network.simulated(), x.abs()) < ROUNDED


def test_a_value_that_several_layers_read_is_rounded_once() -> None:
    space = declared(VIT)
    arch = space.sample(1, 0)[0]
    x = random_examples(space, 2)
    network = quantized(trained(space, arch), dict.fromkeys(space.policy(arch), Bits(8, 8)), [x])
    graph = onnx.load_from_string(onnx_file(network, x)).graph
    reads = [
        node for node in graph.node if node.domain and node.input[0] not in {t.name for t in graph.initializer}
    ]
    assert len(reads) < len(network.grids)  # queries, keys and values have one


def test_the_same_network_gives_the_same_bytes_for_any_batch() -> None:
    space = declared("digits-tiny")
    arch = space.sample(1, 0)[0]
    network = quantized(trained(space, arch), space.policy(arch), [random_examples(space, 4)])
    files = {onnx_file(network, random_examples(space, count)) for count in (1, 2, 5)}
    assert len(files) == 1
    onnx.checker.check_model(onnx.load_from_string(files.pop()), full_check=True)


def test_what_has_no_form_is_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.softsign = nn.Softsign()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.softsign(x)

    model = fx.symbolic_trace(Odd())
    with pytest.raises(TypeError, match="softsign: Softsign has no form in ONNX here"):
        onnx_file(Quantized(model, {}, {}), torch.zeros(1, 3))


@pytest.mark.parametrize(("bias", "kernels"), [(0.0, 3), (0.71, 2)])
def test_a_bias_that_the_runtime_would_move_stays_in_floating_point(
    bias: float,
    kernels: int,
    small: tuple[fx.GraphModule, dict[str, Bits], torch.Tensor],
    tmp_path: Path,
) -> None:
    """Kernels on whole numbers round biases to multiples of both scales, which huge weights make coarse."""
    model, policy, x = small
    model = folded(model)
    conv = model.get_submodule("stages.0.0.depthwise")
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    with torch.no_grad():
        conv.weight[0] *= 1000
        conv.bias[0] = bias
    network = quantized(model, dict.fromkeys(policy, Bits(8, 8)), [x])
    assert apart(logits(onnx_file(network, x), x, tmp_path / "o"), network.simulated(), x) < ROUNDED
    used = [node.op_type for node in onnx.load(tmp_path / "o").graph.node]
    assert used.count("QLinearConv") == kernels
