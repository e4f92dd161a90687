"""Data sets as arrays: train, validation and test kept apart, and standardised.

A data set is ``digits`` (comes with scikit-learn), a folder of idx files laid out as MNIST's, or an npz file
of one's own. What has no validation part (or no test part) gets one cut from its training part: a fifth, at
most 10,000 examples, stratified by class. The cut depends on the labels alone and never on a job's seed, so
results of different jobs are measured on the same examples.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas.evaluators.registry import inside, registry
from search_spaces.faults import SpecError, did_you_mean, show

DIGITS = "digits"
SPLIT_SEED = 0
"""Draws every cut, everywhere. Changing it changes what all accuracies mean."""
HELD_OUT = 1 / 5
MAX_HELD_OUT = 10_000

Array: TypeAlias = NDArray[Any]
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_IDX = {
    f"{letter}_{part}": f"{prefix}-{kind}-ubyte"
    for part, prefix in (("train", "train"), ("test", "t10k"))
    for letter, kind in (("x", "images-idx3"), ("y", "labels-idx1"))
}
"""File of each array, with or without .gz."""


@dataclass(frozen=True, eq=False)
class Examples:
    """n labelled images, ordered so that every prefix holds the classes in their proportions."""

    x: NDArray[np.float32]
    """Shape (n, channels, height, width)."""
    y: NDArray[np.int64]
    """Shape (n,): classes 0, 1, 2, ..."""

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Examples:
        return Examples(self.x[rows], self.y[rows])

    def joined(self, others: Examples) -> Examples:
        """These, and then the others."""
        return Examples(np.concatenate([self.x, others.x]), np.concatenate([self.y, others.y]))


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set, standardised per channel by the mean and deviation of its training part."""

    train: Examples
    validation: Examples
    test: Examples


@dataclass(frozen=True)
class Description:
    """What a network must fit."""

    shape: tuple[int, ...]
    """Channels, height, width."""
    classes: int


def is_name(dataset: str) -> bool:
    """Whether this is looked up in the data registry; anything else is a path."""
    return _NAME.fullmatch(dataset) is not None


def names() -> list[str]:
    """The data sets that have a name: `digits`, and those of the data registry."""
    folder = registry()
    found = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
    fit = [p.stem for p in found if is_name(p.stem) and _stays(p) and (p.suffix == ".npz" or _is_idx_folder(p))]
    return list(dict.fromkeys([DIGITS, *fit]))


def locate(dataset: str) -> str:
    """Where a data set is: ``digits``, or the absolute path of a folder or an npz file.

    A name (letters, digits, - and _) is one of `names`; anything else is a path.

    Raises:
        SpecError: if there is none.
    """
    if dataset == DIGITS:
        return DIGITS
    if is_name(dataset):
        folder = registry()
        tried = [] if folder is None else [p for p in (folder / dataset, folder / f"{dataset}.npz") if _stays(p)]
    else:
        tried = [Path(dataset).expanduser()]
    for path in tried:
        if _is_idx_folder(path) or (path.is_file() and path.suffix == ".npz"):
            return str(path.resolve())
    known = names()
    where = "in the data registry" if registry() else "in the data registry (NAS_DATA_DIR is not set)"
    raise SpecError.at(
        "",
        f"{show(dataset)} is no data set; {where}: {', '.join(known)}; a path, from the working "
        f"directory, must be a folder with {_IDX['x_train']}[.gz] and {_IDX['y_train']}[.gz], or an .npz file"
        f"{did_you_mean(dataset, known)}",
    )


def describe(source: str) -> Description:
    """Shape and classes of a located data set, which is read and checked as a whole.

    Raises:
        SpecError: with what is wrong with the files.
    """
    if source == DIGITS:
        return Description((1, 8, 8), 10)  # known, so checking a document needs no scikit-learn
    newest = max(p.stat().st_mtime_ns for p in (Path(source), *Path(source).glob("*")))
    return _describe(source, newest)


@lru_cache(maxsize=2)
def load(source: str) -> Splits:
    """The parts of a located data set; kept, so that a worker reads it once.

    Raises:
        SpecError: with what is wrong with the files.
    """
    parts = _parts(source)
    train = parts["train"]
    order = stratified_order(train.y)
    held = min(int(len(train) * HELD_OUT), MAX_HELD_OUT)
    for part in ("test", "valid"):
        if part not in parts:
            parts[part], order = train[order[:held]], order[held:]
    parts["train"] = train[order]
    if len(parts["train"]) < 2 or min(map(len, parts.values())) < 1:
        raise SpecError.at("", f"{Path(source).name} has {len(train)} training examples, too few to cut")
    return _standardised(Splits(parts["train"], parts["valid"], parts["test"]))


def fingerprint(source: str) -> str:
    """SHA-256 (hex) of a located data set's arrays as its files give them: names, types, shapes, entries."""
    digest = hashlib.sha256()
    for name, array in sorted(_read(source).items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def stratified_order(y: NDArray[np.int64]) -> NDArray[np.int64]:
    """A fixed random order of n labels in which every prefix holds the classes in their proportions.

    The j-th of the m examples of a class goes to place (j + 1/2) / m of the way. Shape (n,).
    """
    shuffled = np.random.default_rng(SPLIT_SEED).permutation(len(y))
    place = np.empty(len(y))
    for label in np.unique(y):
        rows = np.flatnonzero(y[shuffled] == label)
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return shuffled[np.argsort(place, kind="stable")]


def parse_idx(data: bytes, dimensions: int, name: str) -> NDArray[np.uint8]:
    """The array of an idx file: unsigned bytes, with the given number of dimensions.

    The header is two zero bytes, the type (8: unsigned byte), the number of dimensions, and each of them as a
    big-endian 32-bit integer (LeCun, Cortes and Burges, the MNIST database).

    Raises:
        SpecError: if the header says anything else, or the data is shorter or longer than it says.
    """
    magic, expected = data[:4], bytes([0, 0, 8, dimensions])
    if magic != expected:
        raise SpecError.at(
            "", f"{name} begins with {magic.hex() or 'nothing'}, not {expected.hex()}: no such idx file"
        )
    start = 4 + 4 * dimensions
    shape = tuple(np.frombuffer(data[4:start].ljust(4 * dimensions, b"\0"), dtype=">u4").tolist())
    size = int(np.prod(shape, dtype=np.int64))
    if len(data) - start != size:
        raise SpecError.at("", f"{name} has {len(data) - start} bytes of data; its header says {shape}: {size}")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)


