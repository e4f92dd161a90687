"""The jobs of a server, over HTTP, as any store has them: for results, and for the commands that read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any
from urllib.parse import quote

import numpy as np

from nas.contracts import Census, JobFilter, Measurements, Request, Stale, Submitter, TrialFilter
from nas.job import Job, JobSpec, JobState
from nas.remote.errors import NotFound
from nas.remote.http import Http, fresh_key
from nas.remote.read import TrialReader, job_of, space_of_job, trace_of
from nas.trial import Trace, Trial
from search_spaces import SpecError

PAGE = 1000
"""Trials and jobs that are asked for at once, at most."""
EDITS = 5
"""Attempts at an edit that others come before."""


class RemoteStore:
    """See `nas.contracts.Jobs`. Which project's jobs there are is up to the API key."""

    def __init__(self, http: Http) -> None:
        self.http = http
        self._reader = lru_cache(maxsize=16)(self._new_reader)  # the space of a job never changes

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def submit(
        self,
        spec: JobSpec,
        *,
        queued: bool = True,
        trials: Sequence[Trial] = (),
        by: Submitter = Submitter(),
    ) -> Job:
        """A new job, QUEUED. What it begins with the server looks up itself, and whose it is the API key says."""
        if not queued or trials:
            raise ValueError("a server queues every job, and looks up its first trials itself")
        return self.send(spec.dump(), token=by.token)

    def send(self, document: Mapping[str, Any], token: str | None = None) -> Job:
        """A new job from a document as it was written. Raises `SpecError`."""
        headers = fresh_key() if token is None else {"Idempotency-Key": token}
        return job_of(self.http.request("POST", "/jobs", json=document, headers=headers))

    def job(self, job_id: str, *, patience: float | None = None) -> Job:
        """One job. Raises `KeyError`."""
        return job_of(self.http.get(job_path(job_id), patience=patience))

    def jobs(
        self,
        which: JobFilter = JobFilter(),
        after: str | None = None,
        limit: int = 100,
        *,
        oldest_first: bool = False,
    ) -> Sequence[Job]:
        """Newest first, or oldest first; `after` is the id of the last job of the page before."""
        query = {
            "state": [s.value for s in which.states] or None,
            "name": which.name,
            "owner": which.owner,
            "order_by": "created_at" if oldest_first else None,
        }
        size = PAGE if after is not None or which.project is not None else limit
        found = map(job_of, self._pages("/jobs", "jobs", query, size))
        if after is not None and not any(job.id == after for job in found):
            raise KeyError(after)
        return list(islice((j for j in found if which.project in (None, j.project)), limit))

    def trials(
        self, job_id: str, after: int = -1, limit: int | None = None, which: TrialFilter = TrialFilter()
    ) -> Sequence[Trial]:
        """Trials with numbers greater than `after`, by number. Raises `KeyError`."""
        if which == TrialFilter() and limit == 1:
            return self._single(job_id, after + 1)
        query = {
            "state": [s.value for s in which.states] or None,
            "feasible": which.feasible,
            "key": which.key,
        }
        most = None if limit is None or which.numbers is not None else after + 1 + limit
        rows = self._pages(f"{job_path(job_id)}/trials", "trials", query, most)
        if which.numbers is not None:
            rows = (t for t in rows if t["number"] in (which.numbers or ()))
        return self._read(job_id, islice((t for t in rows if t["number"] > after), limit))

    def finished(
        self, job_id: str, after: int = -1, limit: int | None = None, *, patience: float | None = None
    ) -> Sequence[Trial]:
        """Trials whose `order` is greater than `after`, in the order in which they finished. Raises `KeyError`."""
        rows = self._pages(f"{job_path(job_id)}/trials", "trials", {"after": after}, limit, patience)
        return self._read(job_id, islice(rows, limit))

    def measurements(self, job_id: str, after: int = -1) -> Measurements:
        """What was measured by SUCCEEDED trials whose `order` is greater than `after`. Raises `KeyError`."""
        measured = [t for t in self.finished(job_id, after) if t.measured]
        names = tuple(dict.fromkeys(m for t in measured for m in t.metrics))
        values = [[t.metrics.get(name, np.nan) for name in names] for t in measured]
        return Measurements(
            numbers=np.array([t.number for t in measured], dtype=np.int64),
            orders=np.array([t.order for t in measured], dtype=np.int64),
            feasible=np.array([t.feasible is True for t in measured], dtype=np.bool_),
            names=names,
            values=np.array(values, dtype=np.float64).reshape(len(measured), len(names)),
        )

    def trace(self, job_id: str, number: int) -> Trace | None:
        """How a trial's last evaluation went, where that is known. Raises `KeyError`."""
        return trace_of(self.http.get(f"{job_path(job_id)}/trials/{number}"))

    def request(self, job_id: str, request: Request) -> Job:
        """Ask for a change of state. Raises `KeyError`, or `WrongState` where it cannot be done."""
        return job_of(self.http.request("POST", f"{job_path(job_id)}:{request}"))

    def edit(self, job_id: str, change: Callable[[Job], JobSpec], revision: int | None = None) -> Job:
        """Give a job the name and the budget of the document that `change` makes of it.

        Raises `KeyError`, `Stale`, `WrongState`, and `SpecError` for a change of anything else.
        """
        for attempt in range(EDITS):
            job = self.job(job_id)
            if revision is not None and job.revision != revision:
                raise Stale(f"job {job_id} has revision {job.revision}, not {revision}")
            try:
                return self.patch(job_id, difference(job.spec, change(job)), job.revision)
            except Stale:  # somebody else was quicker
                if revision is not None or attempt == EDITS - 1:
                    raise
        raise AssertionError("the last attempt gives a job or raises")

    def patch(self, job_id: str, changes: Mapping[str, Any], revision: int | None = None) -> Job:
        """Change name and budget by a JSON merge patch. Raises what `edit` raises."""
        headers = {"If-Match": "*" if revision is None else f'"{revision}"'}
        return job_of(self.http.request("PATCH", job_path(job_id), json=changes, headers=headers))

    def delete(self, job_id: str) -> None:
        """Forget a job and its trials. Raises `KeyError`, or `WrongState` while a runner holds it."""
        self.http.request("DELETE", job_path(job_id))

    def census(self) -> Census:
        """How much there is to do, over the jobs that the API key sees."""
        found = [job_of(j) for j in self._pages("/jobs", "jobs", {}, None)]
        waiting = [j.created_at for j in found if j.state is JobState.QUEUED]
        longest = max(0.0, time.time() - min(waiting)) if waiting else 0.0
        return Census(Counter(j.state for j in found), longest)

    def read(self, rows: Sequence[Mapping[str, Any]]) -> list[Trial]:
        """Trials as the server sent them, which may be of several jobs."""
        return [self._reader(row["job"]).trial(row) for row in rows]

    def _single(self, job_id: str, number: int) -> list[Trial]:
        """The trial with this number, if there is one."""
        reader = self._reader(job_id)  # raises where the job itself is not there
        try:
            return [reader.trial(self.http.get(f"{job_path(job_id)}/trials/{number}"))]
        except NotFound:
            return []

    def _read(self, job_id: str, rows: Iterator[Mapping[str, Any]]) -> list[Trial]:
        found = list(rows)
        return self._reader(job_id).trials(found) if found else []

    def _new_reader(self, job_id: str) -> TrialReader:
        return TrialReader(space_of_job(self.job(job_id).spec))

    def _pages(
        self, path: str, name: str, query: Mapping[str, Any], limit: int | None, patience: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """The rows of a list, page after page, as they are wanted."""
        token: str | None = None
        size = PAGE if limit is None else max(1, min(PAGE, limit))
        while True:
            asked = {**query, "page_size": size, "page_token": token}
            page = self.http.get(path, asked, patience=patience)
            yield from page[name]
            token = page["next_page_token"]
            if token is None:
                return


def job_path(job_id: str) -> str:
    """The path of a job below ``/v1``."""
    return f"/jobs/{quote(job_id, safe='')}"


def difference(old: JobSpec, new: JobSpec) -> dict[str, Any]:
    """The JSON merge patch that makes one document of the other. Raises `SpecError` beyond name and budget."""
    for field in type(old).model_fields:
        if field not in ("name", "budget") and getattr(old, field) != getattr(new, field):
            raise SpecError.at(field, "cannot be changed once the job exists; allowed: name, budget")
    patch: dict[str, Any] = {} if old.name == new.name else {"name": new.name}
    before, after = old.budget.model_dump(mode="json"), new.budget.model_dump(mode="json")
    changed = {name: value for name, value in after.items() if before[name] != value}
    return patch | ({"budget": changed} if changed else {})
