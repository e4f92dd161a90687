"""A client that submits jobs, looks at them all along, and remembers every finished trial that it ever saw."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chaos.jobs import Document

OPEN = ("PENDING", "RUNNING")
OVER = ("SUCCEEDED", "FAILED", "CANCELLED")
TOLERATED = 20
"""Broken promises after which looking on shows nothing new."""
PAUSE = 0.5
"""Seconds between two looks at the jobs."""


@dataclass
class Seen:
    """What was ever seen of one job."""

    document: Document
    state: str = "QUEUED"
    reason: str | None = None
    finished: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """Trials by number, as first seen finished."""
    last: list[Mapping[str, Any]] = field(default_factory=list)
    """All trials, as last seen."""

    @property
    def over(self) -> bool:
        return self.state in OVER


class Witness:
    """Keeps so many jobs going over HTTP until told that it is enough, and asks again until it is answered."""

    def __init__(self, url: str, documents: Sequence[Document], at_once: int) -> None:
        self.jobs: dict[str, Seen] = {}
        self.violations: list[str] = []
        self.answers: Counter[str] = Counter()
        """Requests by what came of them: statuses, and "no answer"."""
        self._http = httpx.Client(base_url=url, timeout=20)
        self._at_once = at_once
        self._documents = itertools.cycle(documents)
        self._enough, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._http.close()

    def enough(self) -> None:
        """Submit no more jobs."""
        self._enough.set()

    @property
    def done(self) -> bool:
        """Whether no more jobs come, and all are over."""
        return self._enough.is_set() and bool(self.jobs) and all(job.over for job in self.jobs.values())

    @property
    def alive(self) -> bool:
        """Whether it still looks; its own error ends it."""
        return self._thread.is_alive()

    def listed(self) -> list[str]:
        """The ids of all jobs that the service knows."""
        ids: list[str] = []
        token = None
        while token is not None or not ids:
            page = self._answer("GET", "/v1/jobs", params={"page_size": 100} | _token(token)).json()
            ids += [job["id"] for job in page["jobs"]]
            token = page["next_page_token"]
            if token is None:
                break
        return ids

    def _watch(self) -> None:
        while not self._stop.wait(PAUSE):
            while not self._enough.is_set() and sum(not j.over for j in list(self.jobs.values())) < self._at_once:
                self._submit(next(self._documents))
            for job_id, seen in list(self.jobs.items()):
                if not seen.over and not self._stop.is_set():
                    self._look(job_id, seen)

    def _submit(self, document: Document) -> None:
        """One job, however often it must be asked for: the key makes repetitions the same job."""
        answer = self._answer("POST", "/v1/jobs", json=document, headers={"Idempotency-Key": uuid.uuid4().hex})
        self.jobs[answer.json()["id"]] = Seen(document)

    def _look(self, job_id: str, seen: Seen) -> None:
        """Read the job, then its trials: what a job that is over has left behind is read after its end."""
        job = self._answer("GET", f"/v1/jobs/{job_id}").json()
        trials: list[Mapping[str, Any]] = []
        token = None
        while True:
            params = {"page_size": 1000} | _token(token)
            page = self._answer("GET", f"/v1/jobs/{job_id}/trials", params=params).json()
            trials += page["trials"]
            token = page["next_page_token"]
            if token is None:
                break
        seen.last = trials
        self._remember(job_id, seen, {t["number"]: t for t in trials})
        seen.reason, seen.state = job.get("reason") or job.get("error"), job["state"]

    def _remember(self, job_id: str, seen: Seen, now: Mapping[int, Mapping[str, Any]]) -> None:
        for number, before in seen.finished.items():
            if now.get(number) != before:
                self.violations.append(f"job {job_id}: finished trial {number} was {before}, is {now.get(number)}")
        seen.finished |= {n: t for n, t in now.items() if t["state"] not in OPEN}

    def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer of a service that may be dying or starting just now; bounded by the run's own end."""
        while True:
            try:
                answer = self._http.request(method, path, **options)
            except httpx.TransportError:
                self.answers["no answer"] += 1
            else:
                self.answers[str(answer.status_code)] += 1
                if answer.is_success:
                    return answer
                if answer.status_code not in (429, 503):
                    self.violations.append(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
                    if answer.is_client_error or len(self.violations) > TOLERATED:
                        raise RuntimeError(self.violations[-1])
            if self._stop.is_set():
                raise SystemExit
            time.sleep(0.3)


def _token(token: str | None) -> dict[str, str]:
    return {} if token is None else {"page_token": token}