@lru_cache(maxsize=64)
def _describe(source: str, newest: int) -> Description:
    """`newest` makes a changed data set another one."""
    train = _parts(source)["train"]
    return Description(train.x.shape[1:], int(train.y.max()) + 1)


def _stays(path: Path) -> bool:
    """Whether neither a data set of the registry nor one of its files leads out of it."""
    files = (path / f"{name}{end}" for name in _IDX.values() for end in ("", ".gz"))
    return all(map(inside, (path, *files)))


def _is_idx_folder(path: Path) -> bool:
    return path.is_dir() and any((path / f"{_IDX['x_train']}{end}").is_file() for end in ("", ".gz"))


def _parts(source: str) -> dict[str, Examples]:
    """The parts as the files give them: train, and perhaps valid and test."""
    name, arrays = Path(source).name, _read(source)
    given = [p for p in ("train", "valid", "test") if f"x_{p}" in arrays or f"y_{p}" in arrays]
    if "train" not in given:
        raise SpecError.at(
            "", f"{name} holds {', '.join(arrays) or 'nothing'}; needed: x_train and y_train, or x and y"
        )
    parts = {part: _examples(f"{name}: ", part, arrays) for part in given}
    train = parts["train"]
    labels = np.unique(train.y).tolist()
    if labels != list(range(len(labels))) or len(labels) < 2:
        raise SpecError.at(
            "", f"{name}: y_train has the labels {show(labels)}; allowed: 0, 1, 2, ... without gaps"
        )
    for part, examples in parts.items():
        if examples.x.shape[1:] != train.x.shape[1:]:
            found, wanted = list(examples.x.shape[1:]), list(train.x.shape[1:])
            raise SpecError.at("", f"{name}: x_{part} has examples of shape {found}, x_train of shape {wanted}")
        if examples.y.min() < 0 or examples.y.max() >= len(labels):
            found = [int(examples.y.min()), int(examples.y.max())]
            raise SpecError.at("", f"{name}: y_{part} has labels from {found}; y_train has 0 to {len(labels) - 1}")
    return parts


def _examples(name: str, part: str, arrays: Mapping[str, Array]) -> Examples:
    missing = [f"{letter}_{part}" for letter in "xy" if f"{letter}_{part}" not in arrays]
    if missing:
        raise SpecError.at("", f"{name}{missing[0]} is missing")
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if x.ndim not in (3, 4) or 0 in x.shape or x.dtype.kind not in "buif":
        raise SpecError.at(
            "",
            f"{name}x_{part} is {x.dtype} of shape {list(x.shape)}; allowed: numbers of shape "
            "[n, height, width] or [n, channels, height, width]",
        )
    if y.shape != x.shape[:1] or y.dtype.kind not in "ui":
        raise SpecError.at(
            "", f"{name}y_{part} is {y.dtype} of shape {list(y.shape)}; allowed: integers of shape [{len(x)}]"
        )
    if not np.isfinite(x).all():
        raise SpecError.at("", f"{name}x_{part} has values that are not finite")
    scale = 255 if x.dtype == np.uint8 else 1
    pixels = (x if x.ndim == 4 else x[:, None]).astype(np.float32) / np.float32(scale)
    return Examples(pixels, y.astype(np.int64))


def _standardised(splits: Splits) -> Splits:
    mean = splits.train.x.mean(axis=(0, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    std = splits.train.x.std(axis=(0, 2, 3), keepdims=True, dtype=np.float64).astype(np.float32)
    std[std == 0] = 1  # a channel that is always the same stays 0

    def standard(part: Examples) -> Examples:
        return Examples((part.x - mean) / std, part.y)

    return Splits(standard(splits.train), standard(splits.validation), standard(splits.test))


def _read(source: str) -> dict[str, Array]:
    if source == DIGITS:
        return _read_digits()
    path = Path(source)
    return _read_idx(path) if path.is_dir() else _read_npz(path)


def _read_digits() -> dict[str, Array]:
    """The file that `sklearn.datasets.load_digits` reads; to import that takes each worker as long as torch."""
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    table = np.loadtxt(Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz", delimiter=",")
    return {"x_train": table[:, :-1].reshape(-1, 8, 8) / 16, "y_train": table[:, -1].astype(np.int64)}


def _read_idx(folder: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for key, name in _IDX.items():
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                arrays[key] = parse_idx(_bytes(path), 3 if key[0] == "x" else 1, path.name)
                break
    return arrays


def _bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise SpecError.at("", f"{path.name} cannot be read: {error}") from None


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            arrays = dict(file) if isinstance(file, Mapping) else {}
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise SpecError.at("", f"{path.name} cannot be read: {error}") from None
    alone = {"x": "x_train", "y": "y_train"}
    return {key if "x_train" in arrays else alone.get(key, key): value for key, value in arrays.items()}
