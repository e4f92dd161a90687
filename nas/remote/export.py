"""Networks of trials as files that a server's runners write and check, fetched to this machine."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nas.deploy.card import ModelCard, read_card
from nas.deploy.deliver import format_of, hand_out
from nas.exports import UNKNOWN, ExportState, Weights
from nas.remote.errors import ApiError
from nas.remote.http import Http

POLL = 0.5
"""Seconds between two looks at exports that are waited for."""
OUTAGE = 600.0
"""Seconds that a server may be away meanwhile."""


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
        SpecError, KeyError, WrongState, ApiError: as the server refuses it.
    """
    asked = {"job": job_id, "weights": weights, "data_licence": data_licence}
    bodies = {n: {**asked, "trial": n, "format": format_of(path)} for n, path in targets.items()}
    waiting = {n: http.request("POST", "/exports", json=body) for n, body in bodies.items()}
    end = None if timeout is None else time.monotonic() + timeout
    found: dict[int, ModelCard | str] = {}
    while True:
        for number, export in list(waiting.items()):
            if ExportState(export["state"]).over:
                del waiting[number]
                found[number] = _ended(http, export, targets[number])
        observe(len(found))
        if not waiting:
            return {number: found[number] for number in targets}
        if end is not None and time.monotonic() >= end:
            raise TimeoutError(f"{len(waiting)} exports are not done after {timeout} s; the server goes on")
        time.sleep(POLL)
        waiting = {n: http.get(_path(e), patience=OUTAGE) for n, e in waiting.items()}


def _ended(http: Http, export: Mapping[str, Any], target: Path) -> ModelCard | str:
    """The card of an export that is over, once its file is here; or why there is none."""
    if export["state"] == ExportState.FAILED.value:
        return str(export["reason"])
    card = read_card(json.dumps(http.get(f"{_path(export)}:card")))
    with http.stream(f"{_path(export)}/file") as response:
        content = b"".join(response.iter_bytes())
    if hashlib.sha256(content).hexdigest() != card.file.sha256:
        raise ApiError(None, "DATA_LOSS", f"the file of trial {card.trial} did not arrive whole; try again")
    return hand_out(content, card, target)


def _path(export: Mapping[str, Any]) -> str:
    return f"/exports/{quote(str(export['id']), safe='')}"
