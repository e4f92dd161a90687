"""Small networks of every family that look trained, and what ONNX Runtime makes of their files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from search_spaces import Architecture, load_space
from search_spaces.declared import DeclaredSpace
from search_spaces.quantization import TERNARY, Bits

DEPTHS = (2, 3, 4, 8, 16)
ANY_BITS = [
    Bits(weight, activation, scheme, granularity, 8 if granularity == "group" else 0)
    for weight in (*DEPTHS, *TERNARY)
    for activation in (4, 8, 16, 32)
    for scheme in (("symmetric",) if weight in TERNARY else ("symmetric", "asymmetric"))
    for granularity in ("tensor", "channel", "group")
]

VIT = {
    "family": "transformer",
    "input": [3, 16, 16],
    "classes": 10,
    "architecture": {"stem": {"patch": 4}, "stages": [{"width": 48, "depth": 2, "heads": 3, "mlp_ratio": 2}]},
}
RESNAS = {
    "family": "transformer",
    "input": [3, 32, 32],
    "classes": 10,
    "architecture": {
        "stem": {"patch": 2, "convolutions": {"width": 8, "stride": 2}},
        "stages": [
            {"width": 32, "depth": 1, "heads": 2, "mlp_ratio": 2},
            {"width": 48, "depth": 1, "heads": 3, "mlp_ratio": 2},
        ],
    },
}
TEXT = {
    "family": "transformer",
    "input": {"vocabulary": 200, "length": 12, "positions": 16, "segments": 2},
    "classes": 4,
    "architecture": {
        "norm": "post",
        "stages": [{"width": 32, "depth": 2, "heads": 2, "mlp_ratio": 2}],
        "head": {"pooler": True},
    },
}
STAGED = {
    "family": "staged",
    "input": [3, 32, 32],
    "classes": 10,
    "architecture": {
        "stem": {"width": 16, "activation": "hard_swish"},
        "stages": [
            {"block": "depthwise_separable", "width": 16, "depth": 1},
            {
                "block": "inverted_residual",
                "width": 24,
                "depth": 2,
                "kernel": 5,
                "expansion": 3,
                "stride": 2,
                "squeeze_excite": True,
                "activation": "hard_swish",
            },
            {"block": "bottleneck", "width": 48, "depth": 2, "stride": 2},
            {"block": "basic", "width": 48, "depth": 1},
        ],
    },
}
MLP = {
    "family": "mlp",
    "input": [1, 14, 14],
    "classes": 10,
    "architecture": {"projection": "random", "latent": 96, "stages": [{"depth": 2, "hidden": 24}]},
}
FAMILIES: dict[str, dict[str, Any] | str] = {
    "staged": STAGED,
    "digits": "digits-tiny",
    "nas-bench-201": "nas-bench-201",
    "nasnet": "fashion-cell",
    "vit": VIT,
    "vit-resnas": RESNAS,
    "text": TEXT,
    "mlp": MLP,
}


def declared(document: dict[str, Any] | str) -> DeclaredSpace:
    space = load_space(document)
    assert isinstance(space, DeclaredSpace)
    return space


def trained(space: DeclaredSpace, arch: Architecture, seed: int = 0) -> fx.GraphModule:
    """With random biases, scales and statistics, as training leaves them; in eval mode."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = space.build(arch).eval()
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    assert isinstance(model, fx.GraphModule)
    return model


def logits(file: bytes, x: Tensor, optimized: Path | None = None) -> NDArray[np.float32]:
    """Through ONNX Runtime, whose own version of the graph goes to a file."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"input": x.numpy()})[0]


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def apart(found: NDArray[np.float32], model: nn.Module, x: Tensor) -> float:
    """The greatest difference of a logit, beside the largest logit."""
    with torch.no_grad():
        expected = model(x).numpy()
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    return float(np.abs(found - expected).max() / np.abs(expected).max())
