"""What commands print: tables for people, JSON for programs, errors on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NoReturn

import typer

NARROW = 110
"""Columns of a terminal below which architectures are left out of tables."""
PIPED = 160
"""Columns of a table that goes into a file or another program."""
FAILED, BAD_INPUT, WRONG_STATE, INTERRUPTED = 1, 2, 3, 130


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Say what is wrong, a line each, and leave."""
    for line in message.splitlines():
        typer.echo(f"error: {line}", err=True)
    raise typer.Exit(code)


def say(message: str) -> None:
    """A remark; standard output is for results."""
    typer.echo(message, err=True)


def print_json(value: object) -> None:
    """A result for a program."""
    typer.echo(json.dumps(value, indent=2))


@contextmanager
def faults_told(json: bool = False) -> Iterator[None]:
    """Turn what a user can get wrong into one clear message (with `json`: faults as JSON) and an exit code."""
    from nas.contracts import Stale
    from nas.job import WrongState
    from nas.remote.errors import ApiError
    from nas.storage import DatabaseError
    from search_spaces import SpecError

    try:
        yield
    except SpecError as error:
        if json:
            print_json({"faults": [asdict(f) for f in error.faults]})
            raise typer.Exit(BAD_INPUT) from None
        fail(str(error), BAD_INPUT)
    except (WrongState, Stale) as error:
        fail(str(error), WRONG_STATE)
    except ApiError as error:
        fail(str(error), WRONG_STATE if isinstance(error, KeyError) else FAILED)
    except KeyError as error:
        fail(f"there is no job {error.args[0]}", WRONG_STATE)
    except (DatabaseError, FileNotFoundError) as error:
        fail(str(error), FAILED)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """A table for people, cut to nothing: long cells are folded."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPED, highlight=False)
    if "architecture" in columns and console.width < NARROW:
        place = list(columns).index("architecture")
        columns = [*columns[:place], *columns[place + 1 :]]
        rows = [[*row[:place], *row[place + 1 :]] for row in rows]
        say("(architectures need a terminal of 110 columns, or --json)")
    drawn = Table(title=title, box=SIMPLE, title_justify="left")
    for i, name in enumerate(columns):
        numeric = all(isinstance(row[i], int | float) for row in rows)
        drawn.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row))
    console.print(drawn)


def trial_rows(
    trials: Sequence[Any], metrics: Sequence[str], tested: Mapping[int, Mapping[str, float]] | None = None
) -> tuple[list[str], list[list[object]]]:
    """Columns and rows of a table of trials, with their test metrics where there are any."""
    tested = tested or {}
    tests = [m for m in ("test_accuracy",) if any(m in tested.get(t.number, {}) for t in trials)]
    rows: list[list[object]] = []
    for trial in trials:
        values = {**trial.metrics, **tested.get(trial.number, {})}
        rows.append([trial.number, *(values.get(m, "") for m in (*metrics, *tests)), short(trial.architecture)])
    return ["trial", *metrics, *tests, "architecture"], rows


def short(architecture: Mapping[str, object]) -> str:
    """An architecture in a few words: values by stage or section, in the order of the document."""
    groups: dict[str, list[str]] = {}
    for name, value in architecture.items():
        head, _, last = name.rpartition(".")
        groups.setdefault(head, []).append(f"{_brief(last)}={_cell(value)}")
    return "; ".join(
        f"{head}: {' '.join(values)}" if head else " ".join(values) for head, values in groups.items()
    )


def _brief(name: str) -> str:
    return {"weight_bits": "w", "activation_bits": "a", "learning_rate": "lr"}.get(name, name)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
