"""Neural architecture search: one document, searched locally, in Python or over HTTP, to a Pareto front."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.evaluators.infeasible import Infeasible
    from nas.job import JobSpec, JobState
    from nas.local import search
    from nas.remote.client import Client
    from nas.remote.errors import ApiError
    from nas.remote.job import RemoteJob
    from nas.result import SearchFailed, SearchResult
    from nas.trial import Broken, Measured, Proposal, Trial, TrialState
    from search_spaces import Architecture, Space, SpecError, load_space

# Loaded on first use, so that importing the package, and `nas --help`, cost nothing.
_HOME = {
    "ApiError": "nas.remote.errors",
    "Architecture": "search_spaces",
    "Broken": "nas.trial",
    "Client": "nas.remote.client",
    "Infeasible": "nas.evaluators.infeasible",
    "JobSpec": "nas.job",
    "JobState": "nas.job",
    "Measured": "nas.trial",
    "Proposal": "nas.trial",
    "RemoteJob": "nas.remote.job",
    "SearchFailed": "nas.result",
    "SearchResult": "nas.result",
    "Space": "search_spaces",
    "SpecError": "search_spaces",
    "Trial": "nas.trial",
    "TrialState": "nas.trial",
    "load_space": "search_spaces",
    "search": "nas.local",
}

__all__ = [
    "ApiError",
    "Architecture",
    "Broken",
    "Client",
    "Infeasible",
    "JobSpec",
    "JobState",
    "Measured",
    "Proposal",
    "RemoteJob",
    "SearchFailed",
    "SearchResult",
    "Space",
    "SpecError",
    "Trial",
    "TrialState",
    "load_space",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
