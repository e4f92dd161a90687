from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pandas as pd
import pytest
import uvicorn

from api import create_app, trial_files
from nas.trial import Broken, BrokenKind
from nas.trial_files import Format
from nas.wire import trial_dict
from tests.waiting import until

LAST = ["feasible", "order", "attempt", "key", "reason", "created_at", "finished_at", "job"]


@pytest.fixture(params=["few", "pages"])
def filled(request, new_search, document, monkeypatch) -> Any:
    """A job with trials in several states, whose networks lack some choices."""
    if request.param == "pages":
        monkeypatch.setattr("api.trial_files.PAGE", 4)
        monkeypatch.setattr("api.trial_files.ROWS", 4)
    search = new_search({**document, "space": "digits-tiny", "constraints": []})
    search.run(12)
    number = search.open(4, seed=1)[0].number
    search.close(number, Broken(BrokenKind.FAILED, 'ValueError: "a",\n=b'))
    return search


def export(client: Any, search: Any, format: str) -> Any:
    answer = client.get(f"/v1/jobs/{search.id}/trials:export?format={format}")
    assert answer.status_code == 200, answer.text
    name = f"trials-{search.id}.{format}"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    return answer


def rows(search: Any) -> list[dict[str, Any]]:
    """What the trials say, flat."""
    metrics = ("params", "macs", "model_size_bytes", "peak_activation_bytes")
    found = []
    for trial in search.store.trials(search.id):
        wire = trial_dict(trial, search.id)
        found.append(
            {
                "number": wire["number"],
                "state": wire["state"],
                **{f"architecture.{c.name}": wire["architecture"].get(c.name) for c in search.space.choices},
                **{f"metrics.{m}": wire["metrics"].get(m) for m in metrics},
                **{k: wire.get(k) for k in LAST},
                "reason": trial.reason,
            }
        )
    return found


def test_json_is_an_array_of_flat_objects(client, filled):
    answer = export(client, filled, "json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == rows(filled)
    columns = list(answer.json()[0])
    assert columns[:2] + columns[-8:] == ["number", "state", *LAST]


def test_csv_has_the_same_columns_and_values(client, filled):
    answer = export(client, filled, "csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    found = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    for row, wanted in zip(found, rows(filled), strict=True):
        assert list(row) == list(wanted)
        for name, value in wanted.items():
            told = str(value).lower() if isinstance(value, bool) else str("" if value is None else value)
            assert row[name] == told


def test_parquet_has_the_same_columns_with_their_types(client, filled, tmp_path):
    answer = export(client, filled, "parquet")
    frame = pd.read_parquet(io.BytesIO(answer.content))
    wanted = rows(filled)
    assert list(frame.columns) == list(wanted[0])
    for row, expected in zip(frame.to_dict("records"), wanted, strict=True):
        for name, value in expected.items():
            if value is None:
                assert pd.isna(row[name])
            elif name.endswith("_at"):
                assert row[name] == pd.Timestamp(value)
            else:
                assert row[name] == value
    assert str(frame["finished_at"].dtype) == "datetime64[ms, UTC]"
    assert frame["metrics.params"].dtype == float
    assert frame["number"].dtype == int


@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_a_job_without_trials(client, search, format):
    answer = export(client, search, format)
    if format == "json":
        assert answer.json() == []
    elif format == "csv":
        assert answer.text.startswith("number,state,architecture.")
        assert answer.text.count("\r\n") == 1
    else:
        frame = pd.read_parquet(io.BytesIO(answer.content))
        assert (len(frame), frame.columns[0]) == (0, "number")


def test_csv_is_what_is_given_by_default_and_other_formats_are_refused(client, search):
    url = f"/v1/jobs/{search.id}/trials:export"
    assert client.get(url).text == client.get(f"{url}?format=csv").text
    answer = client.get(f"{url}?format=xlsx")
    assert (answer.status_code, answer.json()["faults"][0]["path"]) == (422, "format")


def test_the_file_of_a_job_that_is_not_there(client):
    assert client.get("/v1/jobs/0123abc/trials:export").status_code == 404


class Vanishing:
    """A store whose job is deleted after so many pages of its trials were read, if ever."""

    def __init__(self, store: Any, pages: float) -> None:
        self._store, self._pages, self.read = store, pages, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def trials(self, job_id: str, *where: Any) -> Any:
        if self.read >= self._pages:
            raise KeyError(job_id)
        self.read += 1
        return self._store.trials(job_id, *where)


@contextmanager
def served(store: Any) -> Iterator[str]:
    """The URL of a server in a thread."""
    server = uvicorn.Server(uvicorn.Config(create_app(store), port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.mark.parametrize("filled", ["pages"], indirect=True)
@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_a_file_whose_job_is_deleted_meanwhile_does_not_look_complete(filled, format):
    with served(Vanishing(filled.store, 2)) as url, httpx.Client() as client:
        with client.stream("GET", f"{url}/v1/jobs/{filled.id}/trials:export?format={format}") as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                for _ in answer.iter_bytes():
                    pass
        assert client.get(f"{url}/healthz").status_code == 200


@pytest.mark.parametrize("format", Format)
def test_a_file_is_sent_page_by_page(search, monkeypatch, format):
    monkeypatch.setattr(trial_files, "PAGE", 4)
    monkeypatch.setattr(trial_files, "ROWS", 4)
    search.run(12)
    store = Vanishing(search.store, float("inf"))
    read = [store.read for _ in trial_files._content(store, trial_files._table(store, search.job), format)]
    assert read == list(range(0 if format is Format.CSV else 1, 5)), "nothing is read ahead of what is sent"
