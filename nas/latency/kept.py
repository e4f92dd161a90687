"""Numbers that are found once and then stay the same for this user: what the reference network takes here.

They lie in ``$XDG_CACHE_HOME/nas-service/latency`` (``~/.cache`` where that is not set), a folder that nobody else
can enter. Hosts that share the home folder share them too; so a number's name must say of what kind of host it is.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from search_spaces import SpecError

VARIABLE = "XDG_CACHE_HOME"
PRIVATE = 0o700


def place() -> Path:
    """Where this user's numbers lie.

    Raises:
        SpecError: where the user has no home, and the variable is not set.
    """
    given = Path(os.environ.get(VARIABLE, ""))
    try:
        cache = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        raise SpecError.at(VARIABLE, "is not set, and this user has no home; allowed: a path from /") from None
    return cache / "nas-service" / "latency"


def kept(of: Mapping[str, Any], found: Callable[[], float], folder: Path) -> float:
    """A positive number: what was found first, here or by another process.

    A file that is not this user's, or does not hold such a number of `of`, is replaced.

    Args:
        of: what the number belongs to, as JSON values.
        found: finds it; asked only where there is none yet.
        folder: where it is kept.

    Raises:
        SpecError: where the folder is another user's or cannot be written: without it, each measurement would have
            a unit of its own.
    """
    path = folder / f"{hashlib.sha256(_text(of).encode()).hexdigest()[:32]}.json"
    with _usable(folder):
        _make_private(folder)
        if (known := _read(path, of)) is not None:
            return known
        path.unlink(missing_ok=True)
    number = found()
    with _usable(folder):
        _write(path, _text({"number": number, "of": of}))
        return _read(path, of) or number


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{folder} cannot be used: {error.strerror or error}; {VARIABLE} names another folder"
        raise SpecError.at("", message) from None


def _make_private(folder: Path) -> None:
    """Make the folder, this user's alone. Raises `OSError` where it is somebody else's."""
    folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise PermissionError("it belongs to another user")
    folder.chmod(PRIVATE)


def _read(path: Path, of: Mapping[str, Any]) -> float | None:
    """The number of a file of this user's; None where there is none."""
    with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        known = path.lstat()
        if not stat.S_ISREG(known.st_mode) or known.st_uid != os.geteuid():
            return None
        document = json.loads(path.read_text(encoding="utf-8"))
        number = float(document["number"])
        if document["of"] == of and math.isfinite(number) and number > 0:
            return number
    return None


def _write(path: Path, text: str) -> None:
    """The file as a whole, unless another process was first."""
    descriptor, fresh = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        with suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        Path(fresh).unlink()


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
