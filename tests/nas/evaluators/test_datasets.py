"""Data sets: three sources, one fixed cut, and a clear word about files that cannot be used."""

from __future__ import annotations

import gzip
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from nas.evaluators import datasets
from nas.evaluators.datasets import (
    DIGITS,
    Description,
    describe,
    load,
    locate,
    names,
    parse_idx,
    stratified_order,
)
from search_spaces import SpecError

Arrays = dict[str, NDArray[Any]]


def labelled(n: int, classes: int = 3, shape: tuple[int, ...] = (4, 5), seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *shape), dtype=np.uint8), (np.arange(n) % classes).astype(np.uint8)


def idx(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_folder(folder: Path, *, zipped: bool = False, test: bool = True) -> Path:
    folder.mkdir()
    for prefix, n in [("train", 30), ("t10k", 9)][: 2 if test else 1]:
        x, y = labelled(n, seed=n)
        for name, array in [("images-idx3", x), ("labels-idx1", y)]:
            path = folder / f"{prefix}-{name}-ubyte"
            if zipped:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(array)))
            else:
                path.write_bytes(idx(array))
    return folder


def npz(folder: Path, **arrays: Any) -> str:
    path = folder / "own.npz"
    np.savez(path, **arrays)
    return str(path)


def fault(source: str) -> str:
    with pytest.raises(SpecError) as found:
        load(source)
    (only,) = found.value.faults
    return only.message


def rows(part: datasets.Examples) -> set[bytes]:
    return {x.tobytes() for x in part.x}


def test_digits_are_cut_for_good() -> None:
    splits = load(DIGITS)
    sizes = [len(p) for p in (splits.train, splits.validation, splits.test)]
    assert sizes == [1079, 359, 359]
    # another cut would make accuracies of other jobs incomparable
    assert splits.validation.y[:12].tolist() == [1, 5, 2, 4, 6, 9, 7, 8, 3, 0, 1, 5]
    assert splits.test.y[:12].tolist() == [3, 5, 1, 6, 4, 9, 7, 0, 2, 8, 3, 1]
    assert stratified_order(np.arange(12) % 3).tolist() == ORDER
    for part in (splits.train, splits.validation, splits.test):
        assert part.x.shape[1:] == (1, 8, 8)
        assert part.x.dtype == np.float32
        assert part.y.dtype == np.int64
        assert np.bincount(part.y).min() >= 0.9 * len(part) / 10


def test_digits_are_those_of_scikit_learn() -> None:
    digits = load_digits()
    arrays = datasets._read(DIGITS)
    np.testing.assert_array_equal(arrays["x_train"] * 16, digits.images)
    np.testing.assert_array_equal(arrays["y_train"], digits.target)


def test_digits_are_read_without_loading_scikit_learn() -> None:
    """A worker would take as long for it as for torch."""
    script = "import sys; from nas.evaluators import datasets; datasets.load('digits'); print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=200)
    assert "sklearn" not in told.stdout.split()


def test_what_checking_knows_of_digits_is_true() -> None:
    splits = load(DIGITS)
    assert describe(DIGITS) == Description(splits.train.x.shape[1:], int(splits.train.y.max()) + 1)


def test_parts_share_no_example(tmp_path: Path) -> None:
    x, y = labelled(100, shape=(6, 6))
    splits = load(npz(tmp_path, x=x, y=y))
    parts = [rows(p) for p in (splits.train, splits.validation, splits.test)]
    assert [len(p) for p in parts] == [60, 20, 20]
    assert len(set.union(*parts)) == 100


