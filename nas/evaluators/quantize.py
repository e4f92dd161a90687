"""Quantization after training, simulated in floating point ("fake"): what a policy does to accuracy.

Weights are what `search_spaces.schemes` makes of them, the batch norms folded into them first. Activations:
affine, one scale and zero point a tensor, unsigned, calibrated on training examples. Krishnamoorthi 2018,
"Quantizing deep convolutional networks for efficient inference"; Jacob et al. 2018, "Quantization and training of
neural networks for efficient integer-arithmetic-only inference" (section 2.1: the affine scheme, its exact zero).

Gradients go straight through what is rounded (Bengio et al. 2013, "Estimating or propagating gradients through
stochastic neurons"): 1 inside the range, 0 where it saturates.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that the field knows
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.utils.hooks import RemovableHandle
from typing_extensions import override

from nas.evaluators.infeasible import Infeasible
from nas.evaluators.observers import Observer, Range, observer
from search_spaces.quantization import FLOAT_BITS, Bits

AT_ONCE = 2**16
"""Activations that are rounded at a time where nothing is learnt, so that they stay in a core's cache."""


class _StraightThrough(torch.autograd.Function):
    """The second argument, with the gradient of the first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rounded: Tensor) -> Tensor:
        return rounded.clone()

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Rounded(torch.autograd.Function):
    """Activations rounded to a grid; gradients go through those inside of its range."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grid: Grid) -> Tensor:
        steps = (x / grid.scale).round_()
        ctx.save_for_backward((steps >= grid.low) & (steps <= grid.high))
        return steps.clamp_(grid.low, grid.high).mul_(grid.scale)

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None


