from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import create_app
from api.guard import Guard
from api.limits import WRONG_KEYS, Buckets, Rate, network
from nas.access import Role, new_key
from nas.storage.memory import MemoryStore

SLOW = Rate(1 / 3600, 3)
"""Three requests, and then no further one while a test runs."""

rates = st.builds(Rate, st.floats(0.01, 1000), st.integers(1, 500))
gaps = st.lists(st.floats(0, 5), max_size=60)


@given(rates, gaps)
def test_no_more_pass_than_the_burst_and_what_filled_up_meanwhile(rate: Rate, gaps: list[float]) -> None:
    bucket, at, passed = Buckets(rate), 0.0, 0
    for gap in gaps:
        at += gap
        passed += bucket.take("a", at) == 0
        assert passed <= rate.burst + rate.per_second * at + 1e-6


@given(rates, gaps)
def test_who_waits_as_long_as_told_passes(rate: Rate, gaps: list[float]) -> None:
    bucket, at = Buckets(rate), 0.0
    for gap in gaps:
        at += gap
        wait = bucket.take("a", at)
        if wait > 0:
            assert wait <= 1 / rate.per_second + 1e-6
            at += wait
            assert bucket.take("a", at) == 0


@given(rates)
def test_a_full_bucket_holds_its_burst(rate: Rate) -> None:
    bucket = Buckets(rate)
    assert [bucket.take("a", 7.0) == 0 for _ in range(rate.burst + 1)] == [True] * rate.burst + [False]
    assert bucket.take("b", 7.0) == 0


def test_looking_takes_nothing() -> None:
    bucket = Buckets(SLOW)
    for _ in range(9):
        assert bucket.wait("a", 1.0) == 0
    for _ in range(3):
        bucket.take("a", 1.0)
    assert bucket.wait("a", 1.0) == pytest.approx(3600)


def test_buckets_are_bounded_and_those_used_last_are_kept() -> None:
    buckets = Buckets(SLOW, kept=10)
    for i in range(1000):
        buckets.take("always", float(i) * 1e-6)
        buckets.take(f"once {i}", float(i) * 1e-6)
        assert len(buckets) <= 10
    assert buckets.wait("always", 1e-3) > 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8:1:2::5", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::5", "2001:db8:1:3::5", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("testclient", "other", False),
    ],
)
def test_what_counts_as_one_client(one: str, other: str, same: bool) -> None:
    assert (network(one) == network(other)) is same


def refused(answer: Any) -> bool:
    if answer.status_code != 429:
        return False
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["code"]) == (429, "RESOURCE_EXHAUSTED")
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["retry-after"] in problem["detail"]
    return True


def test_an_address_that_asks_too_often_is_told_when_to_come_back(new_client: Any) -> None:
    client = new_client(create_app(MemoryStore(), Guard(rate=SLOW)))
    answers = [client.get(path) for path in ("/healthz", "/v1/jobs", "/nowhere", "/healthz", "/v1/jobs")]
    assert [a.status_code for a in answers[:3]] == [200, 200, 404]
    assert refused(answers[3])
    assert refused(answers[4])
    assert math.isclose(int(answers[3].headers["retry-after"]), 3600, abs_tol=5)


def test_each_key_has_a_bucket_of_its_own(new_client: Any) -> None:
    store = MemoryStore()
    client = new_client(create_app(store, Guard(keys=store.keys, rate=SLOW)))
    shown = []
    for name in ("al", "bo"):
        key, text = new_key(name, Role.VIEWER, "default", 1.0)
        store.keys.add(key)
        shown.append({"Authorization": f"Bearer {text}"})
        assert client.get("/v1/jobs", headers=shown[-1]).status_code == 200  # of the address: not known yet
    for headers in shown:
        answers = [client.get("/v1/jobs", headers=headers) for _ in range(4)]
        assert [a.status_code for a in answers[:3]] == [200] * 3
        assert refused(answers[3])


def test_guessing_keys_is_limited_and_harms_no_known_key(new_client: Any) -> None:
    store = MemoryStore()
    asked: list[str] = []

    class Counting:
        def get(self, key_id: str) -> Any:
            asked.append(key_id)
            return store.keys.get(key_id)

    client = new_client(create_app(store, Guard(keys=Counting())))  # type: ignore[arg-type]
    key, text = new_key("al", Role.VIEWER, "default", 1.0)
    store.keys.add(key)
    right = {"Authorization": f"Bearer {text}"}
    assert client.get("/v1/jobs", headers=right).status_code == 200
    guesses = [new_key("no", Role.VIEWER, "default", 1.0)[1] for _ in range(WRONG_KEYS.burst + 20)]
    answers = [client.get("/v1/jobs", headers={"Authorization": f"Bearer {guess}"}) for guess in guesses]
    assert [a.status_code for a in answers[: WRONG_KEYS.burst]] == [401] * WRONG_KEYS.burst
    assert refused(answers[-1])
    assert len(asked) < len(guesses)
    assert client.get("/v1/jobs", headers=right).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get("/v1/jobs").status_code == 401, "no key is no guess"


def test_no_limit_by_default_in_process(new_client: Any) -> None:
    client = new_client(create_app(MemoryStore()))
    assert {client.get("/healthz").status_code for _ in range(50)} == {200}
