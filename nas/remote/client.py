"""The Python face of a server: `nas.search`, run by somebody else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import isfunction
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from nas.contracts import JobFilter
from nas.evaluators.callable import reference
from nas.job import JobState
from nas.local import document_of
from nas.remote.http import PATIENCE, Http
from nas.remote.job import RemoteJob
from nas.remote.store import RemoteStore
from nas.result import SearchResult
from nas.settings import read_settings
from search_spaces import Space, SpecError, load_space


class Client:
    """A NAS service. Threads may share it; ``with nas.Client() as client:`` closes its connections."""

    def __init__(self, url: str | None = None, api_key: str | None = None, *, patience: float = PATIENCE) -> None:
        """A client; nothing is sent yet.

        Args:
            url: ``http://host:port``; default: the environment's NAS_URL.
            api_key: default: the environment's NAS_API_KEY.
            patience: seconds for which requests are repeated while the server is away.

        Raises:
            SpecError: for an address that is none.
        """
        settings = read_settings()
        address = url or settings.url
        if not address:
            raise SpecError.at("url", "is required, here or in NAS_URL; allowed: http://host:port")
        self._http = Http(address, api_key or settings.api_key, patience=patience)
        self.store = RemoteStore(self._http)
        """The server's jobs and trials, as any `nas.contracts.Jobs` has them."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; jobs go on."""
        self._http.close()

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._http.url

    def search(
        self,
        document: str | Path | Mapping[str, Any] | None = None,
        *,
        space: Space | str | Path | Mapping[str, Any] | None = None,
        evaluator: Callable[..., Mapping[str, float]] | str | Mapping[str, Any] | None = None,
        searcher: str | Mapping[str, Any] | None = None,
        warm_start: Sequence[str | RemoteJob | SearchResult] | None = None,
        **overrides: Any,
    ) -> RemoteJob:
        """Submit a job, and give a handle on it at once; ``.wait()`` gives what `nas.search` would.

        Arguments are those of `nas.search`, but where the search runs is up to the server. A function is sent as
        its import path, which the server's operator must have allowed. However often the request has to be
        repeated, there is one job.

        Raises:
            SpecError: with everything wrong in the document; there is no job.
            ApiError: the server is away, or refuses.
        """
        told = _told(warm_start, overrides)
        return RemoteJob(self.store, self.store.send(_document(document, space, evaluator, searcher, told)))

    def validate(self, document: str | Path | Mapping[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
        """What the server would make of a job: ``spec``, with defaults, and ``size``, the points of the space.

        Arguments are those of `search`; nothing is written. Raises `SpecError`.
        """
        space, evaluator, searcher = (arguments.pop(n, None) for n in ("space", "evaluator", "searcher"))
        told = _told(arguments.pop("warm_start", None), arguments)
        whole = _document(document, space, evaluator, searcher, told)
        query = {"validate_only": True}
        return dict(self._http.request("POST", "/jobs", params=query, json=whole, again=True))

    def job(self, job_id: str) -> RemoteJob:
        """A job by its id. Raises `KeyError`."""
        return RemoteJob(self.store, self.store.job(job_id))

    def jobs(
        self,
        *states: JobState | str,
        name: str | None = None,
        owner: str | None = None,
        limit: int = 100,
        oldest_first: bool = False,
    ) -> list[RemoteJob]:
        """Jobs that the API key sees, the newest first; in one of `states`, where any are named."""
        which = JobFilter(states=tuple(map(JobState, states)), name=name, owner=owner)
        found = self.store.jobs(which, limit=limit, oldest_first=oldest_first)
        return [RemoteJob(self.store, job) for job in found]

    def capabilities(self) -> dict[str, Any]:
        """What the server can do: its version, its limits, and what documents may name there."""
        return dict(self._http.get("/capabilities"))

    def spaces(self) -> list[dict[str, Any]]:
        """The server's presets: ``name``, ``family`` and ``size`` of each."""
        return list(self._http.get("/spaces")["spaces"])

    def space(self, name: str) -> Space:
        """A preset or a reference network of the server's. Raises `KeyError`."""
        found = self._http.get(f"/spaces/{quote(name, safe='')}")
        return load_space({**found["document"], "name": found["name"]})


def _document(
    document: str | Path | Mapping[str, Any] | None,
    space: Space | str | Path | Mapping[str, Any] | None,
    evaluator: object,
    searcher: object,
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """The document to send. Raises `SpecError` for what stays on this machine: objects that have no name."""
    for name, given in (("evaluator", evaluator), ("searcher", searcher)):
        if given is not None and not isinstance(given, str | Mapping) and not isfunction(given):
            raise SpecError.at(name, "an object cannot be sent to a server; allowed: a kind, or its settings")
    if isfunction(evaluator) and not _importable(evaluator):
        path = reference(evaluator)
        raise SpecError.at("evaluator", f"{path} cannot be imported by a server; allowed: a function of a module")
    return document_of(document, space, evaluator, searcher, overrides)


def _importable(function: Callable[..., object]) -> bool:
    return function.__module__ != "__main__" and function.__qualname__.isidentifier()


def _told(
    warm_start: Sequence[str | RemoteJob | SearchResult] | None, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """The overrides, with the ids of jobs to learn from."""
    if isinstance(warm_start, str | RemoteJob | SearchResult):
        raise SpecError.at("warm_start", "is a single job; a list of jobs is needed")
    jobs = None if warm_start is None else [_job_id(job) for job in warm_start]
    return {**overrides, "warm_start": jobs}


def _job_id(job: str | RemoteJob | SearchResult) -> str:
    if isinstance(job, SearchResult):
        return job.job.id
    return job.id if isinstance(job, RemoteJob) else job
