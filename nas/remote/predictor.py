"""A predictor that the server fitted on a job's trials."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from nas.remote.errors import ApiError
from nas.remote.http import Http
from predictors.contract import Prediction
from search_spaces.domains import Value

POLL = 0.5
"""Seconds between two looks at a predictor that is being fitted."""
AT_ONCE = 1000
"""Architectures of one request."""


class RemotePredictor:
    """Expects metrics of architectures, as the server's predictor does."""

    def __init__(self, http: Http, data: Mapping[str, Any]) -> None:
        self._http, self._data = http, data

    @property
    def id(self) -> str:
        """Its id on the server."""
        return str(self._data["id"])

    @property
    def metrics(self) -> tuple[str, ...]:
        """What it predicts."""
        return tuple(self._data["metrics"])

    @property
    def trials(self) -> int:
        """How many finished trials it learnt from."""
        return int(self._data["trials"])

    @property
    def quality(self) -> Mapping[str, Any]:
        """How well it does, as `nas predictors JOB --json` tells it."""
        return dict(self._data["quality"] or {})

    def wait(self, timeout: float | None = None) -> RemotePredictor:
        """Wait until it is fitted.

        Raises:
            TimeoutError: after `timeout` seconds.
            ApiError: it could not be fitted; the message tells why.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self._data["state"] == "FITTING":
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"predictor {self.id} was not fitted within {timeout} s")
            time.sleep(POLL)
            self._data = self._http.get(self._path)
        if self._data["state"] == "FAILED":
            raise ApiError(None, "FAILED_PRECONDITION", f"the predictor was not fitted: {self._data['reason']}")
        return self

    def predict(self, architectures: Sequence[Mapping[str, Value]]) -> Prediction:
        """Mean and standard deviation of each metric, shape (n, metrics), in the order of `metrics`.

        `architectures`: of the job's space, as `Architecture` objects or as values by choice name. Raises
        `SpecError` for what is not of the space.
        """
        told: list[Mapping[str, Any]] = []
        for start in range(0, len(architectures), AT_ONCE):
            body = {"architectures": [dict(a) for a in architectures[start : start + AT_ONCE]]}
            # it changes nothing, so it may be repeated
            told += self._http.request("POST", f"{self._path}:predict", json=body, again=True)["predictions"]
        mean, std = ([[float(p[m][what]) for m in self.metrics] for p in told] for what in ("mean", "std"))
        shape = (len(told), len(self.metrics))
        return Prediction(
            np.array(mean, dtype=np.float64).reshape(shape), np.array(std, dtype=np.float64).reshape(shape)
        )

    def delete(self) -> None:
        """Forget it."""
        self._http.request("DELETE", self._path)

    @property
    def _path(self) -> str:
        return f"/predictors/{quote(self.id, safe='')}"
