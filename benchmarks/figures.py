"""Figures that stand beside what is wanted, as a table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One line of a table."""

    group: str
    """What it is a figure of: a database, say."""
    what: str
    value: float
    unit: str = ""
    cpu: float | None = None
    """The same by CPU time of the process that does the work."""
    most: float | None = None
    least: float | None = None

    @property
    def missed(self) -> bool:
        """Whether it is not as wanted."""
        too_much = self.most is not None and self.value > self.most
        return too_much or (self.least is not None and self.value < self.least)


def table(title: str, group: str, found: Sequence[Figure], before: float) -> Table:
    """All figures; `group` heads the first column, `before` is the load (a minute's average) at the beginning."""
    load = f"load {before:.1f} before, {os.getloadavg()[0]:.1f} after (a minute's average)"
    made = Table(title=f"{title}; {load}", title_justify="left")
    for column in (group, "figure", "measured", "by CPU time", "wanted", ""):
        made.add_column(column, justify="left" if column in (group, "figure", "") else "right")
    for f in found:
        wanted = f"<= {f.most:g}" if f.most is not None else "" if f.least is None else f">= {f.least:g}"
        cpu = "" if f.cpu is None else _shown(f.cpu)
        value = f"{_shown(f.value)} {f.unit}".rstrip()
        made.add_row(f.group, f.what, value, cpu, wanted, "missed" if f.missed else "")
    return made


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
