"""Metrics from a table: a row an architecture, a column a choice or a metric; for benchmarks and replays."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, StringConstraints, model_validator

from nas.config import Config, EvaluatorSettings
from nas.evaluators.infeasible import Infeasible
from nas.objectives import NAME
from nas.trial import Proposal
from search_spaces import Choice, Fault, SpecError
from search_spaces.architecture import Genes
from search_spaces.faults import did_you_mean, show
from search_spaces.space import Space

if TYPE_CHECKING:
    import pandas as pd

    from nas.contracts import Report

SUFFIXES = (".parquet", ".csv")


class MetricColumn(Config):
    """Where a metric stands in the table; may be written as the column's name alone."""

    column: str
    scale: float = Field(
        default=1.0, allow_inf_nan=False, description="what the column's numbers are multiplied by"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, raw: Any) -> Any:
        return {"column": raw} if isinstance(raw, str) else raw


class TabularConfig(EvaluatorSettings):
    """Look metrics up in a table (Parquet, or CSV with a header).

    Rows with a value that the space does not have are left out. Of several rows that mean the same network
    the one whose genes are canonical counts, else the first. An architecture without a row is INFEASIBLE.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["tabular"] = "tabular"
    table: str = Field(description="path of the file; over HTTP the name of a file in the data registry")
    genes: Mapping[str, str] = Field(default={}, description="columns by choice; else a choice's own name")
    columns: Mapping[Annotated[str, StringConstraints(pattern=f"^{NAME}$")], MetricColumn] = Field(
        alias="metrics", min_length=1, description="columns by metric, or {column, scale}"
    )
    representative: str | None = Field(
        default=None,
        description="column with the number, from 0, of the row whose metrics count for this one too; "
        "for tables that measured equal networks apart",
    )

    def bind(self, space: Space, seed: int) -> TabularEvaluator:
        """The evaluator, with the table in memory.

        Raises:
            SpecError: with everything that is wrong with the table.
        """
        faults = self.faults(space)
        if faults:
            raise SpecError(faults)
        frame = _read(_locate(self.table), self._names(space))
        genes, known = _genes(space, frame, self._gene_columns(space))
        values = np.column_stack(
            [frame[m.column].to_numpy(dtype=np.float64) * m.scale for m in self.columns.values()]
        )
        if self.representative is not None:
            values = values[frame[self.representative].to_numpy()]
        return TabularEvaluator(_rows(space, genes), tuple(self.columns), values[known])

    def metrics(self) -> frozenset[str]:
        """The metrics that columns are given for."""
        return frozenset(self.columns)

    def faults(self, space: Space) -> list[Fault]:
        """A file or column that is not there, and columns that do not hold what they should."""
        names = {c.name for c in space.choices}
        faults = [
            Fault(f"genes.{name}", f"is not a choice of {space.name}{did_you_mean(name, sorted(names))}")
            for name in self.genes
            if name not in names
        ]
        path = _locate(self.table)
        if path.suffix not in SUFFIXES or not path.is_file():
            return [*faults, Fault("table", _unreadable(self.table, path))]
        try:
            frame = _read(path)
        except (ValueError, OSError) as error:
            return [
                *faults,
                Fault("table", f"{show(self.table)} cannot be read: {' '.join(str(error).split())}"),
            ]
        if frame.empty:
            return [*faults, Fault("table", f"{show(self.table)} has no rows")]
        return faults or [*self._gene_faults(space, frame), *self._metric_faults(frame), *self._row_faults(frame)]

    def remote_faults(self) -> list[Fault]:
        """Only files in the registry, by name."""
        names = _registered()
        if self.table in names:
            return []
        allowed = (
            f"a file in the data registry: {', '.join(names)}" if names else "nothing, the data registry is empty"
        )
        return [Fault("table", f"{show(self.table)} is not allowed over HTTP; allowed: {allowed}")]

    def _gene_columns(self, space: Space) -> dict[str, str]:
        return {c.name: self.genes.get(c.name, c.name) for c in space.choices}

    def _names(self, space: Space) -> list[str]:
        columns = [*self._gene_columns(space).values(), *(m.column for m in self.columns.values())]
        return list(dict.fromkeys(columns if self.representative is None else [*columns, self.representative]))

    def _gene_faults(self, space: Space, frame: pd.DataFrame) -> list[Fault]:
        faults: list[Fault] = []
        for choice in space.choices:
            column = self._gene_columns(space)[choice.name]
            if column not in frame:
                faults.append(Fault(f"genes.{choice.name}", _no_column(column, frame)))
            elif (_indices(choice, frame[column]) < 0).all():
                found = ", ".join(map(str, frame[column].drop_duplicates()[:6]))
                allowed = ", ".join(map(str, choice.values[:12]))
                faults.append(Fault(f"genes.{choice.name}", f"column {column} holds {found}; allowed: {allowed}"))
        if not faults and not _genes(space, frame, self._gene_columns(space))[1].any():
            faults.append(Fault("table", f"{show(self.table)} has no row whose values are all in {space.name}"))
        return faults

    def _metric_faults(self, frame: pd.DataFrame) -> list[Fault]:
        faults: list[Fault] = []
        for name, metric in self.columns.items():
            if metric.column not in frame:
                faults.append(Fault(f"metrics.{name}", _no_column(metric.column, frame)))
            elif frame[metric.column].dtype.kind not in "iufb":
                first = show(frame[metric.column].iloc[0])
                faults.append(
                    Fault(
                        f"metrics.{name}",
                        f"column {metric.column} holds {first}; allowed: a column of numbers",
                    )
                )
        return faults

    def _row_faults(self, frame: pd.DataFrame) -> list[Fault]:
        if self.representative is None:
            return []
        if self.representative not in frame:
            return [Fault("representative", _no_column(self.representative, frame))]
        rows = frame[self.representative]
        if rows.dtype.kind not in "iu" or not rows.between(0, len(frame) - 1).all():
            message = f"column {self.representative} holds more than row numbers; allowed: 0 to {len(frame) - 1}"
            return [Fault("representative", message)]
        return []


class TabularEvaluator:
    """Looks architectures up by their keys."""

    def __init__(self, rows: Mapping[str, int], names: tuple[str, ...], values: NDArray[np.float64]) -> None:
        self._rows, self._names, self._values = rows, names, values

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        """The row's metrics.

        Raises:
            Infeasible: where the table has no row for the architecture, or no number in it.
        """
        architecture = proposal.architecture
        if architecture.key not in self._rows:
            raise Infeasible(f"not in the table: {dict(architecture)}")
        found = dict(zip(self._names, self._values[self._rows[architecture.key]].tolist(), strict=True))
        for name, value in found.items():
            if not math.isfinite(value):
                raise Infeasible(f"{name} is {value} in the table")
        return found


def _registry() -> Path | None:
    folder = os.environ.get("NAS_DATA_DIR")
    return Path(folder) if folder else None


def _registered() -> list[str]:
    """Names of the tables in the data registry."""
    registry = _registry()
    if registry is None or not registry.is_dir():
        return []
    return sorted(f.name for f in registry.iterdir() if f.suffix in SUFFIXES and f.is_file())


def _locate(table: str) -> Path:
    """A bare name means the registry's file where there is one; everything else is a path."""
    registry = _registry()
    bare = PurePosixPath(table).name == table == PureWindowsPath(table).name
    return registry / table if registry and bare and (registry / table).is_file() else Path(table)