def fake_quantize_weight(weight: Tensor, bits: Bits) -> Tensor:
    """The weight (outputs, ...) that these bits can tell, in floating point; 32 bits tell all.

    Its range is that of the weight, so gradients go through all of it.
    """
    if bits.weight == FLOAT_BITS:
        return weight
    with torch.no_grad():
        rounded: Tensor = bits.stored.fake(weight)
    found: Tensor = _StraightThrough.apply(weight, rounded)  # type: ignore[no-untyped-call]
    return found


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

    @property
    def low(self) -> int:
        """The lowest step from 0."""
        return -self.zero

    @property
    def high(self) -> int:
        """The highest step from 0."""
        return (1 << self.bits) - 1 - self.zero

    def codes(self, x: Tensor) -> Tensor:
        """Codes of the same shape; values outside of the range saturate."""
        return ((x / self.scale).round() + self.zero).clamp(0, 2**self.bits - 1).to(torch.int32)

    def fake(self, x: Tensor, *, in_place: bool = False) -> Tensor:
        """The activations that the codes can tell, in floating point; `in_place`: nobody else needs `x`."""
        if x.requires_grad and torch.is_grad_enabled():
            found: Tensor = _Rounded.apply(x, self)  # type: ignore[no-untyped-call]
            return found
        rounded = x if in_place else torch.empty_like(x)
        examples = max(1, AT_ONCE * len(x) // max(1, x.numel()))
        for source, target in zip(torch.split(x, examples), torch.split(rounded, examples), strict=True):
            torch.div(source, self.scale, out=target).round_().clamp_(self.low, self.high).mul_(self.scale)
        return rounded

    @classmethod
    def observed(cls, seen: Observer, bits: int) -> Grid:
        """For the activations that were seen."""

        def error(x: Tensor, span: Range) -> float:
            return (cls.spanning(*span, bits).fake(x) - x).double().square().sum().item()

        return cls.spanning(*seen.range(error), bits)


def calibrate(model: nn.Module, observers: Mapping[str, Observer], batches: Sequence[Tensor]) -> None:
    """Show the inputs of every named module over `batches` to its observer, in eval mode.

    Raises:
        ValueError: when there is no example, one has entries that are not finite, they are of several shapes, or
            of a shape that the network cannot read.
        Infeasible: when an input of a module is not finite.
    """
    batches = [batch for batch in batches if len(batch)]
    _check_examples(batches)

    def watched(name: str, seen: Observer) -> RemovableHandle:
        def observe(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = (extreme.item() for extreme in inputs[0].aminmax())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise Infeasible(f"the trained network's activations before {name} are from {low} to {high}")
            seen.observe(inputs[0], low, high)

        return model.get_submodule(name).register_forward_pre_hook(observe)

    handles = [watched(name, seen) for name, seen in observers.items()]
    model.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                model(batch)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError) as error:
        shape = list(batches[0].shape[1:])
        reason = str(error).partition("\n")[0]
        raise ValueError(f"the network cannot read calibration examples of shape {shape}: {reason}") from error
    finally:
        for handle in handles:
            handle.remove()


def _check_examples(batches: Sequence[Tensor]) -> None:
    """Raises `ValueError` for what no network can be calibrated with."""
    shapes = {tuple(batch.shape[1:]): list(batch.shape[1:]) for batch in batches}
    if not shapes:
        raise ValueError("calibration needs at least one example")
    if len(shapes) > 1:
        raise ValueError(f"calibration examples have several shapes: {', '.join(map(str, shapes.values()))}")
    if not all(batch.isfinite().all() for batch in batches):
        raise ValueError("examples to calibrate with have NaN or infinite entries")


def folded(model: fx.GraphModule) -> fx.GraphModule:
    """A copy in eval mode without the batch norms that follow a convolution: they are in its weight and bias."""
    model = copy.deepcopy(model).eval()
    for node in list(model.graph.nodes):
        norm, conv = _called(model, node), _called(model, node.args[0] if node.args else None)
        if not (isinstance(norm, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d) and len(node.args[0].users) == 1):
            continue
        assert norm.running_mean is not None, f"{node.target} has no constants to fold"
        assert norm.running_var is not None
        conv.weight, bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        conv.bias = bias
        node.replace_all_uses_with(node.args[0])
        model.graph.erase_node(node)
        model.delete_submodule(node.target)
    model.recompile()
    return model


def _called(model: fx.GraphModule, node: object) -> nn.Module | None:
    """The module that a node calls."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    return model.get_submodule(str(node.target))


def sqnr(model: nn.Module, policy: Mapping[str, Bits]) -> dict[str, float]:
    """How little each module's weight loses by its bits: the signal to quantization noise ratio in decibels.

    ``10 log10(sum w**2 / sum (w - quantized w)**2)`` (Krishnamoorthi 2018); infinite where nothing is lost.
    """
    found = {}
    for name, bits in policy.items():
        weight = by_channel(model.get_submodule(name)).detach()
        noise = (weight - fake_quantize_weight(weight, bits)).double().square().sum().item()
        signal = weight.double().square().sum().item()
        found[name] = 10 * math.log10(signal / noise) if noise else math.inf
    return found


@dataclass(frozen=True)
class Quantized:
    """A trained network and all that says which integers it would compute with."""

    model: nn.Module
    """In floating point and eval mode, batch norms folded unless nothing is quantized; never changed."""
    policy: Mapping[str, Bits]
    """Bits by the names of modules that have weights: convolutions, linear layers and embeddings."""
    grids: Mapping[str, Grid]
    """What becomes of the inputs of modules, by name, where those are quantized."""

    def simulated(self) -> nn.Module:
        """A network that computes in floating point what the integers would."""
        model = copy.deepcopy(self.model)
        for name, bits in self.policy.items():
            with torch.no_grad():
                weight = by_channel(model.get_submodule(name))
                weight.copy_(fake_quantize_weight(weight, bits))
        alone = read_alone(model) if isinstance(model, fx.GraphModule) else frozenset()
        for name, grid in self.grids.items():
            read_quantized(model.get_submodule(name), grid, in_place=name in alone)
        return model


def quantized(model: nn.Module, policy: Mapping[str, Bits], batches: Sequence[Tensor]) -> Quantized:
    """Quantize a trained network after training.

    Args:
        model: left as it is.
        policy: bits by module name; nothing is folded where all are 32.
        batches: training inputs that calibrate activations, each (n, channels, height, width) or (n, length).

    Raises:
        ValueError: when there is nothing to calibrate with, or it is not finite.
        Infeasible: when activations to calibrate are not finite.
    """
    model = frozen(model, policy)
    read = {
        name: bits
        for name, bits in policy.items()
        if bits.activation < FLOAT_BITS and not is_table(model.get_submodule(name))
    }
    seen = {name: observer(bits.observer) for name, bits in read.items()}
    if seen:
        calibrate(model, seen, batches)
    grids = {name: Grid.observed(seen[name], bits.activation) for name, bits in read.items()}
    return Quantized(model, policy, grids)


def frozen(model: nn.Module, policy: Mapping[str, Bits]) -> nn.Module:
    """A copy in eval mode, in the form that `Quantized.model` has."""
    if all(bits.weight == FLOAT_BITS for bits in policy.values()) or not isinstance(model, fx.GraphModule):
        return copy.deepcopy(model).eval()
    return folded(model)


def by_channel(module: nn.Module) -> Tensor:
    """A view of the weight, output channels first; those of a table are its columns."""
    assert isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding), f"{module} has no weights to quantize"
    return module.weight.T if is_table(module) else module.weight


def is_table(module: nn.Module) -> bool:
    """Whether it reads rows of a table: numbers of words come in, which nothing quantizes."""
    return isinstance(module, nn.Embedding)


def read_alone(model: fx.GraphModule) -> frozenset[str]:
    """Names of modules that alone read their input, which is memory of its own: it may be overwritten.

    To write large activations elsewhere takes as long as to round them.
    """
    alone: dict[str, bool] = {}
    for node in model.graph.nodes:
        if node.op == "call_module" and node.args and isinstance(node.args[0], fx.Node):
            name, source = str(node.target), node.args[0]
            fresh = source.target in _FRESH or isinstance(_called(model, source), nn.Conv2d | nn.Linear)
            alone[name] = fresh and len(source.users) == 1 and name not in alone  # one that is called twice is not
    return frozenset(name for name, holds in alone.items() if holds)


_FRESH = frozenset({F.relu, F.relu6, F.hardswish, F.silu, F.gelu, torch.add, torch.mul, torch.cat})
"""Functions that write what they give to new memory."""


def read_quantized(module: nn.Module, grid: Grid, *, in_place: bool = False) -> RemovableHandle:
    """From now on the module reads what the grid can tell of its input."""

    def quantize(_: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        return grid.fake(inputs[0], in_place=in_place)

    return module.register_forward_pre_hook(quantize)
