"""Training and measuring a torch module, made for many small trainings: data as tensors, few calls a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- the name that the field knows
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nas.evaluators.infeasible import Infeasible
from search_spaces.modules.build import set_progress
from search_spaces.modules.layers import Auxiliary
from search_spaces.recipe import Recipe

if TYPE_CHECKING:
    from nas.contracts import Report

BATCH = 1024
"""Examples at a time where nothing is learned."""
AUXILIARY = 0.4
"""Weight of the loss of an auxiliary head (Zoph et al. 2018)."""
DECAYED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.Embedding)
"""Modules whose weights weight decay reaches."""


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
    """Train in place on x (n, channels, height, width), or word numbers (n, length), and y (n,).

    An epoch sees every example once, in n // batch_size batches that are as equal as can be, so none is so
    small that batch norm has nothing to average. Where the recipe averages weights, those are left in the end.
    Mixup is for images: there is no word between two word numbers.

    Raises:
        Infeasible: when the loss is not finite any more.
    """
    optimizer = _optimizer(model, recipe)
    averaged = _averaged(model, recipe.ema_decay) if recipe.ema_decay else None
    steps = max(1, len(y) // recipe.batch_size)
    model.train()
    for epoch in range(epochs):
        order = torch.from_numpy(rng.permutation(len(y))).to(y.device)
        total = torch.zeros((), device=y.device)
        batches = zip(x[order].tensor_split(steps), y[order].tensor_split(steps), strict=True)
        for step, (inputs, labels) in enumerate(batches):
            done = (epoch * steps + step) / (epochs * steps)
            set_progress(model, done)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, done)
            loss = _loss(model, inputs, labels, recipe, rng)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if averaged is not None:
                averaged.update_parameters(model)
            total += loss.detach()
        mean = total.item() / steps
        if not math.isfinite(mean):
            raise Infeasible(f"diverged: loss is {mean} in epoch {epoch + 1}")
        report(epoch + 1, {"loss": mean})
    if averaged is not None:
        model.load_state_dict(averaged.module.state_dict())


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
    """Weight decay reaches the weights of convolutions, linear layers and embeddings, and nothing else.

    Biases, norms, positions and tokens do not decay. What is fixed and random stays so.
    """
    learned = [p for p in model.parameters() if p.requires_grad]
    decayed = {id(m.weight) for m in model.modules() if isinstance(m, DECAYED)}
    groups = [
        {"params": [p for p in learned if id(p) in decayed], "weight_decay": recipe.weight_decay},
        {"params": [p for p in learned if id(p) not in decayed], "weight_decay": 0.0},
    ]
    rate = recipe.learning_rate
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True, fused=True)
    if recipe.optimizer == "rmsprop":  # an epsilon of 1e-8 makes giant steps where gradients are still tiny
        return torch.optim.RMSprop(groups, lr=rate, alpha=0.9, momentum=0.9, eps=1e-3, foreach=True)
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def _averaged(model: nn.Module, decay: float) -> AveragedModel:
    """Moving averages of the weights, which forget their start faster than `decay` says; buffers are copied."""

    def move(averages: Sequence[Tensor], weights: Sequence[Tensor], updates: Tensor | int) -> None:
        step = 1 - averaging(decay, int(updates))
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, step)

    return AveragedModel(model, multi_avg_fn=torch.no_grad()(move))


def averaging(decay: float, updates: int) -> float:
    """The part of a moving average that stays in its next update: `decay`, less in the first updates."""
    return min(decay, (1 + updates) / (10 + updates))


def _loss(model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Cross entropy with label smoothing, on pairs of examples (Zhang et al. 2018) where mixup is on.

    Auxiliary heads that the forward pass went through add theirs.
    """
    targets = [(1.0, y)]
    if recipe.mixup:
        part = float(rng.beta(recipe.mixup, recipe.mixup))
        other = torch.from_numpy(rng.permutation(len(y))).to(y.device)
        x = torch.lerp(x[other], x, part)
        targets = [(part, y), (1 - part, y[other])]
    outputs = [(1.0, model(x))]
    heads = [m for m in model.modules() if isinstance(m, Auxiliary)]
    outputs += [(AUXILIARY, head.logits) for head in heads if head.logits is not None]
    losses = [
        weight * share * F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        for weight, logits in outputs
        for share, labels in targets
    ]
    return torch.stack(losses).sum()
