"""The published networks rebuilt: learnable entries and multiply-accumulates, from the formulas and as built.

`networks.yaml` lists what they should be. ``--random 300`` instead takes random architectures of every preset:
formula and built network agree to the last entry, a forward and a backward pass reach all of it, and equal keys
build equal networks.
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks import counting
from search_spaces import load_reference, load_space, presets
from search_spaces.declared import DeclaredSpace

NETWORKS = Path(__file__).with_name("networks.yaml")
TARGETS = Path(__file__).parents[2] / "shared" / "docs" / "targets.csv"
TOLERANCE = 0.005
"""Of MACs; the params are exact."""


@dataclass(frozen=True)
class Published:
    """A published network and the reference network that rebuilds it."""

    network: str
    at: int | str
    """Resolution, or tokens."""
    params: int
    macs: int
    reference: str
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rebuilt:
    """What came of it."""

    network: str
    at: int | str
    params: int
    params_formula: int
    params_built: int
    macs: int
    macs_formula: int
    macs_built: int

    @property
    def deviation(self) -> float:
        """Of the MACs, as a share."""
        return max(abs(found / self.macs - 1) for found in (self.macs_formula, self.macs_built))

    @property
    def ok(self) -> bool:
        """Whether the network is the published one, and the formula its count."""
        exact = self.params == self.params_formula == self.params_built and self.macs_formula == self.macs_built
        return exact and self.deviation <= TOLERANCE


def published() -> list[Published]:
    """The list of what is to be rebuilt."""
    return [Published(**row) for row in yaml.safe_load(NETWORKS.read_text())]


def rebuild(one: Published) -> Rebuilt:
    """The network as its document has it, counted twice."""
    space = load_reference(one.reference, one.changes)
    assert isinstance(space, DeclaredSpace)
    arch = space.architecture({})
    formula = space.cost(arch)
    params, macs = counting.counted(space, arch)
    found = (int(formula["params"]), params, one.macs, int(formula["macs"]), macs)
    return Rebuilt(one.network, one.at, one.params, *found)


def listed(path: Path = TARGETS) -> dict[tuple[str, str], tuple[int, int | None]]:
    """Params and MACs of a list of targets, by network and resolution; nothing where there is no such file."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        return {
            (row["network"], row["resolution"]): (
                int(row["counted_params"]),
                int(row["counted_MACs"]) if row["counted_MACs"] else None,
            )
            for row in csv.DictReader(file)
        }


@dataclass(frozen=True)
class Agreement:
    """How many random architectures of a preset hold what they should."""

    preset: str
    n: int
    vectorised: int
    """The formula of the population is that of each architecture by itself."""
    counted: int
    """Params and MACs of the built network are those of the formula."""
    trained: int
    """A forward and a backward pass reach every learnable entry."""
    repeated: int
    """The same key builds the same network."""
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether all of them hold all of it."""
        return self.n == self.vectorised == self.counted == self.trained == self.repeated


def agree(space: DeclaredSpace, n: int, seed: int = 0) -> Agreement:
    """Random architectures of a space, counted by the formulas and as built."""
    begun = time.perf_counter()
    archs = space.sample(n, seed)
    costs = space.costs(space.genes(archs), ["params", "macs"])
    together = np.stack([costs["params"], costs["macs"]], axis=1)
    right = np.zeros(4, dtype=int)
    for arch, row in zip(archs, together, strict=True):
        alone = space.costs(space.genes([arch]), ["params", "macs"])
        model, again = (counting.build(space, a) for a in (arch, space.architectures(space.genes([arch]))[0]))
        x = counting.example(space, arch, 2)
        right += [
            [alone["params"][0], alone["macs"][0]] == row.tolist(),
            [counting.params(model), counting.macs(model, x[:1])] == row.tolist(),
            counting.trains(model, x),
            str(model) == str(again) and model.code == again.code,
        ]
    vectorised, counted, trained, repeated = right.tolist()
    return Agreement(space.name, n, vectorised, counted, trained, repeated, time.perf_counter() - begun)


def main(as_json: bool = False) -> int:
    rows, targets = [rebuild(one) for one in published()], listed()
    names = {(row.network, str(row.at)) for row in rows}
    missing = sorted({network for network, at in targets if (network, at) not in names})
    wrong = [row.network for row in rows if targets.get((row.network, str(row.at)), _own(row)) != _own(row)]
    if as_json:
        told = [{**asdict(r), "deviation": r.deviation, "ok": r.ok} for r in rows]
        print(json.dumps({"networks": told, "not_covered": missing, "other_target": wrong}))
    else:
        _show(rows, missing, wrong)
    return 0 if all(row.ok for row in rows) and not wrong else 1


def _own(row: Rebuilt) -> tuple[int, int | None]:
    return row.params, row.macs


def _show(rows: list[Rebuilt], missing: list[str], wrong: list[str]) -> None:
    title = "Published networks: params and MACs published, from the formula, and of the built module"
    table = Table(title=title, title_justify="left")
    for column in ("network", "at", "params", "formula", "built", "MACs", "formula", "built", "MACs off", "ok"):
        table.add_column(column, justify="left" if column in ("network", "ok") else "right", no_wrap=True)
    for r in rows:
        counts = (r.params, r.params_formula, r.params_built, r.macs, r.macs_formula, r.macs_built)
        table.add_row(
            r.network, str(r.at), *(f"{c:,}" for c in counts), f"{r.deviation:.2%}", "yes" if r.ok else "NO"
        )
    Console(width=180).print(table)
    print(f"{sum(r.ok for r in rows)} of {len(rows)} as published")
    if wrong:
        print(f"other figures than {TARGETS}: {', '.join(wrong)}")
    if missing:
        print(f"in {TARGETS.name}, of no family here: {', '.join(missing)}")


def random(n: int, names: Sequence[str] = (), as_json: bool = False) -> int:
    found = [agree(space, n) for space in map(load_space, names or presets()) if isinstance(space, DeclaredSpace)]
    if as_json:
        print(json.dumps([{**asdict(a), "ok": a.ok} for a in found]))
    else:
        table = Table(title=f"{n} random architectures of every preset", title_justify="left")
        for column in (
            "preset",
            "population = single",
            "formula = built",
            "trains",
            "same again",
            "seconds",
            "ok",
        ):
            table.add_column(
                column, justify="left" if column in ("preset", "ok") else "right", no_wrap=column == "preset"
            )
        for a in found:
            counts = (a.vectorised, a.counted, a.trained, a.repeated)
            table.add_row(a.preset, *map(str, counts), f"{a.seconds:.0f}", "yes" if a.ok else "NO")
        Console().print(table)
    return 0 if all(a.ok for a in found) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--random", type=int, metavar="N", help="N random architectures of every preset")
    parser.add_argument("presets", nargs="*", help="those presets alone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.exit(random(options.random, options.presets, options.json) if options.random else main(options.json))
