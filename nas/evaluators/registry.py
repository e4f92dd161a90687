"""The data registry: the folder of data sets and tables that documents, also those over HTTP, may name."""

from __future__ import annotations

import os
from pathlib import Path


def registry() -> Path | None:
    """The folder that ``NAS_DATA_DIR`` names, if it names one."""
    folder = os.environ.get("NAS_DATA_DIR")
    return Path(folder) if folder else None


def inside(path: Path) -> bool:
    """Whether a path of the registry stays there and does not lead out of it by a link."""
    folder = registry()
    return folder is not None and path.resolve().is_relative_to(folder.resolve())
