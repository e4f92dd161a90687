"""The claim of one export, for as long as a runner works at it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from nas.contracts import LeaseLost
from nas.exports import Export, Exports
from nas.journal import Journal
from nas.outages import insist
from nas.runner import BEAT
from nas.stopping import Stop
from nas.storage.errors import DatabaseError


class ExportLease:
    """Renews the claim in the background, and outlasts an outage of the database where its end is written.

    Args:
        exports: that have it.
        export: as it was claimed.
        stop: over when there is no time left to wait for the database.
        journal: told where the database is away.
    """

    def __init__(self, exports: Exports, export: Export, stop: Stop, journal: Journal) -> None:
        self.export = export
        self._exports, self._stop, self._journal = exports, stop, journal
        self._over, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="export lease")

    @property
    def lost(self) -> bool:
        """Whether the export was seen to be another runner's, cancelled or deleted; a second late at most."""
        return self._lost.is_set()

    def settle(self, ended: Export) -> None:
        """Write what came of it, as soon as the database takes it.

        After an error it is not known whether the write took place: it is repeated, and where it finds the claim
        gone, the export itself tells.

        Raises:
            LeaseLost: it was not written, and will not be.
            DatabaseError: the database is away, and the runner has no time left.
        """
        attempts = 0

        def write() -> None:
            nonlocal attempts
            attempts += 1
            try:
                self._exports.settle(ended)
            except LeaseLost:
                if attempts == 1 or not self._written(ended):
                    raise
            except DatabaseError as error:
                self._journal.away(error)
                raise

        insist(write, self._stop.hold_on)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _written(self, ended: Export) -> bool:
        try:
            found = self._exports.export(ended.id)
        except KeyError:
            return False
        return (found.state, found.attempt, found.handed_back) == (ended.state, ended.attempt, ended.handed_back)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            try:
                self._exports.renew(self.export)
                self._journal.answered()
            except DatabaseError as error:  # it may come back in time
                self._journal.away(error)
            except LeaseLost:
                self._lost.set()
                return
