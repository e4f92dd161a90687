"""Networks of trials as files that a server's runners write and check, fetched to this machine."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nas.deploy.card import ModelCard, read_card
from nas.deploy.deliver import format_of, hand_out
from nas.exports import UNKNOWN, ExportState, Weights
from nas.job import WrongState
from nas.remote.errors import ApiError
from nas.remote.http import Http, fresh_key

POLL = 0.5
"""Seconds between two looks at exports that are waited for."""
OUTAGE = 600.0
"""Seconds that a server may be away meanwhile."""


class RemoteExport:
    """A file that a server's runners make. What it shows of itself is as of the last request; see `refresh`."""

    def __init__(self, http: Http, data: Mapping[str, Any]) -> None:
        self._http, self._data = http, data

    def __repr__(self) -> str:
        return f"RemoteExport({self.id!r}, trial {self.trial}, {self.state})"

    @property
    def id(self) -> str:
        """Its id on the server."""
        return str(self._data["id"])

    @property
    def trial(self) -> int:
        """The number of the trial whose network it is."""
        return int(self._data["trial"])

    @property
    def state(self) -> ExportState:
        """Where it stood at the last request."""
        return ExportState(self._data["state"])

    @property
    def reason(self) -> str | None:
        """Why there is no file, where it is FAILED or CANCELLED."""
        reason = self._data["reason"]
        return None if reason is None else str(reason)

    def refresh(self, patience: float | None = None) -> RemoteExport:
        """Look again; `patience`: seconds that the server may be away meanwhile."""
        self._data = self._http.get(self._path, patience=patience)
        return self

    def cancel(self) -> RemoteExport:
        """Have no file made. Raises `WrongState` where it is over."""
        self._data = self._http.request("POST", f"{self._path}:cancel", again=True)
        return self

    def fetch(self, target: Path) -> ModelCard:
        """Write the file, once it has SUCCEEDED, with its card beside it.

        Raises:
            ApiError: it did not arrive, or not whole.
            WrongState: it has not SUCCEEDED.
            OSError: it cannot be written.
        """
        card = read_card(json.dumps(self._http.get(f"{self._path}:card")))
        with self._http.stream(f"{self._path}/file") as response:
            content = b"".join(response.iter_bytes())
        if hashlib.sha256(content).hexdigest() != card.file.sha256:
            raise ApiError(None, "DATA_LOSS", "it did not arrive whole; try again")
        return hand_out(content, card, target)

    @property
    def _path(self) -> str:
        return f"/exports/{quote(self.id, safe='')}"


def exported(
    http: Http,
    job_id: str,
    targets: Mapping[int, Path],
    weights: Weights = "auto",
    data_licence: str = UNKNOWN,
    timeout: float | None = None,
    observe: Callable[[int], None] = lambda done: None,
) -> dict[int, ModelCard | str]:
    """Have trials of a job exported, and fetch each file with its card once it is there.

    Args:
        http: the server.
        job_id: of the job.
        targets: a path a trial, by number.
        weights: see `nas.exports`.
        data_licence: for the model cards.
        timeout: seconds; None: as long as it takes.
        observe: told how many are done.

    Returns:
        The card of each file by the trial's number, or why there is none.

    Raises:
        TimeoutError: the server goes on nevertheless.
        SpecError, KeyError, WrongState, ApiError: as the server refuses one of them; none is made then.
    """
    asked = {"job": job_id, "weights": weights, "data_licence": data_licence}
    bodies = {n: {**asked, "trial": n, "format": format_of(path)} for n, path in targets.items()}
    waiting = _all_asked(http, bodies)
    end = None if timeout is None else time.monotonic() + timeout
    found: dict[int, ModelCard | str] = {}
    while True:
        for number, export in list(waiting.items()):
            if export.state.over:
                del waiting[number]
                found[number] = _ended(export, targets[number])
        observe(len(found))
        if not waiting:
            return {number: found[number] for number in targets}
        if end is not None and time.monotonic() >= end:
            raise TimeoutError(f"{len(waiting)} exports are not done after {timeout} s; the server goes on")
        time.sleep(POLL)
        for export in waiting.values():
            export.refresh(OUTAGE)


def exports_of(http: Http, job_id: str) -> list[RemoteExport]:
    """All exports of a job, the newest first. Raises `KeyError`."""
    found: list[RemoteExport] = []
    token: str | None = None
    while True:
        page = http.get("/exports", {"job": job_id, "page_token": token})
        found += [RemoteExport(http, data) for data in page["exports"]]
        token = page["next_page_token"]
        if token is None:
            return found


def _all_asked(http: Http, bodies: Mapping[int, Mapping[str, object]]) -> dict[int, RemoteExport]:
    """All of them, or after an error none."""
    asked: dict[int, RemoteExport] = {}
    try:
        for number, body in bodies.items():
            asked[number] = _asked(http, body)
    except BaseException:
        for export in asked.values():
            with suppress(ApiError, WrongState, KeyError):
                export.cancel()
        raise
    return asked


def _asked(http: Http, body: Mapping[str, object]) -> RemoteExport:
    return RemoteExport(http, http.request("POST", "/exports", json=body, headers=fresh_key()))


def _ended(export: RemoteExport, target: Path) -> ModelCard | str:
    """The card of an export that is over, once its file is here; or why there is none."""
    if export.state is ExportState.CANCELLED:
        return f"the export of trial {export.trial} was {export.reason}"
    if export.state is not ExportState.SUCCEEDED:
        return str(export.reason)
    try:
        return export.fetch(target)
    except (ApiError, WrongState, OSError, ValueError) as error:  # the others may arrive
        return f"the file of trial {export.trial}: {error}"
