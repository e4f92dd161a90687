"""Quantization after training, simulated in floating point ("fake"): what a policy does to accuracy.

Weights: one scale an output channel, symmetric, or affine with a zero point a channel, or ternary.
Activations: affine, one scale and zero point a tensor, unsigned, calibrated on training examples.
Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference"; Jacob et al. 2018,
"Quantization and training of neural networks for efficient integer-arithmetic-only inference" (section 2.1: the
affine scheme and its exact zero); Li and Liu 2016, "Ternary weight networks".

A batch norm folded into the convolution before it multiplies each output channel by a constant. Codes do not
change by that but for their sign (the scales do), so quantizing the weights unfolded measures the folded, packed
network.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nas.evaluators.infeasible import Infeasible
from search_spaces.quantization import FLOAT_BITS, TERNARY, Bits

THRESHOLD = 0.7
"""Ternary weights are 0 up to this part of their channel's mean magnitude (Li and Liu 2016, equation 6)."""


@dataclass(frozen=True, eq=False)
class Codes:
    """A packed weight: ``(codes - zeros) * scales`` is what it stands for."""

    codes: Tensor
    """Integers of the weight's shape (out, ...): signed and around 0, or from 0 to ``2**bits - 1``."""
    scales: Tensor
    """Shape (out, 1, ...)."""
    zeros: Tensor
    """The codes of 0, shape (out, 1, ...); all 0 unless the weight is asymmetric."""

    def weight(self) -> Tensor:
        """The quantized weight in floating point."""
        return (self.codes - self.zeros) * self.scales


def weight_codes(weight: Tensor, bits: Bits) -> Codes:
    """The integers that a weight (out, ...) is packed as; a channel of zeros has scale 1.

    Symmetric codes of b bits lie in ``-(2**(b-1) - 1) .. 2**(b-1) - 1``, the channel's largest magnitude at the
    largest; asymmetric ones in ``0 .. 2**b - 1``, the channel's range with 0 at the ends, and 0 exact. Ternary
    codes are -1, 0, 1.
    """
    inner = tuple(range(1, weight.ndim))
    if bits.weight == TERNARY:
        return _ternary(weight, inner)
    depth = int(bits.weight)
    if bits.scheme == "asymmetric":
        levels = 2**depth - 1
        low, high = weight.amin(inner, keepdim=True).clamp(max=0), weight.amax(inner, keepdim=True).clamp(min=0)
        scales = _scales(high - low, levels)
        zeros = (-low / scales).round().to(torch.int32)
        codes = ((weight / scales).round().to(torch.int32) + zeros).clamp(0, levels)
        return Codes(codes, scales, zeros)
    limit = 2 ** (depth - 1) - 1
    scales = _scales(weight.abs().amax(inner, keepdim=True), limit)
    codes = (weight / scales).round().clamp(-limit, limit).to(torch.int32)
    return Codes(codes, scales, torch.zeros_like(scales, dtype=torch.int32))


def _ternary(weight: Tensor, inner: tuple[int, ...]) -> Codes:
    magnitude = weight.abs()
    large = magnitude > THRESHOLD * magnitude.mean(inner, keepdim=True)
    count = large.sum(inner, keepdim=True)
    scales = torch.where(count > 0, (magnitude * large).sum(inner, keepdim=True) / count.clamp(min=1), 1.0)
    codes = (weight.sign() * large).to(torch.int32)
    return Codes(codes, scales, torch.zeros_like(scales, dtype=torch.int32))


def _scales(span: Tensor, steps: int) -> Tensor:
    """The size of one of `steps` equal steps through each span."""
    steps_of = span / steps
    return torch.where(steps_of > 0, steps_of, torch.ones_like(span))


def fake_quantize_weight(weight: Tensor, bits: Bits) -> Tensor:
    """The weight that these bits can tell, in floating point; 32 bits tell all."""
    return weight if bits.weight == FLOAT_BITS else weight_codes(weight, bits).weight()


@dataclass(frozen=True)
class Grid:
    """The integers that activations become: ``(code - zero) * scale``, codes from 0 to ``2**bits - 1``."""

    scale: float
    zero: int
    bits: int

    @classmethod
    def spanning(cls, low: float, high: float, bits: int) -> Grid:
        """For activations between `low` and `high`; zero is always exact."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / (2**bits - 1) or 1.0
        return cls(scale, round(-low / scale), bits)

    def codes(self, x: Tensor) -> Tensor:
        """Codes of the same shape; values outside of the range saturate."""
        return ((x / self.scale).round() + self.zero).clamp(0, 2**self.bits - 1).to(torch.int32)

    def fake(self, x: Tensor) -> Tensor:
        """The activations that the codes can tell, in floating point."""
        return (self.codes(x).to(x.dtype) - self.zero) * self.scale


def calibrate(
    model: nn.Module, modules: Sequence[str], batches: Sequence[Tensor]
) -> dict[str, tuple[float, float]]:
    """Smallest and largest input of every named module over `batches` (and 0), in eval mode.

    Raises:
        Infeasible: when an input is not finite.
    """
    ranges: dict[str, tuple[float, float]] = {}

    def observer(name: str) -> RemovableHandle:
        def observe(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = inputs[0].min().item(), inputs[0].max().item()
            if not (math.isfinite(low) and math.isfinite(high)):
                raise Infeasible(f"the trained network's activations before {name} are from {low} to {high}")
            before = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(before[0], low), max(before[1], high))

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
        policy: bits by module name, for convolutions, linear layers and embeddings.
        batches: training inputs that calibrate activations, each (n, channels, height, width) or (n, length).

    Raises:
        Infeasible: when activations to calibrate are not finite.
    """
    model = copy.deepcopy(model).eval()
    modules = {name: model.get_submodule(name) for name in policy}
    reading = [n for n, b in policy.items() if b.activation < FLOAT_BITS and not _is_table(modules[n])]
    ranges = calibrate(model, reading, batches) if reading else {}
    for name, bits in policy.items():
        module = modules[name]
        assert isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding), f"{name} has no weights to quantize"
        with torch.no_grad():  # a table's output channels are its columns
            by_channel = module.weight.T if _is_table(module) else module.weight
            by_channel.copy_(fake_quantize_weight(by_channel, bits))
        if name in ranges:
            _quantize_input(module, Grid.spanning(*ranges[name], bits.activation))
    return model


def _is_table(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding)


def _quantize_input(module: nn.Module, grid: Grid) -> None:
    def quantize(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return grid.fake(inputs[0])

    module.register_forward_pre_hook(quantize)
