"""A job that somebody deletes between two looks of one request is not there: 404, never 500."""

from __future__ import annotations

from typing import Any

import pytest

from api import create_app
from nas.job import Job, JobState
from tests.documents import CELLS


class Hurried:
    """A store whose job is deleted as soon as it was looked at."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def job(self, job_id: str) -> Job:
        found: Job = self._store.job(job_id)
        self._store.delete(job_id)
        return found


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/trials", None),
        ("GET", "/trials?after=-1", None),
        ("GET", "/trials/0", None),
        ("GET", "/trials:export", None),
        ("GET", "/trials:export?format=parquet", None),
        ("GET", "/pareto-front?history=true", None),
        ("PATCH", "", {"name": "other"}),
        ("DELETE", "", None),
        ("POST", ":cancel", None),
        ("POST", ":pause", None),
        ("POST", ":resume", None),
    ],
)
def test_a_job_deleted_meanwhile_is_not_there(store, search, new_client, method, path, body):
    search.run(3)
    search.release(JobState.PAUSED)
    answer = new_client(create_app(Hurried(store))).request(method, f"/v1/jobs/{search.id}{path}", json=body)
    assert answer.status_code == 404
    assert answer.json()["code"] == "NOT_FOUND"


def test_a_predictor_of_a_job_deleted_meanwhile_is_not_made(store, search, new_client):
    search.run(3)
    search.release(JobState.PAUSED)
    client = new_client(create_app(Hurried(store)))
    assert client.post("/v1/predictors", json={"job": search.id, "metrics": ["macs"]}).status_code == 404


def test_an_export_of_a_job_deleted_meanwhile_is_not_made(store, new_search, new_client):
    trained = new_search({**CELLS, "space": "digits-tiny", "evaluator": "training", "objectives": ["min params"]})
    trained.run(1)
    trained.release(JobState.PAUSED)
    client = new_client(create_app(Hurried(store)))
    assert client.post("/v1/exports", json={"job": trained.id, "trial": 0}).status_code == 404
