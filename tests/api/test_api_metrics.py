"""The numbers that the API gives of itself, and whether it can do its work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from api import create_app
from nas.storage import open_store


def samples(client: Any) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def test_the_queue_is_counted_by_state(client: Any, search: Any, new_search: Any) -> None:
    new_search()
    search.open(1)
    found = samples(client)
    assert found["nas_jobs", frozenset({("state", "QUEUED")})] == 1
    assert found["nas_jobs", frozenset({("state", "RUNNING")})] == 1
    assert found["nas_jobs", frozenset({("state", "FAILED")})] == 0
    assert found["nas_queue_oldest_seconds", frozenset()] >= 0
    assert found["nas_database_up", frozenset()] == 1


def test_requests_are_counted_by_route_and_not_by_path(client: Any, new_search: Any) -> None:
    for _ in range(3):
        assert client.get(f"/v1/jobs/{new_search().id}").status_code == 200
    assert client.get("/v1/jobs/nothing").status_code == 404
    assert client.get("/wp-login.php").status_code == 404
    assert client.request("INVENTED", "/v1/jobs").status_code == 405
    counts = {
        tuple(value for _, value in sorted(labels)): n
        for (name, labels), n in samples(client).items()
        if name == "nas_http_requests_total"
    }
    (job_route,) = {route for _, route, _ in counts if "{" in route}
    assert counts["GET", job_route, "200"] == 3
    assert counts["GET", job_route, "404"] == 1
    assert counts["GET", "none", "404"] == 1
    assert {method for method, _, _ in counts} == {"GET", "other"}


def test_an_error_of_the_service_itself_is_counted(store: Any, new_client: Any) -> None:
    app = create_app(store)

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("a bug")

    client = new_client(app, raises=False)
    assert client.get("/broken").status_code == 500
    labels = frozenset({("method", "GET"), ("route", "/broken"), ("status", "500")})
    assert samples(client)["nas_http_requests_total", labels] == 1


def test_every_application_counts_for_itself(store: Any, new_client: Any) -> None:
    first, second = new_client(create_app(store)), new_client(create_app(store))
    first.get("/healthz")
    assert not any("/healthz" in dict(labels).values() for _, labels in samples(second))
    assert any("/healthz" in dict(labels).values() for _, labels in samples(first))


def test_metrics_without_a_database_say_so(tmp_path: Path, new_client: Any) -> None:
    store: Any = open_store(f"sqlite:///{tmp_path}/nas.db")
    client = new_client(create_app(store))
    with store.database.writing() as connection:
        connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
    found = samples(client)
    assert found["nas_database_up", frozenset()] == 0
    assert not any(name == "nas_jobs" for name, _ in found)
    store.close()


def test_ready_is_who_has_the_schema_of_this_version(tmp_path: Path, new_client: Any) -> None:
    store: Any = open_store(f"sqlite:///{tmp_path}/nas.db")
    client = new_client(create_app(store))
    assert client.get("/readyz").status_code == 200
    for revision, age in (("0001", "older"), ("9999", "newer")):
        with store.database.writing() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert age in answer.json()["detail"]
        assert client.get("/healthz").status_code == 200
    store.close()
