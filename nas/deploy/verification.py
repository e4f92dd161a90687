"""Whether an ONNX file is what its trial promised: the checks that every export passes before it is handed out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.deploy.card import Check, points
from nas.deploy.sheet import INPUT
from nas.evaluators.quantize import Quantized

AGREEMENT = 0.99
"""Examples that the file and the network in torch must see alike, at least; or all but one."""
SHARE, GRAPH = 0.02, 4096
"""How far the file's bytes may be from the formula: a share of it, and so many bytes of graph."""
FUNCTIONS, OPERATION = 2560, 96
"""A network of more than 16 operations has a larger graph: bytes that do not grow with it, and those of each."""
BATCH = 64
"""Examples at a time."""
THREADS = 2


class VerificationFailed(Exception):
    """A file is not what it should be; the message names each check that failed, with its figures."""


@dataclass(frozen=True)
class Verification:
    """What was found of a file."""

    checks: tuple[Check, ...]
    """``accuracy`` and ``agreement`` (0..1), ``file_bytes``."""
    accuracy: float
    """Of the file, through ONNX Runtime."""
    tensor_bytes: int
    """Of weights and other constants in the file."""
    graph_bytes: int
    """All else in it."""

    @property
    def passed(self) -> bool:
        """Whether all checks did."""
        return all(check.passed for check in self.checks)

    def require(self) -> None:
        """Raise `VerificationFailed` unless all checks passed."""
        failed = [check for check in self.checks if not check.passed]
        if failed:
            told = (f"{check.name} is {check.measured:.6g}, allowed: {check.allowed}" for check in failed)
            raise VerificationFailed("; ".join(told))


def verify(
    file: bytes, network: Quantized, inputs: Tensor, labels: Tensor, accuracy: float, size: float
) -> Verification:
    """Compare a file with the network that it was made from, and with what was said of that.

    Args:
        file: from `nas.deploy.onnx_file`.
        network: what it was made from.
        inputs: examples that were not trained on, shape (n, ...), n > 0.
        labels: their classes, shape (n,).
        accuracy: that of the trial, on the same examples (0..1).
        size: bytes by the formula, `model_size_bytes`.
    """
    found = predicted(file, inputs)
    tensors = sum(len(tensor.raw_data) for tensor in onnx.load_from_string(file).graph.initializer)
    margin = SHARE * size + max(GRAPH, FUNCTIONS + OPERATION * _operations(network.model))
    fits = Check(
        "file_bytes",
        len(file),
        f"{max(0, size - margin):.0f} to {size + margin:.0f}",
        abs(len(file) - size) <= margin,
    )
    checks = (*_likeness(found, network, inputs, labels, accuracy), fits)
    return Verification(checks, checks[0].measured, tensors, len(file) - tensors)


def verify_in_torch(
    file: bytes, loaded: nn.Module, network: Quantized, inputs: Tensor, labels: Tensor, accuracy: float
) -> Verification:
    """The same of a file for torch, as it was loaded again; its weights are floats, so its bytes say nothing."""
    checks = _likeness(_answers(loaded, inputs), network, inputs, labels, accuracy)
    return Verification(checks, checks[0].measured, len(file), 0)


def _likeness(
    found: NDArray[np.int64], network: Quantized, inputs: Tensor, labels: Tensor, accuracy: float
) -> tuple[Check, Check]:
    """Whether answers are as accurate as the trial was, and those of the network in torch."""
    expected = _answers(network.simulated(), inputs)
    right = float((found == labels.cpu().numpy()).mean())
    alike = float((found == expected).mean())
    allowed, least = points(len(labels)), min(AGREEMENT, 1 - 1 / len(labels))  # one example, however few there are
    between = f"{accuracy - allowed:.4f} to {accuracy + allowed:.4f}"
    return (
        Check("accuracy", right, between, abs(right - accuracy) <= allowed),
        Check("agreement", alike, f"at least {least:.4f}", alike >= least - 1e-9),
    )


def predicted(file: bytes, inputs: Tensor, threads: int = THREADS) -> NDArray[np.int64]:
    """The class of every example by an ONNX file, shape (n,); -1 where a logit is no number."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    batches = (batch.cpu().numpy() for batch in torch.split(inputs, BATCH))
    return _classes(np.concatenate([session.run(None, {INPUT: batch})[0] for batch in batches]))


def _answers(model: nn.Module, inputs: Tensor) -> NDArray[np.int64]:
    """The class of every example by the network in torch."""
    with torch.inference_mode():
        return _classes(torch.cat([model(batch) for batch in torch.split(inputs, BATCH)]).cpu().numpy())


def _classes(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.where(np.isfinite(logits).all(1), logits.argmax(1), -1)


def _operations(model: nn.Module) -> int:
    """Of a network that records them."""
    return len(model.graph.nodes) if isinstance(model, torch.fx.GraphModule) else 0