def _unreadable(table: str, path: Path) -> str:
    if path.suffix not in SUFFIXES:
        return f"{show(table)} is not allowed; allowed: files that end in {' or '.join(SUFFIXES)}"
    names = _registered()
    there = f" or a file in the data registry: {', '.join(names)}" if names else ""
    return f"{show(table)} is not there; allowed: the path of a file{there}"


def _read(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    import pandas as pd

    if path.suffix == ".parquet":
        return pd.read_parquet(path, columns=columns)
    return pd.read_csv(
        path, usecols=columns, keep_default_na=False, na_values=["", "nan", "NaN"]
    )  # None is a word


def _no_column(column: str, frame: pd.DataFrame) -> str:
    names = [str(c) for c in frame.columns]
    listed = ", ".join(names if len(names) <= 30 else [*names[:30], "..."])
    return f"the table has no column {column}; allowed: {listed}{did_you_mean(column, names)}"


def _indices(choice: Choice, column: pd.Series[Any]) -> NDArray[np.int64]:
    """The gene of every row, -1 where the choice does not have the value. Shape (n,)."""
    index: dict[Hashable, int] = {value: i for i, value in enumerate(choice.values)}
    return np.array([index.get(v, -1) if isinstance(v, Hashable) else -1 for v in column], dtype=np.int64)


def _genes(space: Space, frame: pd.DataFrame, columns: Mapping[str, str]) -> tuple[Genes, NDArray[np.bool_]]:
    """Genes of the rows that the space knows, shape (k, d), and which rows these are, shape (n,)."""
    genes = np.empty((len(frame), len(space.choices)), dtype=np.int64)
    for i, choice in enumerate(space.choices):
        genes[:, i] = _indices(choice, frame[columns[choice.name]])
    known = np.all(genes >= 0, axis=1)
    return genes[known], known


def _rows(space: Space, genes: Genes) -> dict[str, int]:
    """The row that counts for every key."""
    canonical = (space.canonical_genes(genes) == genes).all(axis=1)
    first_choice = np.argsort(~canonical, kind="stable")
    keys = [a.key for a in space.architectures(genes)]
    return {keys[i]: int(i) for i in reversed(first_choice.tolist())}
