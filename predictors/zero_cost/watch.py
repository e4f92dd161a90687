"""What happens inside a network while it runs, whoever wrote it: seen from the torch functions that it calls.

Networks of our builders call activations as functions, others as modules; both end in the same torch functions,
which a `TorchFunctionMode` sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that the field knows
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import override

ACTIVATIONS = frozenset(
    (
        *("relu", "relu6", "leaky_relu", "prelu", "elu", "celu", "selu", "gelu", "silu", "mish", "softplus"),
        *("hardtanh", "hardswish", "hardsigmoid", "sigmoid", "tanh"),
    )
)
"""Names of torch functions, without the underscore of those that work in place."""
NORMS = frozenset({"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"})
POOLS = frozenset({"mean", "amax", "sum"})
"""Functions that may pool; beside all whose names say so."""
EMBEDDING = "embedding"


class Watch(TorchFunctionMode):
    """Sees every torch function by its name."""

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        settings = kwargs or {}
        first = args[0] if args else settings.get("input")
        if not isinstance(first, Tensor):
            return func(*args, **settings)
        return self.call(getattr(func, "__name__", "").rstrip("_"), first, lambda: func(*args, **settings))

    def call(self, name: str, x: Tensor, run: Callable[[], Any]) -> Any:
        """What the function of `x` gives, or something else instead."""
        return run()


class Patterns(Watch):
    """Notes the sign of whatever enters an activation, and what stands for words."""

    def __init__(self, examples: int) -> None:
        super().__init__()
        self.agreement = torch.zeros(examples, examples, dtype=torch.float64)
        """For each pair of examples, the activation inputs that have the same sign."""
        self.words: Tensor | None = None
        """What the first embedding gave; gradients go no further."""

    @override
    def call(self, name: str, x: Tensor, run: Callable[[], Any]) -> Any:
        if name in ACTIVATIONS and len(x) == len(self.agreement):
            signs = torch.where(x.detach() > 0, 1.0, -1.0).flatten(1)
            self.agreement += (signs.shape[1] + (signs @ signs.T).cpu().double()) / 2
        y = run()
        if name == EMBEDDING and self.words is None:
            self.words = y = y.detach().requires_grad_()
        return y


class Features(Watch):
    """Notes the features before they are pooled, and what norms divide by; words are replaced."""

    def __init__(self, words: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.last: Tensor | None = None
        """The last map or sequence that is no result of pooling; without any, what the last layer is given."""
        self.log_scale = 0.0
        """Sum of the logarithms of the deviations that norms divide by."""
        self._words, self._replaced = words, False

    @override
    def call(self, name: str, x: Tensor, run: Callable[[], Any]) -> Any:
        if name in NORMS:
            self.log_scale += _log_deviation(name, x)
        y = run()
        if name == EMBEDDING and not self._replaced:
            self._replaced, y = True, self._words(y)
        if isinstance(y, Tensor) and y.ndim > 2 and name not in POOLS and "pool" not in name:
            self.last = y
        elif name == "linear" and (self.last is None or self.last.ndim == 2):
            self.last = x
        return y


class Flow(Watch):
    """Makes the network as good as linear: no norms, nothing that saturates, every token attended to alike."""

    @override
    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention and len(args) >= 3:
            query, key, *others = args
            args = (torch.zeros_like(query), key.detach(), *others)
        return super().__torch_function__(func, types, args, kwargs)

    @override
    def call(self, name: str, x: Tensor, run: Callable[[], Any]) -> Any:
        return x if name in NORMS or name == "tanh" else run()


def _log_deviation(name: str, x: Tensor) -> float:
    """Of the mean variance: of each channel for batch norms, of each example or token for others."""
    axes = {"batch_norm": [0, *range(2, x.ndim)], "layer_norm": [-1], "rms_norm": [-1]}
    return 0.5 * float(x.var(dim=axes.get(name, [*range(1, x.ndim)]), unbiased=False).mean().log())
