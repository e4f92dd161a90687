"""Progress that a person can watch: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from nas.job import JobSpec
from nas.loop import Observe
from nas.objectives import Problem
from nas.pareto import ParetoFront
from nas.trial import Trial, TrialState

EVERY = 0.2
"""Seconds between two updates of a bar."""
LINE_EVERY = 5.0
"""Seconds between two lines where there is no terminal."""


@contextmanager
def shown(spec: JobSpec, progress: bool | Observe, console: Console | None = None) -> Iterator[Observe]:
    """What the search is to tell of its trials: a bar, a function given instead, or nothing."""
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda trials: None
    else:
        console = console or Console(stderr=True)
        yield from (_bar if console.is_terminal else _lines)(spec, console)


@contextmanager
def counted(
    name: str, total: int, progress: bool, console: Console | None = None
) -> Iterator[Callable[[int], None]]:
    """What is to be told how many networks are done: a bar, lines now and then, or nothing."""
    console = console or Console(stderr=True)
    if not progress:
        yield lambda done: None
    elif console.is_terminal:
        with _columns(console) as bar:
            task = bar.add_task(name, total=total, standing="")
            yield lambda done: bar.update(task, completed=done)
    else:
        yield from _counting(name, total, console)


class Standing:
    """How a search stands: counts of its own trials and the front of all, kept up trial by trial."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.front = ParetoFront(problem, (), None)
        self.done = self.running = self.broken = 0
        self._worst: tuple[float, ...] | None = None
        self._state: dict[int, TrialState] = {}

    def told(self, trials: Sequence[Trial]) -> None:
        """Take in trials that were opened or closed."""
        for trial in trials:
            before = self._state.get(trial.number)
            self.running += trial.state.open - (before is not None and before.open)
            done_here = not trial.state.open and not trial.taken_over
            self.done += done_here
            self.broken += done_here and not trial.measured
            self._state[trial.number] = trial.state
        merged = ParetoFront.of([*self.front.trials, *(t for t in trials if t.measured)], self._problem)
        if merged.worst is not None:
            old = self._worst or merged.worst
            self._worst = tuple(max(a, b) for a, b in zip(old, merged.worst, strict=True))
        self.front = ParetoFront(self._problem, merged.trials, self._worst)

    def text(self) -> str:
        """Best so far of every objective, size of the front, hypervolume (reference: the worst seen)."""
        parts = [f"front {len(self.front.trials)}"]
        if self.front.trials:
            parts = [self._best(i) for i in range(len(self._problem.objectives))] + parts
            parts.append(f"hypervolume {self.front.hypervolume():.4g}")
        if self.broken:
            parts.append(f"{self.broken} without metrics")
        return "  ".join(parts)

    def _best(self, i: int) -> str:
        objective = self._problem.objectives[i]
        return f"{objective} {objective.value(float(self.front.losses[:, i].min())):.4g}"


def _bar(spec: JobSpec, console: Console) -> Iterator[Observe]:
    total = spec.budget.max_trial_count
    with _columns(console) as bar:
        task = bar.add_task(spec.name, total=total, standing="starting workers")

        def show(standing: Standing) -> None:
            bar.update(task, completed=standing.done, standing=standing.text())

        yield from _observer(spec, show, EVERY)


def _columns(console: Console) -> Progress:
    """An empty bar; what stands at its end is cut to the width of the terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[standing]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        console=console,
        expand=True,
    )


def _lines(spec: JobSpec, console: Console) -> Iterator[Observe]:
    total = spec.budget.max_trial_count
    begun = time.monotonic()

    def show(standing: Standing) -> None:
        seconds = time.monotonic() - begun
        _line(console, f"{spec.name}: {standing.done}/{total} trials  {seconds:.0f} s  {standing.text()}")

    yield from _observer(spec, show, LINE_EVERY)


def _counting(name: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    """Takes a count, and shows it now and then and once it is full."""
    begun = shown_at = time.monotonic()

    def observe(done: int) -> None:
        nonlocal shown_at
        now = time.monotonic()
        if now - shown_at >= LINE_EVERY or done == total:
            _line(console, f"{name}: {done}/{total} networks  {now - begun:.0f} s")
            shown_at = now

    yield observe


def _line(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _observer(spec: JobSpec, show: Callable[[Standing], None], every: float) -> Iterator[Observe]:
    """Takes trials in at once, and shows the standing now and then and at the end."""
    standing = Standing(spec.problem)
    waiting: list[Trial] = []
    shown_at = time.monotonic()

    def observe(trials: Sequence[Trial]) -> None:
        nonlocal shown_at
        waiting.extend(trials)
        if time.monotonic() - shown_at >= every:
            standing.told(waiting)
            waiting.clear()
            show(standing)
            shown_at = time.monotonic()

    yield observe
    standing.told(waiting)
    show(standing)
