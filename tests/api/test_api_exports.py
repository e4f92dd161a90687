from __future__ import annotations

import csv
import io
from typing import Any

import pandas as pd
import pytest

from nas.trial import Broken, BrokenKind
from nas.wire import trial_dict

LAST = ["feasible", "order", "attempt", "key", "reason", "created_at", "finished_at", "job"]


@pytest.fixture(params=["few", "pages"])
def filled(request, new_search, document, monkeypatch) -> Any:
    """A job with trials in several states, whose networks lack some choices."""
    if request.param == "pages":
        monkeypatch.setattr("api.exports.PAGE", 4)
        monkeypatch.setattr("api.exports.ROWS", 4)
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
