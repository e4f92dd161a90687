"""A job's trials as a table in a file: CSV, JSON, Parquet. Page by page, so that length costs no memory."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from nas.trial import Trial
from nas.wire import readable, time
from search_spaces import Choice

if TYPE_CHECKING:
    import pyarrow

Pages: TypeAlias = Iterable[Sequence[Trial]]


class Format(StrEnum):
    """Of a file of trials."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


@dataclass(frozen=True)
class TrialTable:
    """The columns of a job's trials: one for each choice and each metric among them."""

    job: str
    choices: Sequence[Choice]
    metrics: Sequence[str]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names, in order. Choices and metrics stand behind a prefix, so that no two names are equal."""
        choices = (f"architecture.{c.name}" for c in self.choices)
        metrics = (f"metrics.{m}" for m in self.metrics)
        return ("number", "state", *choices, *metrics, *_LAST)

    def row(self, trial: Trial) -> list[Any]:
        """JSON values; None where a choice has no effect, or a metric was not measured."""
        values = readable(trial.architecture)
        return [
            trial.number,
            trial.state.value,
            *(values.get(c.name) for c in self.choices),
            *(trial.metrics.get(m) for m in self.metrics),
            trial.feasible,
            trial.order,
            trial.attempt,
            trial.architecture.key,
            trial.reason,
            time(trial.created_at),
            time(trial.finished_at),
            self.job,
        ]


_LAST = ("feasible", "order", "attempt", "key", "reason", "created_at", "finished_at", "job")


def csv_text(table: TrialTable, pages: Pages) -> Iterator[str]:
    """CSV (RFC 4180) with a line of names first; empty where there is no value."""
    yield _csv([table.columns])
    for page in pages:
        yield _csv([[_cell(value) for value in table.row(trial)] for trial in page])


def json_text(table: TrialTable, pages: Pages) -> Iterator[str]:
    """One JSON array of objects, an object a line."""
    columns, before = table.columns, "[\n"
    for page in pages:
        if page:
            rows = (dict(zip(columns, table.row(trial), strict=True)) for trial in page)
            yield before + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
            before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def parquet_bytes(table: TrialTable, pages: Pages) -> Iterator[bytes]:
    """Parquet with a row group a page. A choice has the type of its values; mixed ones are text.

    What was given before an exception is no Parquet file: its end is lacking.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    schema, sink = _schema(table), _Sink()
    with ParquetWriter(sink, schema, compression="zstd") as writer:
        for page in pages:
            if page:
                columns = zip(*(table.row(trial) for trial in page), strict=True)
                arrays = [_array(values, field) for values, field in zip(columns, schema, strict=True)]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                yield sink.taken()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """A file that is only written, and whose bytes are taken out as they come."""

    def __init__(self) -> None:
        self._written, self._parts = 0, list[bytes]()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._written += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._written

    def taken(self) -> bytes:
        """What was written since it was last taken."""
        data, self._parts = b"".join(self._parts), []
        return data


def _schema(table: TrialTable) -> pyarrow.Schema:
    import pyarrow as pa

    time = pa.timestamp("ms", tz="UTC")
    types = {
        "number": pa.int64(),
        "state": pa.string(),
        **{f"architecture.{c.name}": _type(c) for c in table.choices},
        **{f"metrics.{m}": pa.float64() for m in table.metrics},
        "feasible": pa.bool_(),
        "order": pa.int64(),
        "attempt": pa.int64(),
        "key": pa.string(),
        "reason": pa.string(),
        "created_at": time,
        "finished_at": time,
        "job": pa.string(),
    }
    return pa.schema([(name, types[name]) for name in table.columns])


def _type(choice: Choice) -> pyarrow.DataType:
    import pyarrow as pa

    kinds = {type(value) for value in choice.values}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()


def _array(values: Sequence[Any], field: pyarrow.Field) -> pyarrow.Array:
    import pyarrow as pa

    if pa.types.is_string(field.type):
        values = [None if value is None else str(value) for value in values]
    if pa.types.is_timestamp(field.type):
        return pa.array(values, pa.string()).cast(field.type)
    return pa.array(values, field.type)


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