def test_training_part_is_standardised_by_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal([[[[3.0]], [[-50.0]]]], [[[[0.1]], [[9.0]]]], (80, 2, 4, 4))
    train = load(npz(tmp_path, x_train=x, y_train=np.arange(80) % 2)).train
    np.testing.assert_allclose(train.x.mean(axis=(0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(train.x.std(axis=(0, 2, 3)), 1, atol=1e-3)


def test_other_parts_do_not_touch_the_training_part(tmp_path: Path) -> None:
    x, y = labelled(40)
    one = load(npz(tmp_path, x_train=x, y_train=y, x_test=x[:9], y_test=y[:9]))
    (tmp_path / "b").mkdir()
    other = load(npz(tmp_path / "b", x_train=x, y_train=y, x_test=255 - x[:9], y_test=2 - y[:9]))
    assert np.array_equal(one.train.x, other.train.x)
    assert np.array_equal(one.validation.x, other.validation.x)
    assert not np.array_equal(one.test.x, other.test.x)


def test_a_constant_channel_is_no_division_by_zero(tmp_path: Path) -> None:
    train = load(npz(tmp_path, x=np.full((20, 3, 3), 7.0), y=np.arange(20) % 2)).train
    assert (train.x == 0).all()


def test_given_parts_are_taken_as_they_are(tmp_path: Path) -> None:
    x, y = labelled(40)
    source = npz(
        tmp_path,
        x_train=x[:20],
        y_train=y[:20],
        x_valid=x[20:30],
        y_valid=y[20:30],
        x_test=x[30:],
        y_test=y[30:],
    )
    splits = load(source)
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [20, 10, 10]
    assert splits.validation.y.tolist() == y[20:30].tolist()
    assert splits.test.y.tolist() == y[30:].tolist()


def test_bytes_and_floats_standardise_to_the_same(tmp_path: Path) -> None:
    x, y = labelled(40)
    one = load(npz(tmp_path, x=x, y=y))
    (tmp_path / "b").mkdir()
    other = load(npz(tmp_path / "b", x=x[:, None].astype(np.float64) / 255, y=y.astype(np.int32)))
    np.testing.assert_allclose(one.train.x, other.train.x, atol=1e-5)
    assert one.train.x.shape[1:] == (1, 4, 5)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_of_idx_files(tmp_path: Path, zipped: bool) -> None:
    source = locate(str(idx_folder(tmp_path / "mnist", zipped=zipped)))
    splits = load(source)
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [24, 6, 9]
    assert describe(source) == Description((1, 4, 5), 3)


def test_a_folder_without_test_files_gets_a_test_part(tmp_path: Path) -> None:
    splits = load(str(idx_folder(tmp_path / "mnist", test=False)))
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [18, 6, 6]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.data())
def test_every_prefix_is_stratified(labels: list[int], data: st.DataObject) -> None:
    y = np.array(labels)
    order = stratified_order(y)
    assert sorted(order.tolist()) == list(range(len(y)))
    n = data.draw(st.integers(0, len(y)))
    share = np.bincount(y, minlength=5) * n / len(y)
    assert (np.abs(np.bincount(y[order[:n]], minlength=5) - share) <= 3).all()


def test_names_come_from_the_registry_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    idx_folder(registry / "shapes")
    npz(registry, x=labelled(20)[0], y=labelled(20)[1])
    (registry / "notes.txt").write_text("no data set")
    (registry / "empty").mkdir()
    idx_folder(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NAS_DATA_DIR", raising=False)
    with pytest.raises(SpecError, match="NAS_DATA_DIR is not set"):
        locate("shapes")
    monkeypatch.setenv("NAS_DATA_DIR", str(registry))
    assert names() == ["digits", "own", "shapes"]
    assert locate("own") == str((registry / "own.npz").resolve())
    assert locate("shapes") == str((registry / "shapes").resolve())
    assert locate("./here") == str((tmp_path / "here").resolve())
    with pytest.raises(SpecError, match="digits, own, shapes"):
        locate("here")
    with pytest.raises(SpecError, match='did you mean "shapes"'):
        locate("shape")


@pytest.mark.parametrize("dataset", ["../x", "a/b", "/etc", "own.npz", "..", ".", "", "a b", "a\\b", "x\n"])
def test_what_is_no_name_is_a_path(dataset: str) -> None:
    assert not datasets.is_name(dataset)


def test_a_changed_file_is_described_anew(tmp_path: Path) -> None:
    x, y = labelled(30)
    source = npz(tmp_path, x=x, y=y)
    assert describe(source).classes == 3
    npz(tmp_path, x=x, y=y % 2)
    os.utime(source, ns=(1, 1))
    assert describe(source).classes == 2


def test_idx_headers_are_believed_only_if_true() -> None:
    array = labelled(3)[0]
    data = idx(array)
    assert np.array_equal(parse_idx(data, 3, "f"), array)
    for broken in (b"", data[:2], data[:9], data[:-1], data + b"\0", b"\0\0\x0d" + data[3:]):
        with pytest.raises(SpecError, match=r"^f "):
            parse_idx(broken, 3, "f")
    with pytest.raises(SpecError, match="not 00000801"):
        parse_idx(data, 1, "f")


X, Y = labelled(30)
NAN = np.where(np.arange(30)[:, None, None] == 4, np.nan, X)
WRONG: list[tuple[Arrays, str]] = [
    ({"a": X}, "own.npz holds a; needed: x_train and y_train, or x and y"),
    ({"x": X}, "y_train is missing"),
    ({"x": X, "y": Y, "y_test": Y}, "x_test is missing"),
    ({"x": X.reshape(30, -1), "y": Y}, r"of shape \[30, 20\]; allowed: numbers of shape"),
    ({"x": np.full((30, 2, 2), "a"), "y": Y}, "<U1 of shape"),
    ({"x": X[:, :0], "y": Y}, r"of shape \[30, 0, 5\]"),
    ({"x": NAN, "y": Y}, "x_train has values that are not finite"),
    ({"x": X, "y": Y[:29]}, r"y_train is uint8 of shape \[29\]; allowed: integers of shape \[30\]"),
    ({"x": X, "y": Y / 2}, "y_train is float64"),
    ({"x": X, "y": Y + 1}, r"labels \[1, 2, 3\]; allowed: 0, 1, 2, ... without gaps"),
    ({"x": X, "y": Y * 2}, r"labels \[0, 2, 4\]"),
    ({"x": X, "y": Y * 0}, r"labels \[0\]"),
    ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, "y_test has labels from"),
    ({"x": X, "y": Y, "x_valid": X[:, :2], "y_valid": Y}, r"x_valid has examples of shape \[1, 2, 5\]"),
    ({"x": X[:4], "y": Y[:4]}, "has 4 training examples, too few to cut"),
]


@pytest.mark.parametrize(("arrays", "message"), WRONG, ids=[m[:40] for _, m in WRONG])
def test_wrong_arrays_are_told(tmp_path: Path, arrays: Arrays, message: str) -> None:
    assert re.search(message, fault(npz(tmp_path, **arrays)))


def test_broken_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK\x03\x04 no zip at all")
    assert "broken.npz cannot be read" in fault(str(path))
    np.savez(path, x=np.array([{}], dtype=object), y=np.array([0]))
    assert "broken.npz cannot be read" in fault(str(path))
    with path.open("wb") as stream:
        np.save(stream, X)
    assert "broken.npz holds nothing; needed: x_train" in fault(str(path))
    folder = idx_folder(tmp_path / "mnist", zipped=True)
    images = folder / "train-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-20])
    assert "train-images-idx3-ubyte.gz cannot be read" in fault(str(folder))
    images.unlink()
    assert "x_train is missing" in fault(str(folder))


def test_fashion_mnist_keeps_its_own_test_part(shared_data: Path) -> None:
    source = shared_data / "fashion-mnist"
    if not source.is_dir():
        pytest.skip(f"Fashion-MNIST is not at {source}")
    splits = load(locate(str(source)))
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [50_000, 10_000, 10_000]
    assert describe(str(source)) == Description((1, 28, 28), 10)
    assert np.bincount(splits.validation.y).tolist() == [1000] * 10
    assert splits.test.y[:5].tolist() == [9, 2, 1, 1, 6]  # the order of the published file
    load.cache_clear()


ORDER = [9, 2, 7, 4, 5, 0, 11, 3, 10, 6, 8, 1]
