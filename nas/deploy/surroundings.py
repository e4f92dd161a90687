"""What weights and files were made with: versions and hardware."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import metadata, version

from nas.hardware import processor

PACKAGES = ("nas-service", "torch", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Surroundings:
    """Of a process that made something."""

    versions: Mapping[str, str]
    """Of Python and of the packages that networks and files depend on."""
    hardware: Mapping[str, str]

    @classmethod
    def here(cls, device: str = "cpu") -> Surroundings:
        """Of this process; `device` is what it computed on, ``cpu`` or ``cuda``."""
        versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
        found = {"system": f"{platform.system()} {platform.machine()}", "processor": processor()}
        found["cores"] = str(os.cpu_count() or 1)
        if device == "cuda":
            import torch

            found["gpu"] = torch.cuda.get_device_name()
        return cls(versions, found)


def software_licence() -> str:
    """The licence of this software, as its package says."""
    return str(metadata("nas-service").json["license_expression"])
