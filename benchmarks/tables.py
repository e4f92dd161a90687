"""Public tables of measured networks, as spaces, genes, targets and scores; see the README beside the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from search_spaces import Architecture, Choice, load_space
from search_spaces.architecture import Genes
from search_spaces.load import preset
from search_spaces.space import BuildError, Space

DATA = Path(__file__).parents[2] / "shared" / "data"
DEVICES = ("raspi4", "pixel3", "eyeriss", "gold_6226", "2080ti_32")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """Distinct networks of a space with what was measured of them."""

    name: str
    space: Space
    genes: Genes
    targets: Mapping[str, Floats]
    """By name, each of shape (n,)."""
    scores: Floats | None = field(default=None)
    """Zero-cost scores (n, k) as published, minus infinity where a network is dead."""

    @classmethod
    def of(
        cls, name: str, space: Space, genes: Genes, targets: Mapping[str, Any], scores: Floats | None = None
    ) -> Table:
        """From rows that may repeat a network: the first of each counts."""
        genes = space.canonical_genes(genes.astype(np.int64))
        _, first = np.unique(genes, axis=0, return_index=True)
        rows = np.sort(first)
        columns = {k: np.asarray(v, dtype=np.float64)[rows] for k, v in targets.items()}
        return cls(name, space, genes[rows], columns, None if scores is None else scores[rows])


class Declared(Space):
    """A space of choices without formulas."""

    def __init__(self, name: str, choices: tuple[Choice, ...]) -> None:
        self.name, self.choices = name, choices

    def build(self, arch: Architecture) -> Any:
        """Tables say what their networks do; none is built."""
        raise BuildError(f"{self.name} is a table; its networks are not built")


def nas_bench_201() -> Table:
    """All 6,466 networks; everything measured of a class is that of its representative."""
    space = load_space("nas-bench-201")
    table = pd.read_parquet(DATA / "nasbench201_cifar10.parquet")
    table = table[table["index"] == table["representative"]]
    genes = np.stack([table[f"op_{c.name[-3]}{c.name[-1]}"].map(c.values.index) for c in space.choices], axis=1)
    targets = {"accuracy": table["cifar10_valid_acc"]}
    targets |= {f"latency {d}": table[f"lat_ms_{d}"] for d in DEVICES}
    targets |= {"params": table["cifar10_params"], "test accuracy": table["cifar10_test_acc"]}
    targets["accuracy of one run"] = table["cifar10_valid_acc_seed"]
    return Table.of("nas-bench-201", space, genes, targets, table[["cifar10_zen", "cifar10_naswot"]].to_numpy())


def nas_bench_macro() -> Table:
    """Three choices in eight places."""
    table = pd.read_parquet(DATA / "nasbench_macro.parquet")
    blocks = ("identity", "mb3_k3", "mb6_k5")
    space = Declared("nas-bench-macro", tuple(Choice(f"layer_{i}", blocks) for i in range(8)))
    targets = {
        "accuracy": table["test_acc"],
        "flops": table["flops"],
        "accuracy of one run": table["test_acc_seed0"],
    }
    targets["accuracy of other runs"] = (table["test_acc_seed1"] + table["test_acc_seed2"]) / 2
    return Table.of("nas-bench-macro", space, _digits(table["arch"]), targets)


def ofa_accuracy() -> Table:
    """Sub-networks of Once-for-All that five recorded searches measured on ImageNet."""
    table = pd.read_parquet(DATA / "ofa_mbv3_imagenet_dynast.parquet")
    space = load_space("ofa-mobilenetv3")
    return Table.of("ofa-accuracy", space, _ofa_genes(space, table), {"accuracy": table["imagenet_top1"]})


def ofa_latency() -> Table:
    """Sub-networks of Once-for-All at 25 resolutions, timed on four devices at three batch sizes."""
    table = pd.read_parquet(DATA / "ofa_mbv3_latency_help.parquet")
    document = preset("ofa-mobilenetv3")
    document["architecture"]["resolution"] = sorted(int(r) for r in table["r"].unique())
    space = load_space(document)
    targets = {c.removeprefix("lat_ms_"): table[c] for c in table.columns if c.startswith("lat_ms_")}
    return Table.of("ofa-latency", space, _ofa_genes(space, table), targets)


def accel_nas_bench() -> Table:
    """MnasNet-like networks, trained briefly on ImageNet and run on six accelerators."""
    widths, strides = (16, 24, 40, 80, 96, 192, 320), (1, 2, 2, 2, 1, 2, 1)
    stage = {"block": "inverted_residual", "expansion": [1, 4, 6], "kernel": [3, 5]}
    stages = [
        {
            **stage,
            "depth": [1, 2, 3, 4][: 4 if w == 192 else 3],
            "squeeze_excite": [False, True],
            "width": w,
            "stride": s,
        }
        for w, s in zip(widths, strides, strict=True)
    ]
    architecture = {"stem": {"width": 32, "stride": 2}, "stages": stages, "head": {"width": 1280}}
    space = load_space({"family": "staged", "input": [3, 224, 224], "classes": 1000, "architecture": architecture})
    table = pd.read_parquet(DATA / "accel_nasbench_mnasnet_imagenet.parquet")
    lists = {"expansion": "e", "kernel": "k", "depth": "l", "squeeze_excite": "se"}
    values = {name: _numbers(table[column]) for name, column in lists.items()}
    columns = []
    for choice in space.choices:
        _, number, name = choice.name.split(".")
        columns.append(_indices(choice, values[name][:, int(number)]))
    targets = {"accuracy": table["val_top1"]}
    targets |= {c: table[c] for c in table.columns if c.startswith(("throughput_", "latency_")) and "std" not in c}
    return Table.of("accel-nas-bench", space, np.stack(columns, axis=1), targets)


TABLES = {
    "nas-bench-201": nas_bench_201,
    "nas-bench-macro": nas_bench_macro,
    "ofa-accuracy": ofa_accuracy,
    "ofa-latency": ofa_latency,
    "accel-nas-bench": accel_nas_bench,
}


def _ofa_genes(space: Space, table: pd.DataFrame) -> Genes:
    lists = {"kernel": _numbers(table["ks"]), "expansion": _numbers(table["e"]), "depth": _numbers(table["d"])}
    columns = []
    for choice in space.choices:
        parts = choice.name.split(".")
        if parts[-1] == "resolution":
            columns.append(_indices(choice, table["r"].to_numpy()))
        else:
            stage = int(parts[1]) - 1
            place = stage if parts[-1] == "depth" else 4 * stage + int(parts[2])
            columns.append(_indices(choice, lists[parts[-1]][:, place]))
    return np.stack(columns, axis=1)


def _indices(choice: Choice, values: NDArray[Any]) -> NDArray[np.int64]:
    return np.array([choice.values.index(v) for v in values.tolist()], dtype=np.int64)


def _numbers(column: pd.Series[str]) -> NDArray[np.int64]:
    return np.array([[int(n) for n in row.split(",")] for row in column], dtype=np.int64)


def _digits(column: pd.Series[str]) -> NDArray[np.int64]:
    return np.array([[int(n) for n in row] for row in column], dtype=np.int64)
