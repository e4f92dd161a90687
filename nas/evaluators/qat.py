"""Quantization-aware training: a network that was trained in floating point learns to live with its integers.

Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference" (section 3.2), Jacob et al.
2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference" (section 3).
The forward pass computes what the integers would; gradients go straight through what is rounded, to weights in
floating point, from which the integers are fitted again at each step. Batch norms are folded and their statistics
frozen from the start, so training and measuring compute the same. Weights are not averaged over steps: averages
lie on the borders between codes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from nas.evaluators.fitting import fit
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.quantize import Quantized, by_channel, fake_quantize_weight, is_table, read_quantized
from search_spaces.quantization import FLOAT_BITS, Bits
from search_spaces.recipe import Recipe

if TYPE_CHECKING:
    from nas.contracts import Report


def finetuned(
    network: Quantized,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    epochs: int,
    rng: np.random.Generator,
    report: Report,
) -> Quantized:
    """The network after so many epochs of quantization-aware training on x (n, ...) and y (n,).

    By the recipe with `qat_learning_rate`, without averaging; the grids of activations stay as they were
    calibrated. Where nothing is quantized, or for no epochs, the network itself.

    Raises:
        Infeasible: when the loss is not finite any more.
    """
    policy = {name: bits for name, bits in network.policy.items() if bits.weight != FLOAT_BITS}
    if not epochs or not policy:
        return network
    training = _Training(network, policy)
    again = replace(recipe, learning_rate=recipe.qat_learning_rate, ema_decay=0.0)
    try:
        fit(training, x, y, again, epochs, rng, report)
    except Infeasible as reason:
        raise Infeasible(f"quantization-aware training {reason}") from None
    return replace(network, model=training.float_model())


class _Training(nn.Module):
    """Weights in floating point, and a forward pass by the integers that they become."""

    def __init__(self, network: Quantized, policy: Mapping[str, Bits]) -> None:
        super().__init__()
        self.model = copy.deepcopy(network.model)
        self.policy = policy
        self._hooks = [
            read_quantized(self.model.get_submodule(name), grid) for name, grid in network.grids.items()
        ]

    @override
    def forward(self, x: Tensor) -> Tensor:
        weights = {f"{name}.weight": self._weight(name, bits) for name, bits in self.policy.items()}
        found: Tensor = functional_call(self.model, weights, (x,))
        return found

    @override
    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def float_model(self) -> nn.Module:
        """The model alone, in eval mode."""
        for hook in self._hooks:
            hook.remove()
        return self.model.eval()

    def _weight(self, name: str, bits: Bits) -> Tensor:
        module = self.model.get_submodule(name)
        weight = fake_quantize_weight(by_channel(module), bits)
        return weight.T if is_table(module) else weight
