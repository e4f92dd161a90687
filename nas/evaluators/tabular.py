"""Metrics from a table: a row an architecture, a column a choice or a metric; for benchmarks and replays."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from nas.config import Config, EvaluatorSettings
from nas.evaluators import tables
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.table_files import locate, misnamed, read, registered, unreadable
from nas.objectives import NAME
from nas.trial import Proposal
from search_spaces import Choice, Fault, SpecError
from search_spaces.architecture import Genes
from search_spaces.faults import did_you_mean, show
from search_spaces.space import Space

if TYPE_CHECKING:
    import pandas as pd

    from nas.contracts import Report


class MetricColumn(Config):
    """Where a metric stands in the table; may be written as the column's name alone."""

    column: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="or several, one a measurement: a job of seed s reads the one at s, s + 1, ... for its repeats"
    )
    scale: float = Field(
        default=1.0, allow_inf_nan=False, description="what the column's numbers are multiplied by"
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, raw: Any) -> Any:
        return {"column": raw} if isinstance(raw, str | list | tuple) else raw

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return (self.column,) if isinstance(self.column, str) else self.column


Columns: TypeAlias = Mapping[Annotated[str, StringConstraints(pattern=f"^{NAME}$")], MetricColumn]
TestColumns: TypeAlias = Mapping[Annotated[str, StringConstraints(pattern=f"^test_{NAME}$")], MetricColumn]


