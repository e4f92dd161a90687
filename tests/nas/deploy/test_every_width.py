"""One trained network of every family, at every bit width: its file is as small, as accurate and the same.

Networks that read text cannot be trained yet; what their files compute is in `test_onnx_file`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from networks import declared
from torch import fx, nn

from nas.deploy.card import POINTS
from nas.deploy.onnx_file import onnx_file
from nas.deploy.verification import AGREEMENT, predicted
from nas.evaluators import datasets
from nas.evaluators.qat import finetuned
from nas.evaluators.quantize import by_channel, quantized
from nas.evaluators.training import TrainingConfig
from nas.trial import Proposal
from search_spaces.quantization import FLOAT_BITS, TERNARY, Bits
from search_spaces.recipe import Recipe

SHARE, GRAPH = 0.02, 4096
"""Of the formula, and bytes beside it."""

STAGES: dict[str, list[dict[str, Any]]] = {
    "staged": [{"block": "basic", "width": 32, "depth": 2}],
    "transformer": [{"width": 64, "depth": 1, "heads": 2, "mlp_ratio": 2}],
    "mlp": [{"depth": 2, "hidden": 32}],
}
EDGES = {"nodes": 3, "operations": ["nor_conv_3x3"], "width": 16, "cells": 1, "stages": 2}
BLOCKS = {"blocks": 1, "operations": ["identity"], "combine": "add"}
CELL = {
    "cell": "blocks",
    "skeleton": "cifar",
    "cells": 1,
    "width": 40,
    "stem_multiplier": 1,
    "normal": BLOCKS,
    "reduction": {**BLOCKS, "operations": ["conv3"]},
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "staged": {"stem": {"width": 16}, "stages": STAGES["staged"]},
    "cell of edges": EDGES,
    "cell of blocks": CELL,
    "transformer": {"stem": {"patch": 2}, "stages": STAGES["transformer"]},
    "mlp": {"projection": "random", "latent": 64, "stages": STAGES["mlp"]},
}
RECIPE = {
    "optimizer": "adamw",
    "learning_rate": 5e-3,
    "epochs": 4,
    "batch_size": 64,
    "qat_epochs": 1,
    "qat_learning_rate": 2e-3,
}
WIDTHS = (2, 3, 4, 8, 16, 32, *TERNARY)


@cache
def trained(family: str) -> tuple[fx.GraphModule, Recipe, datasets.Splits]:
    """A network in floating point, and the digits that it was trained on."""
    document = {"family": family.partition(" ")[0], "input": [1, 8, 8], "classes": 10, "recipe": RECIPE}
    space = declared({**document, "architecture": ARCHITECTURES[family]})
    arch = space.sample(1, 0)[0]
    evaluator = TrainingConfig(dataset="digits", train_limit=600, device="cpu").bind(space, 0)
    model = evaluator.train(Proposal(arch), lambda step, metrics: None).network.model
    assert isinstance(model, fx.GraphModule)
    return model, space.recipe(arch), evaluator.splits()


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_file_is_what_was_measured(family: str, width: int | str) -> None:
    model, recipe, splits = trained(family)
    bits = Bits(width, FLOAT_BITS if width == FLOAT_BITS else 8)
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    seen, labels, x, y = (
        torch.from_numpy(a) for part in (splits.train, splits.validation) for a in (part.x, part.y)
    )
    ready = quantized(model, dict.fromkeys(layers, bits), [seen[:64]])
    if width not in (8, 16, 32):
        rng = np.random.default_rng(0)
        ready = finetuned(ready, seen, labels, recipe, 1, rng, lambda step, metrics: None)
    with torch.inference_mode():
        expected = ready.simulated()(x).argmax(1)
    file = onnx_file(ready, x[:1])
    found = torch.from_numpy(predicted(file, x))
    assert (found == expected).double().mean() >= AGREEMENT
    accuracies = [float((classes == y).double().mean()) for classes in (found, expected)]
    assert abs(accuracies[0] - accuracies[1]) <= POINTS
    named = dict(ready.model.named_parameters())
    weights = {f"{layer}.weight": by_channel(ready.model.get_submodule(layer)) for layer in layers}
    size = sum(bits.stored.bytes(w.numel(), len(w)) for w in weights.values())
    size += sum(4 * p.numel() for name, p in named.items() if name not in weights)
    assert abs(len(file) - size) <= SHARE * size + GRAPH
