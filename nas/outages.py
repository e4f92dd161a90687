"""Outages of the database: a lease that outlasts them, so that nothing measured is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from nas.contracts import Lease, LeaseLost
from nas.job import Job, JobState
from nas.journal import Journal
from nas.storage.errors import DatabaseError
from nas.trial import Outcome, Proposal, Trial, TrialState

FIRST, LONGEST = 0.1, 2.0
"""Seconds before the first repetition and between later ones."""
TRIES = 10
"""So often a write is tried while the database answers all other questions."""

T = TypeVar("T")


class Unwritable(Exception):
    """The database answers, and will never take what is to be written."""


def sleep(seconds: float) -> bool:
    """Wait so long; there is no end of patience."""
    time.sleep(seconds)
    return False


class EnduringLease:
    """A lease whose calls wait for the database, as long as the lease is not known to be lost.

    After a `DatabaseError` it is not known whether a write took place: the connection may have been cut before or
    after the commit. So the trials are looked at before a write is repeated. A write is one transaction, hence its
    first trial tells of all. Renewing the lease comes before the look: it waits for the lock that an older write,
    which the server still has in hand, holds on the job.

    Args:
        lease: passed everything; only this object may write by it.
        hold_on: waits so many seconds; whether patience is at its end.

    Raises:
        DatabaseError: from every method, once patience is at its end; what could not be written is lost.
        Unwritable: the database refuses the very values.
    """

    def __init__(self, lease: Lease, hold_on: Callable[[float], bool] = sleep) -> None:
        self._lease, self._hold_on = lease, hold_on
        self._count = 0

    def renew(self) -> Job:
        """See `nas.contracts.Lease`."""
        return self._insist(self._lease.renew)

    def trials(self) -> Sequence[Trial]:
        """See `nas.contracts.Lease`."""
        trials = self._insist(self._lease.trials)
        self._count = len(trials)
        return trials

    def open(self, work: Sequence[Proposal | Trial]) -> Sequence[Trial]:
        """See `nas.contracts.Lease`; there must be work."""
        new = iter(range(self._count, self._count + len(work)))
        numbers = [item.number if isinstance(item, Trial) else next(new) for item in work]
        opened = self._write(
            lambda: self._lease.open(work), numbers, lambda trial: trial.state is TrialState.RUNNING
        )
        self._count = max(self._count, *(n + 1 for n in numbers))
        return opened

    def preview(self, outcomes: Sequence[tuple[int, Outcome]]) -> Sequence[Trial]:
        """See `nas.contracts.Lease`."""
        return self._lease.preview(outcomes)

    def close(self, outcomes: Sequence[tuple[int, Outcome]], then: Sequence[Proposal] = ()) -> Sequence[Trial]:
        """See `nas.contracts.Lease`; there must be outcomes, of trials that are RUNNING."""
        new = range(self._count, self._count + len(then))
        trials = self._write(
            lambda: self._lease.close(outcomes, then),
            [*(number for number, _ in outcomes), *new],
            lambda trial: trial.state is not TrialState.RUNNING,
        )
        self._count = new.stop
        return trials

    def release(self, state: JobState, reason: str | None = None, revision: int | None = None) -> JobState:
        """See `nas.contracts.Lease`. A lease that is gone after an error was given back by the very call.

        What the job became is not known then, and `state` is the best guess.
        """
        try:
            return self._lease.release(state, reason, revision)
        except DatabaseError as error:
            self._wait(error, FIRST)
            try:
                return self._insist(lambda: self._lease.release(state, reason, revision))
            except LeaseLost:
                return state

    def _write(
        self,
        write: Callable[[], Sequence[Trial]],
        numbers: Sequence[int],
        changed: Callable[[Trial], bool],
    ) -> Sequence[Trial]:
        """What `write` gives; after an error, the trials of these numbers if they turn out to be changed."""
        for seconds in _pauses(TRIES):
            try:
                return write()
            except DatabaseError as error:
                failure = error
            self._wait(failure, seconds)
            self._insist(self._lease.renew)
            now = self._insist(self._lease.trials)
            if numbers[0] < len(now) and changed(now[numbers[0]]):
                return [now[number] for number in numbers]
            if _refused(failure):
                raise Unwritable("the database takes no such values") from failure  # clients read it
        raise failure

    def _insist(self, call: Callable[[], T]) -> T:
        return insist(call, self._hold_on)

    def _wait(self, error: DatabaseError, seconds: float) -> None:
        if self._hold_on(seconds):
            raise error


def insist(call: Callable[[], T], hold_on: Callable[[float], bool] = sleep) -> T:
    """What the call, which may be repeated, gives once the database answers.

    `hold_on`: see `EnduringLease`. Raises `DatabaseError` once patience is at its end, and what the call raises.
    """
    for seconds in _pauses():
        try:
            return call()
        except DatabaseError:
            if hold_on(seconds):
                raise
    raise AssertionError("pauses do not end")


def when_there(opened: Callable[[], T], journal: Journal) -> T:
    """What the call gives once the database can be reached. Raises `DatabaseError` where waiting is of no use."""
    for seconds in _pauses():
        journal.turned()
        try:
            store = opened()
        except DatabaseError as error:
            if error.__cause__ is None:  # its address or its schema is wrong, and that does not change by itself
                raise
            journal.away(error)
            time.sleep(seconds)
        else:
            journal.answered()
            return store
    raise AssertionError("pauses do not end")


def _pauses(tries: int | None = None) -> Iterator[float]:
    """Seconds to wait after each failure, without end unless `tries` are given."""
    seconds, count = FIRST, 0
    while tries is None or count < tries:
        yield seconds
        seconds, count = min(2 * seconds, LONGEST), count + 1


def _refused(error: DatabaseError) -> bool:
    """Whether the database says that the values themselves cannot be."""
    from sqlalchemy import exc  # loaded already, where such an error can come from

    return isinstance(error.__cause__, exc.DataError | exc.IntegrityError)
