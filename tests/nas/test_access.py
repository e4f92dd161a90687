import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.access import OPEN, Role, is_loopback, key_id, masked, new_key, opens, takes_keys
from search_spaces import SpecError

KEY, TEXT = new_key("al", Role.VIEWER, "vision", 1000.0, 2000.0)
SECRET = TEXT.split("_", 2)[2]


def test_a_key_is_random_and_is_kept_without_its_secret() -> None:
    assert re.fullmatch(r"nas_[a-z2-7]{8,12}_[A-Za-z0-9_-]{43,}", TEXT)
    texts = {new_key("al", Role.VIEWER, "vision", 1000.0)[1] for _ in range(50)}
    assert len(texts) == 50
    assert SECRET not in repr(vars(KEY))
    assert KEY.digest not in repr(KEY)
    assert key_id(TEXT) == KEY.id


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="utf-8"))
def test_a_key_with_any_other_character_opens_nothing(place: int, character: str) -> None:
    other = TEXT[:place] + character + TEXT[place + 1 :]
    assert opens(other, KEY) == (other == TEXT)
    assert not opens(TEXT + character, KEY)
    assert not opens(TEXT[:place], KEY)


def test_a_key_opens_neither_nothing_nor_another() -> None:
    assert not opens(TEXT, None)
    assert not opens(TEXT, new_key("bo", Role.VIEWER, "vision", 1.0)[0])
    assert not opens(TEXT, replace(KEY, id="aaaaaaaaaa")), "the id is part of the key"
    assert not opens("", None)


@pytest.mark.parametrize(("at", "valid"), [(1000.0, True), (1999.9, True), (2000.0, False), (9e9, False)])
def test_a_key_is_valid_until_it_expires(at: float, valid: bool) -> None:
    assert KEY.valid(at) is valid
    assert not replace(KEY, revoked_at=999.0).valid(at)
    assert replace(KEY, expires_at=None).valid(at)


def test_each_role_may_what_the_one_before_may() -> None:
    allowed = [[role.allows(needed) for needed in Role] for role in (Role.VIEWER, Role.SUBMITTER, Role.ADMIN)]
    assert allowed == [[True, False, False], [True, True, False], [True, True, True]]


def test_a_principal_submits_for_its_project() -> None:
    by = KEY.principal.submitter("token", "digest")
    assert (by.project, by.owner, by.token, by.digest) == ("vision", "al", "token", "digest")
    assert OPEN.submitter().owner is None


@pytest.mark.parametrize("wrong", ["", " ", "a b", "-a", "a/b", "ä", "a" * 65, "a\n", "../x"])
def test_a_name_that_cannot_be(wrong: str) -> None:
    with pytest.raises(SpecError, match="name"):
        new_key(wrong, Role.VIEWER, "vision", 1.0)
    with pytest.raises(SpecError, match="project"):
        new_key("al", Role.VIEWER, wrong, 1.0)


LOOPBACK = ["127.0.0.1", "127.8.9.1", "localhost", "LocalHost", "nas.localhost", "::1", "[::1]"]
OTHER = [
    "0.0.0.0",
    "::",
    "[::]",
    "",
    "10.0.0.1",
    "192.168.1.7",
    "example.org",
    "localhost.example.org",
    "127.0.0.1.nip.io",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_on_loopback_keys_are_asked_for_when_wanted(host: str) -> None:
    assert is_loopback(host)
    assert [takes_keys(auth, host) for auth in ("auto", "keys", "off")] == [False, True, False]


@pytest.mark.parametrize("host", OTHER)
def test_elsewhere_keys_are_always_asked_for(host: str) -> None:
    assert not is_loopback(host)
    assert takes_keys("auto", host)
    assert takes_keys("keys", host)
    with pytest.raises(SpecError, match="NAS_AUTH"):
        takes_keys("off", host)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:///.nas/nas.db", "sqlite:///.nas/nas.db"),
        ("postgresql://nas@db/nas", "postgresql://nas@db/nas"),
        ("postgresql://nas:hunter2@db:5432/nas", "postgresql://nas:***@db:5432/nas"),
        ("postgresql://nas:hu@nt/er2@db/nas", "postgresql://nas:***@db/nas"),
        ("postgresql://db/nas?user=a&password=hunter2", "postgresql://db/nas?user=***&password=***"),
        (f"Authorization: Bearer {TEXT}", f"Authorization: Bearer nas_{KEY.id}_***"),
        (f"GET /v1/jobs?key={TEXT[:-5]}", f"GET /v1/jobs?key=nas_{KEY.id}_***"),
        ("nothing to hide", "nothing to hide"),
    ],
    ids=range(8),  # the key is drawn anew in each process
)
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
