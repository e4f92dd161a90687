"""Training and measuring a torch module, made for many small trainings: data as tensors, few calls a step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name that the field knows
from torch import Tensor, nn

from nas.evaluators.infeasible import Infeasible
from search_spaces.recipe import Recipe

if TYPE_CHECKING:
    from nas.contracts import Report

BATCH = 1024
"""Examples at a time where nothing is learned."""


@contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread inside: sums have one order, and workers side by side do not fight for cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def placed(model: nn.Module, device: str) -> nn.Module:
    """The model on its device; on a CPU channels last, which trains small depthwise networks faster."""
    model = model.to(device)
    if device == "cpu":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    return model


def fit(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    epochs: int,
    rng: np.random.Generator,
    report: Report,
) -> None:
    """Train in place on x (n, channels, height, width) and y (n,).

    An epoch sees every example once, in n // batch_size batches that are as equal as can be, so none is so
    small that batch norm has nothing to average.

    Raises:
        Infeasible: when the loss is not finite any more.
    """
    optimizer = _optimizer(model, recipe)
    steps = max(1, len(y) // recipe.batch_size)
    model.train()
    for epoch in range(epochs):
        order = torch.from_numpy(rng.permutation(len(y))).to(y.device)
        total = torch.zeros((), device=y.device)
        batches = zip(x[order].tensor_split(steps), y[order].tensor_split(steps), strict=True)
        for step, (inputs, labels) in enumerate(batches):
            rate = learning_rate(recipe, (epoch * steps + step) / (epochs * steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = _loss(model, inputs, labels, recipe, rng)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            total += loss.detach()
        mean = total.item() / steps
        if not math.isfinite(mean):
            raise Infeasible(f"diverged: loss is {mean} in epoch {epoch + 1}")
        report(epoch + 1, {"loss": mean})


def measure(model: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Accuracy (0..1) and mean cross entropy in eval mode.

    Raises:
        Infeasible: when the outputs are not finite.
    """
    model.eval()
    with torch.inference_mode():
        logits = torch.cat([model(batch) for batch in torch.split(x, BATCH)]).double()
        loss = F.cross_entropy(logits, y).item()
        accuracy = (logits.argmax(dim=1) == y).double().mean().item()
    if not math.isfinite(loss):
        raise Infeasible(f"the trained network's loss on examples it has not seen is {loss}")
    return accuracy, loss


def learning_rate(recipe: Recipe, done: float) -> float:
    """The rate after the part `done` in [0, 1) of all steps."""
    if recipe.schedule == "cosine":
        return recipe.learning_rate * (1 + math.cos(math.pi * done)) / 2
    return recipe.learning_rate * (1 - done if recipe.schedule == "linear" else 1)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay reaches weights only: norms and biases are vectors."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def _loss(model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Cross entropy with label smoothing, on pairs of examples (Zhang et al. 2018) where mixup is on."""
    smoothing = recipe.label_smoothing
    if recipe.mixup == 0:
        return F.cross_entropy(model(x), y, label_smoothing=smoothing)
    part = float(rng.beta(recipe.mixup, recipe.mixup))
    other = torch.from_numpy(rng.permutation(len(y))).to(y.device)
    logits = model(torch.lerp(x[other], x, part))
    own = F.cross_entropy(logits, y, label_smoothing=smoothing)
    return part * own + (1 - part) * F.cross_entropy(logits, y[other], label_smoothing=smoothing)
