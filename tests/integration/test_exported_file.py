"""An exported file runs where only ONNX Runtime and NumPy are installed."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.deploy.onnx_file import onnx_file, random_examples
from nas.evaluators.quantize import quantized
from search_spaces import load_space
from search_spaces.declared import DeclaredSpace
from search_spaces.quantization import Bits

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
PROGRAM = """
import sys, numpy, onnxruntime
for module in ("torch", "onnx", "nas", "search_spaces"):
    assert module not in sys.modules
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
numpy.save("found.npy", session.run(["logits"], {"input": numpy.load("x.npy")})[0])
"""


def test_a_file_runs_in_a_fresh_environment(tmp_path: Path) -> None:
    fresh = tmp_path / "venv"
    venv.create(fresh, with_pip=True)
    python = fresh / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-c", CONSTRAINTS]
    done = subprocess.run([*install, "onnxruntime", "numpy"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot install onnxruntime here: {done.stderr.strip().splitlines()[-1]}")

    space = load_space("digits-tiny")
    assert isinstance(space, DeclaredSpace)
    arch = space.sample(1, 0)[0]
    x = random_examples(space, 16)
    policy = dict.fromkeys(space.policy(arch), Bits(8, 8)) | {"classifier": Bits("ternary_3of4", 32)}
    network = quantized(space.build(arch), policy, [x])
    (tmp_path / "model.onnx").write_bytes(onnx_file(network, x))
    np.save(tmp_path / "x.npy", x.numpy())
    subprocess.run([python, "-I", "-c", PROGRAM], cwd=tmp_path, check=True)
    with torch.no_grad():
        expected = network.simulated()(x).numpy()
    assert np.abs(np.load(tmp_path / "found.npy") - expected).max() < 0.05 * np.abs(expected).max()