class TabularConfig(EvaluatorSettings):
    """Look metrics up in a table: one of the package, or a file (Parquet, or CSV with a header).

    A table of the package knows its columns; what is given beside its name goes before what it knows.
    Rows with a value that the space does not have are left out. Of several rows that mean the same network
    the one whose genes are canonical counts, else the first. An architecture without a row is INFEASIBLE.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["tabular"] = "tabular"
    table: str = Field(
        description="nas-bench-201, or the path of a file; over HTTP the name of a file in the data registry"
    )
    genes: Mapping[str, str] = Field(default={}, description="columns by choice; else a choice's own name")
    columns: Columns = Field(
        default={},
        alias="metrics",
        description="columns by metric, or {column, scale}; for a table of the package also its metrics' names",
    )
    tests: TestColumns = Field(
        default={},
        alias="test",
        description="metrics of the test split, likewise; given when a search is over, and never to a search",
    )
    representative: str | None = Field(
        default=None,
        description="column with the number, from 0, of the row whose metrics count for this one too; "
        "for tables that measured equal networks apart",
    )

    @field_validator("table")
    @classmethod
    def _table_or_file(cls, table: str) -> str:
        reason = misnamed(table)
        if reason is not None:
            raise ValueError(reason)
        return table

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.columns and self.table not in tables.names():
            message = f"a file needs at least 1 metric (tables of the package: {', '.join(tables.names())})"
            raise SpecError.at("metrics", f"is empty; {message}")
        return self

    def bind(self, space: Space, seed: int) -> TabularEvaluator:
        """The evaluator, with the table in memory.

        Raises:
            SpecError: with everything that is wrong with the table.
        """
        faults = self.faults(space)
        if faults:
            raise SpecError(faults)
        whole = self._whole()
        frame = read(locate(self.table), whole._names(space))
        genes, known = _genes(space, frame, whole._gene_columns(space))
        metrics = {**whole.columns, **whole.tests}
        columns = [frame[c].to_numpy(np.float64) * m.scale for m in metrics.values() for c in m.names]
        values = np.column_stack(columns)
        if whole.representative is not None:
            values = values[frame[whole.representative].to_numpy()]
        places = _places(metrics)
        measured = {name: places[name] for name in whole.columns}
        found = TabularEvaluator(_rows(space, genes), measured, values[known], seed)
        return _Tested(**vars(found), tests={name: places[name] for name in whole.tests}) if whole.tests else found

    def metrics(self) -> frozenset[str]:
        """The metrics that columns are given for."""
        return frozenset(self._whole().columns)

    def measurements(self) -> int:
        """The fewest columns of a metric that has several; 1 where none has."""
        return min((len(m.names) for m in self._whole().columns.values() if len(m.names) > 1), default=1)

    def faults(self, space: Space) -> list[Fault]:
        """A file or column that is not there, and columns that do not hold what they should."""
        whole, path = self._whole(), locate(self.table)
        names = {c.name for c in space.choices}
        faults = [
            Fault(f"genes.{name}", f"is not a choice of {space.name}{did_you_mean(name, sorted(names))}")
            for name in self.genes
            if name not in names
        ]
        reason = unreadable(self.table, path)
        if reason is not None:
            return [*faults, Fault("table", reason)]
        if self.table in tables.names() and names != {*whole.genes} and not faults:
            message = f"{show(self.table)} is of the choices {', '.join(whole.genes)}; {space.name} has others"
            return [*faults, Fault("table", message)]
        try:
            frame = read(path)
        except (ValueError, OSError) as error:
            text = f"{show(self.table)} cannot be read: {' '.join(str(error).split())}"
            return [*faults, Fault("table", text)]
        if frame.empty:
            return [*faults, Fault("table", f"{show(self.table)} has no rows")]
        return faults or [
            *whole._gene_faults(space, frame),
            *whole._metric_faults(frame),
            *whole._row_faults(frame),
        ]

    def remote_faults(self, functions: Collection[str] = ()) -> list[Fault]:
        """Only tables of the package and files in the registry, by name."""
        names = registered()
        if self.table in (*names, *tables.names()):
            return []
        files = (
            f"a file in the data registry: {', '.join(names)}" if names else "no file, the data registry is empty"
        )
        allowed = f"allowed: {', '.join(tables.names())}, or {files}"
        return [Fault("table", f"{show(self.table)} is not allowed over HTTP; {allowed}")]

    def _whole(self) -> TabularConfig:
        """These settings, laid over those that a table of the package has."""
        if self.table not in tables.names():
            return self
        own = _packaged(self.table)
        return self.model_copy(
            update={
                "genes": {**own.genes, **self.genes},
                "columns": {**own.columns, **{name: own._column(m) for name, m in self.columns.items()}},
                "tests": {**own.tests, **self.tests},
                "representative": self.representative or own.representative,
            }
        )

    def _column(self, metric: MetricColumn) -> MetricColumn:
        """The column meant, where a metric of this table is named in its place."""
        meant = self.columns.get(metric.names[0]) if len(metric.names) == 1 else None
        return metric if meant is None else MetricColumn(column=meant.column, scale=meant.scale * metric.scale)

    def _gene_columns(self, space: Space) -> dict[str, str]:
        return {c.name: self.genes.get(c.name, c.name) for c in space.choices}

    def _names(self, space: Space) -> list[str]:
        metrics = [*self.columns.values(), *self.tests.values()]
        columns = [*self._gene_columns(space).values(), *(name for m in metrics for name in m.names)]
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
        given = {f"metrics.{name}": m for name, m in self.columns.items()}
        given |= {f"test.{name}": m for name, m in self.tests.items()}
        own = list(_packaged(self.table).columns) if self.table in tables.names() else []
        faults: list[Fault] = []
        for path, column in ((path, name) for path, m in given.items() for name in m.names):
            if column not in frame:
                faults.append(Fault(path, _no_column(column, frame, own)))
            elif frame[column].dtype.kind not in "iufb":
                first = show(frame[column].iloc[0])
                faults.append(Fault(path, f"column {column} holds {first}; allowed: a column of numbers"))
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


@dataclass(frozen=True, eq=False)
class TabularEvaluator:
    """Looks architectures up by their keys."""

    rows: Mapping[str, int]
    places: Mapping[str, range]
    """The columns of `values` that hold each metric, one a measurement."""
    values: NDArray[np.float64]
    run: int
    """Which of the measurements counts, modulo their number."""

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        """The row's metrics.

        Raises:
            Infeasible: where the table has no row for the architecture, or no number in it.
        """
        return self._look_up(proposal, self.places)

    def repeat(self, i: int) -> TabularEvaluator:
        """The same table, the i-th measurement from here."""
        return replace(self, run=self.run + i)

    def _look_up(self, proposal: Proposal, places: Mapping[str, range]) -> dict[str, float]:
        architecture = proposal.architecture
        if architecture.key not in self.rows:
            raise Infeasible(f"not in the table: {dict(architecture)}")
        row = self.values[self.rows[architecture.key]]
        found = {name: float(row[place[self.run % len(place)]]) for name, place in places.items()}
        for name, value in found.items():
            if not math.isfinite(value):
                raise Infeasible(f"{name} is {value} in the table")
        return found


@dataclass(frozen=True, eq=False)
class _Tested(TabularEvaluator):
    """One that has metrics of a test split too."""

    tests: Mapping[str, range]

    def test(self, proposal: Proposal) -> Mapping[str, float]:
        """The row's test metrics. Raises `Infeasible`, as `evaluate` does."""
        return self._look_up(proposal, self.tests)


@cache
def _packaged(table: str) -> TabularConfig:
    return TabularConfig.model_validate({**tables.document(table), "table": table})


def _places(metrics: Mapping[str, MetricColumn]) -> dict[str, range]:
    """Where each metric's columns stand when those of all metrics stand side by side."""
    places, end = {}, 0
    for name, metric in metrics.items():
        places[name] = range(end, end + len(metric.names))
        end += len(metric.names)
    return places


def _no_column(column: str, frame: pd.DataFrame, also: Sequence[str] = ()) -> str:
    names = [*also, *map(str, frame.columns)]
    listed = ", ".join(names if len(names) <= 40 else [*names[:40], "..."])
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
