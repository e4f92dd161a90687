"""Numbers that are found once and then stay the same for this user: what the reference network takes here.

They lie in ``$XDG_CACHE_HOME/nas-service/latency`` (``~/.cache`` where that is not set), a folder that nobody else
can enter. Hosts that share the home folder share them too; so a number's name must say of what kind of host it is.

Each is a file in a folder of its own, which gets its name when all is written: renaming never puts a folder in
the place of one that holds something, so the first one counts, also where file systems have neither locks nor hard
links. A damaged one stays, and the next name is taken: who removed it might remove what another host has just put
there.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from search_spaces import SpecError
from search_spaces.faults import show

VARIABLE = "XDG_CACHE_HOME"
PRIVATE = 0o700
FILE = "number.json"


def place() -> Path:
    """Where this user's numbers lie.

    Raises:
        SpecError: where neither the variable nor the user's home is a path from /.
    """
    given = os.environ.get(VARIABLE, "")
    for cache in (Path(given), Path(_home()) / ".cache"):
        if cache.is_absolute():
            return cache / "nas-service" / "latency"
    said = f"is {show(given)}" if given else "is not set"
    raise SpecError.at(VARIABLE, f"{said}, and this user has no home; allowed: a path from /")


def kept(of: Mapping[str, Any], found: Callable[[], float], folder: Path) -> float:
    """A positive number: what was found first, here or by another process.

    What is not this user's, or does not hold such a number of `of`, is passed over.

    Args:
        of: what the number belongs to, as JSON values.
        found: finds it; asked only where there is none yet.
        folder: where it is kept.

    Raises:
        SpecError: where the folder is a link or another user's, or cannot be written: without it, each measurement
            would have a unit of its own.
    """
    with _usable(folder):
        _make_private(folder)
        known, free = _first(folder, of)
    if known is not None:
        return known
    text = _text({"number": found(), "of": of})
    with _usable(folder):
        while known is None:
            _put(free, text)
            known, free = _first(folder, of)
    return known


def _home() -> str:
    """The user's home; empty where there is none, of which `Path.home` makes /."""
    with suppress(RuntimeError):
        return os.environ.get("HOME", str(Path.home()))
    return ""


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{folder} cannot be used: {error.strerror or error}; {VARIABLE} names another folder"
        raise SpecError.at("", message) from None


def _make_private(folder: Path) -> None:
    """Make the folder, this user's alone. Raises `OSError` where somebody else could put another in its place."""
    me = os.geteuid()
    for part, owners in ((folder.parent, {me, 0}), (folder, {me})):
        part.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        known = part.lstat()
        if not stat.S_ISDIR(known.st_mode):
            raise NotADirectoryError(f"{part.name} is a link or a file, and no folder")
        if known.st_uid not in owners:
            raise PermissionError(f"{part.name} belongs to another user")
    folder.chmod(PRIVATE)


def _first(folder: Path, of: Mapping[str, Any]) -> tuple[float | None, Path]:
    """The first number of `of`, and its path; None and the path for it where there is none yet."""
    name = hashlib.sha256(_text(of).encode()).hexdigest()[:32]
    number = 0
    while os.path.lexists(path := folder / f"{name}-{number}"):
        if (known := _read(path, of)) is not None:
            return known, path
        number += 1
    return None, path


def _read(path: Path, of: Mapping[str, Any]) -> float | None:
    """The number in a folder of this user's; None where there is none."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        known = path.lstat()
        if not stat.S_ISDIR(known.st_mode) or known.st_uid != os.geteuid():
            return None
        document = json.loads((path / FILE).read_text(encoding="utf-8"))
        number = float(document["number"])
        if document["of"] == of and math.isfinite(number) and number > 0:
            return number
    return None


def _put(path: Path, text: str) -> None:
    """The number as a whole, unless another process was first."""
    fresh = Path(tempfile.mkdtemp(dir=path.parent))
    try:
        (fresh / FILE).write_text(text, encoding="utf-8")
        fresh.rename(path)
    except OSError:  # which one tells that there is something already, depends on the file system
        if not os.path.lexists(path):
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
