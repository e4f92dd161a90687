"""A job on a server, as a handle: look at it, wait for it, change it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.contracts import Request
from nas.exports import UNKNOWN, Weights
from nas.job import Job, JobState
from nas.loop import Observe
from nas.progress import shown
from nas.remote.events import Event, events
from nas.remote.http import fresh_key
from nas.remote.predictor import RemotePredictor
from nas.remote.read import job_of
from nas.remote.result import result_of
from nas.remote.store import RemoteStore, job_path
from nas.result import SearchFailed, SearchResult, frame_of

if TYPE_CHECKING:
    import pandas as pd

    from nas.deploy.card import ModelCard
    from nas.remote.export import RemoteExport

QUICKEST, SLOWEST = 0.1, 2.0
"""Seconds between two looks at a job that is waited for: soon at first, then rarer while nothing happens."""
OUTAGE = 600.0
"""Seconds that a server may be away while a job is waited for."""
FORMATS = ("csv", "json", "parquet")


class RemoteJob:
    """A search that a server runs. What it shows of itself is as of the last request; see `refresh`."""

    def __init__(self, store: RemoteStore, job: Job) -> None:
        self._store, self.job = store, job

    def __repr__(self) -> str:
        return f"RemoteJob({self.id!r}, {self.job.spec.name!r}, {self.state})"

    @property
    def id(self) -> str:
        """Its id on the server."""
        return self.job.id

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._store.http.url

    @property
    def state(self) -> JobState:
        """Where it stood at the last request."""
        return self.job.state

    def refresh(self) -> RemoteJob:
        """Look again."""
        self.job = self._store.job(self.id)
        return self

    def wait(self, progress: bool | Observe = True, timeout: float | None = None) -> SearchResult:
        """Wait until the job is over, or PAUSED, and give what was found. Ctrl-C leaves the job as it is.

        Args:
            progress: show a bar, or be called with trials as they finish.
            timeout: seconds; None: as long as it takes.

        Raises:
            TimeoutError: the job goes on nevertheless.
            SearchFailed: the job ended FAILED; its `result` holds what was measured.
            ApiError: the server was away for ten minutes.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with shown(self.job.spec, progress) as observe:
            last, pause = -1, QUICKEST
            while True:
                # the job first: once it is over, no trial comes after those that are read next
                self.job = self._store.job(self.id, patience=OUTAGE)
                fresh = self._store.finished(self.id, last, patience=OUTAGE)
                observe(fresh)
                last = fresh[-1].order or 0 if fresh else last
                if self.state.over or self.state is JobState.PAUSED:
                    break
                if end is not None and time.monotonic() >= end:
                    raise TimeoutError(f"job {self.id} is {self.state} after {timeout} s; it goes on")
                pause = QUICKEST if fresh else min(1.5 * pause, SLOWEST)
                time.sleep(pause)
        result = self.result()
        if self.state is JobState.FAILED:
            raise SearchFailed(self.job.reason or "the search failed", result)
        return result

    def result(self) -> SearchResult:
        """What was found so far."""
        self.refresh()
        return result_of(self.job, self._store.trials(self.id))

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial, in the order in which they finished; see `SearchResult.trials`."""
        return self.result().trials

    def pareto_front(
        self,
        *objectives: str,
        constraints: Sequence[str] = (),
        jobs: Sequence[str | RemoteJob] = (),
    ) -> pd.DataFrame:
        """One row a network of the front, the best of the first objective first; the server computes it.

        Args:
            *objectives: ``"max accuracy"``, ...; none: the job's own, with its constraints.
            constraints: ``"params <= 1e5"``, ...
            jobs: of which the trials count as well; the column `job` then tells them apart.
        """
        others = [j.id if isinstance(j, RemoteJob) else j for j in jobs]
        query = {"objective": list(objectives), "constraint": list(constraints), "job": others}
        rows = self._store.http.get(f"{self._path}/pareto-front", query)["trials"]
        metrics = [o.split()[-1] for o in objectives] or self.job.spec.problem.metrics
        found = frame_of(self._store.read(rows), metrics)
        return found.assign(job=[r["job"] for r in rows]) if others else found

    def cancel(self) -> RemoteJob:
        """End it; what was measured stays. Raises `WrongState`, as `pause` and `resume`."""
        return self._request("cancel")

    def pause(self) -> RemoteJob:
        """Let it wait; its runner lets go of it."""
        return self._request("pause")

    def resume(self) -> RemoteJob:
        """Put it back into the queue, for a runner."""
        return self._request("resume")

    def edit(self, *, name: str | None = None, budget: Mapping[str, Any] | None = None) -> RemoteJob:
        """Give it another name, or other values of some keys of its budget (None: the default).

        Raises:
            Stale: somebody edited it since the last look; see `refresh`.
            WrongState: it is over, or has spent more than that.
            SpecError: for a value that is not allowed.
        """
        patch = ({} if name is None else {"name": name}) | ({} if budget is None else {"budget": dict(budget)})
        self.job = self._store.patch(self.id, patch, self.job.revision)
        return self

    def clone(self, **changes: Any) -> RemoteJob:
        """A new job with the same document but for these keys, merged into it (None: the default).

        ``job.clone(seed=1, budget={"max_trial_count": 500})``. Raises `SpecError`.
        """
        data = self._store.http.request("POST", f"{self._path}:clone", json=changes, headers=fresh_key())
        return RemoteJob(self._store, job_of(data))

    def delete(self) -> None:
        """Forget it and its trials. Raises `WrongState` while a runner holds it."""
        self._store.delete(self.id)

    def events(self, after: int | None = None) -> Iterator[Event]:
        """What happens to it, until it is over; see `nas.remote.events`."""
        return events(self._store, self.id, after)

    def export(self, path: str | Path) -> Path:
        """Write all trials into a file; its ending tells the format: .csv, .json or .parquet."""
        file = Path(path)
        form = file.suffix.removeprefix(".").lower()
        if form not in FORMATS:
            raise ValueError(f"{file.name!r} does not tell the format; allowed: .{', .'.join(FORMATS)}")
        partial = file.with_name(f".{file.name}.part")  # so that the file is whole, or not there
        try:
            with (
                self._store.http.stream(f"{self._path}/trials:export", {"format": form}) as response,
                partial.open("wb") as out,
            ):
                for chunk in response.iter_bytes():
                    out.write(chunk)
            return partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)

    def export_model(
        self,
        number: int,
        path: str | Path,
        weights: Weights = "auto",
        data_licence: str = UNKNOWN,
        timeout: float | None = None,
    ) -> ModelCard:
        """Have the server write a trial's network to a file, and wait for it; see `SearchResult.export`.

        Raises:
            TimeoutError: the server goes on nevertheless; see `exports`.
            SpecError: for an ending that is not known.
            WrongState: there is nothing to train, or there are no such weights.
            ExportFailed: a check failed, or the training; no file was written.
        """
        from nas.deploy.deliver import ExportFailed
        from nas.remote.export import exported

        targets = {number: Path(path)}
        found = exported(self._store.http, self.id, targets, weights, data_licence, timeout)[number]
        if isinstance(found, str):
            raise ExportFailed({number: found}, {})
        return found

    def exports(self) -> list[RemoteExport]:
        """The files of its trials that the server was asked for, the newest first: to look at, fetch or cancel."""
        from nas.remote.export import exports_of

        return exports_of(self._store.http, self.id)

    def fit_predictor(
        self, metrics: Sequence[str] | None = None, trials: int | None = None, timeout: float | None = None
    ) -> RemotePredictor:
        """A predictor fitted by the server on the first `trials` finished trials (None: all); waits for it."""
        body = {"job": self.id, "metrics": None if metrics is None else list(metrics), "trials": trials}
        given = {name: value for name, value in body.items() if value is not None}
        data = self._store.http.request("POST", "/predictors", json=given)
        return RemotePredictor(self._store.http, data).wait(timeout)

    def _request(self, request: Request) -> RemoteJob:
        self.job = self._store.request(self.id, request)
        return self

    @property
    def _path(self) -> str:
        return job_path(self.id)
