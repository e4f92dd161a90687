"""What every searcher knows of the past: told trials, architectures seen, and new ones that are not among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np

from nas.trial import Proposal, Trial
from search_spaces.architecture import Genes
from search_spaces.operators import enumerate_all, identities, sample
from search_spaces.space import Space

MAX_DRAWS = 16
"""Rounds of drawing before a searcher looks through the whole space for something new."""
ENUMERABLE = 200_000
"""Spaces of at most so many gene tuples are looked through; larger ones are never exhausted in practice."""


Draw: TypeAlias = Callable[[np.random.Generator], Genes]
"""Gives a population to try, from a generator; called again while nothing in it is new."""


class History:
    """Trials by number, and finished ones in the order in which they finished.

    A searcher's state is a fold over finished trials in that order, so it does not depend on how the trials
    were told. `tell` returns what is new to fold; when an earlier trial changes, `rewritten` becomes true and
    everything is returned again, from the first.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._trials: dict[int, Trial] = {}
        self._seen: set[bytes] = set()
        self._folded: list[tuple[int, int]] = []  # (order, number), as returned so far
        self._all: Genes | None = None
        self._all_identities: list[bytes] = []
        self._open: dict[int, Trial] = {}
        self._next = 0

    @property
    def next_number(self) -> int:
        """The number of the trial that comes next."""
        return self._next

    def tell(self, trials: Iterable[Trial]) -> tuple[list[Trial], bool]:
        """Take trials in; give the finished ones to fold, and whether to fold from the first again."""
        fresh: list[Trial] = []
        rewritten = False
        for trial in trials:
            before = self._trials.get(trial.number)
            if before == trial:
                continue
            rewritten |= before is not None and not before.state.open
            self._trials[trial.number] = trial
            self._open.pop(trial.number, None)
            if trial.state.open:
                self._open[trial.number] = trial
            self._next = max(self._next, trial.number + 1)
            if before is None or before.architecture != trial.architecture:
                self._seen.update(self._identities(trial))
            if not trial.state.open:
                fresh.append(trial)
        fresh.sort(key=_finish)
        if fresh and self._folded and _finish(fresh[0]) < self._folded[-1]:
            rewritten = True
        if rewritten:
            self._seen = {i for t in self._trials.values() for i in self._identities(t)}
            fresh = sorted((t for t in self._trials.values() if not t.state.open), key=_finish)
            self._folded = []
        self._folded.extend(_finish(t) for t in fresh)
        return fresh, rewritten

    def is_new(self, identity: bytes) -> bool:
        """Whether no told trial has this architecture."""
        return identity not in self._seen

    def running(self) -> list[Trial]:
        """Trials without an outcome, by number."""
        return sorted(self._open.values(), key=lambda t: t.number)

    def propose(self, n: int, seed: int, draw: Draw) -> list[Proposal]:
        """Up to `n` new architectures for the trials that come next; fewer when the space is exhausted.

        The randomness of a trial is addressed by its number, never stored.
        """
        taken: set[bytes] = set()
        rows: list[Genes] = []
        for number in range(self.next_number, self.next_number + n):
            row = self.novel(draw, np.random.default_rng([seed, number]), taken)
            if row is None:
                break
            rows.append(row)
        if not rows:
            return []
        return [Proposal(a) for a in self._space.canonical_architectures(np.concatenate(rows))]

    def novel(self, draw: Draw, rng: np.random.Generator, taken: set[bytes]) -> Genes | None:
        """One architecture, shape (1, d), that was neither told nor is in `taken` (to which it is added).

        Takes the first new row that `draw` (populations of any size) gives in `MAX_DRAWS` rounds, then draws
        from the whole space, then looks through a space small enough for it. None: the space is exhausted.
        """
        for genes in self._draws(draw, rng):
            for row, identity in zip(genes, identities(genes), strict=True):
                if identity not in self._seen and identity not in taken:
                    taken.add(identity)
                    return np.atleast_2d(row)
        return self._leftover(rng, taken)

    def _draws(self, draw: Draw, rng: np.random.Generator) -> Iterator[Genes]:
        if 2 * len(self._seen) > self._space.size:  # most of it is seen: looking through it is faster
            yield draw(rng)
            return
        for _ in range(MAX_DRAWS):
            yield draw(rng)
        for _ in range(4):
            yield sample(self._space, 4 * MAX_DRAWS, rng)

    def _leftover(self, rng: np.random.Generator, taken: set[bytes]) -> Genes | None:
        """The first new architecture after a random place of a space small enough to be looked through."""
        if self._all is None and self._space.size <= ENUMERABLE:
            self._all = enumerate_all(self._space, ENUMERABLE)
            self._all_identities = [] if self._all is None else list(identities(self._all))
        if self._all is None:
            return None
        count = len(self._all)
        start = int(rng.integers(count))
        for i in range(start, start + count):
            identity = self._all_identities[i % count]
            if identity not in self._seen and identity not in taken:
                taken.add(identity)
                return np.atleast_2d(self._all[i % count])
        return None

    def _identities(self, trial: Trial) -> Iterator[bytes]:
        genes = self._space.genes([trial.architecture])
        if self._space.key(genes[0]) != trial.architecture.key:  # proposals are canonical; others may be told
            genes = self._space.canonical_genes(genes)
        return identities(genes)


def _finish(trial: Trial) -> tuple[int, int]:
    return (trial.number if trial.order is None else trial.order, trial.number)
