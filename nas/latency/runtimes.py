"""What runs networks on this host: ONNX Runtime and torch, on the CPU, with so many threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Literal, TypeAlias

from nas.latency.protocol import Run
from search_spaces.architecture import Architecture
from search_spaces.declared import DeclaredSpace

RuntimeName: TypeAlias = Literal["onnxruntime", "torch"]
Load: TypeAlias = Callable[[int], Run]
"""Loads a network into its runtime, with so many threads; to be called within `threaded`."""

LIBRARIES: dict[RuntimeName, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime", "onnx", "numpy"),
    "torch": ("torch",),
}
"""What the time of a network depends on, beside the device."""


def prepared(runtime: RuntimeName, space: DeclaredSpace, arch: Architecture, batch: int) -> Load:
    """The network with random weights, to be loaded: it runs once on `batch` random examples.

    ONNX Runtime runs the file that would be exported, its policy applied. Torch runs floats, whatever the policy
    is, with batch norms folded: it has no integer kernels for most policies.
    """
    return (_onnx if runtime == "onnxruntime" else _torch)(space, arch, batch)


def versions(runtime: RuntimeName) -> dict[str, str]:
    """Of the libraries that a runtime's times depend on."""
    return {name: version(name) for name in LIBRARIES[runtime]}


@contextmanager
def threaded(runtime: RuntimeName, threads: int) -> Iterator[None]:
    """In the body torch calculates in so many threads; ONNX Runtime is told when it loads a network."""
    if runtime != "torch":
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _onnx(space: DeclaredSpace, arch: Architecture, batch: int) -> Load:
    import onnxruntime

    from nas.deploy.onnx_file import random_examples, untrained_file

    file, x = untrained_file(space, arch), random_examples(space, batch).numpy()

    def load(threads: int) -> Run:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        inputs = {session.get_inputs()[0].name: x}
        return lambda: session.run(None, inputs)

    return load


def _torch(space: DeclaredSpace, arch: Architecture, batch: int) -> Load:
    import torch

    from nas.deploy.onnx_file import random_examples
    from nas.evaluators.quantize import folded
    from predictors.threads import seeded_torch

    with seeded_torch(0):
        model = folded(space.build(arch))  # type: ignore[arg-type]
    x = random_examples(space, batch)

    def run() -> object:
        with torch.inference_mode():
            return model(x)

    return lambda threads: run
