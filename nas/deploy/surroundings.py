"""What a file was made with: versions and hardware."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import metadata, version
from pathlib import Path

PACKAGES = ("nas-service", "torch", "onnx", "onnxruntime", "numpy")


def versions() -> Mapping[str, str]:
    """Of Python and of the packages that a file depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def hardware(device: str = "cpu") -> Mapping[str, str]:
    """Of this machine; `device` is what was trained on here."""
    found = {"system": f"{platform.system()} {platform.machine()}", "processor": _processor()}
    found["cores"] = str(os.cpu_count() or 1)
    if device == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name()
    return found


def software_licence() -> str:
    """The licence of this software, as its package says."""
    return str(metadata("nas-service").json["license_expression"])


def _processor() -> str:
    """What the processor is called, where the system says so."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown"
