"""Requests over real sockets: what is repeated, what is not, and what is said of failures."""

import json
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from nas.contracts import Stale
from nas.job import WrongState
from nas.remote.errors import ApiError, NotFound
from nas.remote.http import Http, fresh_key
from search_spaces import Fault, SpecError

Stubbed = Callable[..., Any]
JSON = {"Content-Type": "application/json"}
GOOD = (200, JSON, b'{"fine": true}')
KEY = "nas_ab12_secret"


def problem(status: int, headers: dict[str, str] | None = None, **content: Any) -> Any:
    body = json.dumps({"status": status, "code": "SOME_CODE", "detail": "it is so", **content}).encode()
    return status, {"Content-Type": "application/problem+json", **(headers or {})}, body


@pytest.mark.parametrize(
    "away",
    [
        problem(503, {"Retry-After": "0"}),
        problem(429, {"Retry-After": "1"}),
        (502, {}, b"<html>bad gateway</html>"),
        (504, {"Retry-After": format_datetime(datetime.now(UTC) - timedelta(days=1))}, b""),
        None,
    ],
    ids=["503", "429", "502", "504", "hangs up"],
)
def test_a_submission_is_repeated_with_the_same_key_and_body(stubbed: Stubbed, away: Any) -> None:
    stub = stubbed(away, away, GOOD)
    http = Http(stub.url, KEY)
    assert http.request("POST", "/jobs", json={"a": 1}, headers=fresh_key()) == {"fine": True}
    assert len(stub.seen) == 3
    assert len({s.headers["idempotency-key"] for s in stub.seen}) == 1
    assert {(s.method, s.path, s.body) for s in stub.seen} == {("POST", "/v1/jobs", b'{"a":1}')}
    assert {s.headers["authorization"] for s in stub.seen} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("away", [problem(503), None], ids=["503", "hangs up"])
def test_what_may_not_come_twice_is_sent_once(stubbed: Stubbed, away: Any) -> None:
    stub = stubbed(away, GOOD)
    with pytest.raises(ApiError) as caught:
        Http(stub.url).request("PATCH", "/jobs/a", json={"name": "b"})
    assert caught.value.status == (503 if away else None)
    assert len(stub.seen) == 1


def test_too_many_requests_are_none_that_were_carried_out(stubbed: Stubbed) -> None:
    stub = stubbed(problem(429, {"Retry-After": "0"}), GOOD)
    assert Http(stub.url).request("PATCH", "/jobs/a", json={"name": "b"}) == {"fine": True}


def test_reading_is_repeated_until_patience_ends(stubbed: Stubbed) -> None:
    stub = stubbed(problem(503, detail="the database does not answer"))
    with pytest.raises(ApiError, match="the database does not answer") as caught:
        Http(stub.url, patience=1.0).get("/jobs")
    assert caught.value.status == 503
    assert len(stub.seen) > 1


def test_a_server_that_wants_more_time_than_there_is_is_not_waited_for(stubbed: Stubbed) -> None:
    stub = stubbed(problem(503, {"Retry-After": "3600"}))
    with pytest.raises(ApiError):
        Http(stub.url).get("/jobs")
    assert len(stub.seen) == 1


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ApiError, match=f"no answer from {url}") as caught:
            Http(url, patience=0.5).get("/jobs")
    assert (caught.value.status, caught.value.code) == (None, "UNAVAILABLE")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_takes_the_key_nowhere(stubbed: Stubbed, status: int) -> None:
    elsewhere = stubbed(GOOD)
    stub = stubbed((status, {"Location": f"{elsewhere.url}/v1/jobs"}, b""))
    with pytest.raises(ApiError, match=f"points to {elsewhere.url}"):
        Http(stub.url, KEY).get("/jobs")
    assert elsewhere.seen == []


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (404, KeyError), (409, WrongState), (412, Stale), (422, SpecError)]
)
def test_problems_are_the_exceptions_of_a_local_store(stubbed: Stubbed, status: int, kind: Any) -> None:
    with pytest.raises(kind, match="it is so"):
        Http(stubbed(problem(status)).url).get("/jobs/a")


def test_faults_keep_their_paths(stubbed: Stubbed) -> None:
    stub = stubbed(problem(422, faults=[{"path": "a.0", "message": "is wrong"}, {"path": "", "message": "too"}]))
    with pytest.raises(SpecError) as caught:
        Http(stub.url).request("POST", "/jobs", json={})
    assert caught.value.faults == (Fault("a.0", "is wrong"), Fault("", "too"))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_named_and_not_shown(stubbed: Stubbed, status: int) -> None:
    with pytest.raises(ApiError, match=r"NAS_API_KEY.*it is so") as caught:
        Http(stubbed(problem(status)).url, KEY).get("/jobs")
    assert (caught.value.status, caught.value.code) == (status, "SOME_CODE")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("answer", [(200, {}, b"<html>hello</html>"), (404, {}, b"nothing here"), (500, {}, b"")])
def test_something_else_that_speaks_http(stubbed: Stubbed, answer: Any) -> None:
    with pytest.raises(ApiError, match="is it a NAS service"):
        Http(stubbed(answer).url).get("/jobs")


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "", "http://[::1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(SpecError, match="is not an address"):
        Http(url)


@pytest.mark.parametrize("key", ["two words", "new\nline", "schlüssel"])
def test_what_is_no_key_is_not_shown(key: str) -> None:
    with pytest.raises(SpecError) as caught:
        Http("http://host", key)
    assert key not in str(caught.value)


def test_a_server_below_a_path(stubbed: Stubbed) -> None:
    stub = stubbed(GOOD)
    Http(f"{stub.url}/nas/").get("/jobs", {"state": ["A", "B"], "name": None})
    assert stub.seen[0].path == "/nas/v1/jobs?state=A&state=B"
