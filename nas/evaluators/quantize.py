"""Quantization after training, simulated in floating point ("fake"): what a policy does to accuracy.

Weights: symmetric, one scale an output channel. Activations: affine, one scale and zero point a tensor,
unsigned 8-bit, calibrated on training examples. Krishnamoorthi 2018, "Quantizing deep convolutional networks
for efficient inference"; Jacob et al. 2018, "Quantization and training of neural networks for efficient
integer-arithmetic-only inference" (section 2.1: the affine scheme and its exact zero).

A batch norm folded into the convolution before it multiplies each output channel by a constant. Codes do not
change by that (the scales do), so quantizing the weights unfolded measures the folded, packed network.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from search_spaces.quantization import FLOAT_BITS, Bits

ACTIVATION_LEVELS = 255
"""Codes of an activation are 0 to 255."""


def weight_codes(weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Integer codes and the scales of the output channels; ``codes * scales`` is the quantized weight.

    Codes have the weight's shape (out, ...) and lie in ``-(2**(bits-1) - 1) .. 2**(bits-1) - 1``; 2 bits are
    -1, 0, 1. Scales have shape (out, 1, ...): the channel's largest magnitude gets the largest code. A
    channel of zeros has scale 1.
    """
    limit = 2 ** (bits - 1) - 1
    largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
    scales = torch.where(largest > 0, largest / limit, torch.ones_like(largest))
    return (weight / scales).round().clamp(-limit, limit).to(torch.int8), scales


def fake_quantize_weight(weight: Tensor, bits: int) -> Tensor:
    """The weight that `bits` bits can tell, in floating point; 32 bits tell all."""
    if bits >= FLOAT_BITS:
        return weight
    codes, scales = weight_codes(weight, bits)
    return codes * scales


def activation_grid(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point (0..255) of activations between `low` and `high`; zero is always exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / ACTIVATION_LEVELS or 1.0
    return scale, round(-low / scale)


def activation_codes(x: Tensor, scale: float, zero_point: int) -> Tensor:
    """Codes 0..255 of the same shape; values outside of the calibrated range saturate."""
    return ((x / scale).round() + zero_point).clamp(0, ACTIVATION_LEVELS).to(torch.uint8)


def fake_quantize_activation(x: Tensor, scale: float, zero_point: int) -> Tensor:
    """The activations that 8 bits can tell, in floating point."""
    return (activation_codes(x, scale, zero_point).to(x.dtype) - zero_point) * scale


def calibrate(
    model: nn.Module, modules: Sequence[str], batches: Sequence[Tensor]
) -> dict[str, tuple[float, float]]:
    """Smallest and largest input of every named module over `batches`, in eval mode."""
    ranges: dict[str, tuple[float, float]] = {}

    def observer(name: str) -> RemovableHandle:
        def observe(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, inputs[0].min().item()), max(high, inputs[0].max().item()))

        return model.get_submodule(name).register_forward_pre_hook(observe)

    handles = [observer(name) for name in modules]
    model.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return ranges


def quantized(model: nn.Module, policy: Mapping[str, Bits], batches: Sequence[Tensor]) -> nn.Module:
    """A copy of a trained model that computes as the policy's integers would, in eval mode.

    Args:
        model: left as it is.
        policy: bits by module name, for convolutions and linear layers.
        batches: training inputs, each (n, channels, height, width), that calibrate activations.
    """
    model = copy.deepcopy(model).eval()
    chosen = [name for name, bits in policy.items() if bits.activation < FLOAT_BITS]
    ranges = calibrate(model, chosen, batches) if chosen else {}
    for name, bits in policy.items():
        module = model.get_submodule(name)
        assert isinstance(module, nn.Conv2d | nn.Linear), f"{name} has no weights to quantize"
        with torch.no_grad():
            module.weight.copy_(fake_quantize_weight(module.weight, bits.weight))
        if name in ranges:
            _quantize_input(module, *activation_grid(*ranges[name]))
    return model


def _quantize_input(module: nn.Module, scale: float, zero_point: int) -> None:
    def quantize(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return fake_quantize_activation(inputs[0], scale, zero_point)

    module.register_forward_pre_hook(quantize)
