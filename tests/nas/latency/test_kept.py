"""Numbers that stay: the first word counts, in a folder that is this user's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nas.latency import kept
from search_spaces import SpecError

OF = {"runtime": "torch", "threads": 1}


def test_what_is_found_once_stays(tmp_path: Path) -> None:
    numbers = iter([3.25, 4.0])

    def found() -> float:
        return next(numbers)

    assert [kept.kept(OF, found, tmp_path) for _ in range(3)] == [3.25] * 3
    assert kept.kept({**OF, "threads": 2}, found, tmp_path) == 4.0


def test_the_first_word_counts(tmp_path: Path) -> None:
    """Another host with the same home folder may be faster; both go on with one number."""

    def found() -> float:
        kept.kept(OF, lambda: 1.0, tmp_path)
        return 2.0

    assert kept.kept(OF, found, tmp_path) == 1.0


@pytest.mark.parametrize(
    "damaged",
    ["", "{", "[]", '{"number": "x"}', '{"number": 2.0}', '{"number": -1, "of": {}}', '{"number": 1e999}'],
)
def test_a_damaged_file_is_replaced(damaged: str, tmp_path: Path) -> None:
    kept.kept(OF, lambda: 3.0, tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(damaged)
    assert kept.kept(OF, lambda: 7.0, tmp_path) == 7.0
    assert kept.kept(OF, lambda: 8.0, tmp_path) == 7.0
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_of_another_kind_or_user_is_replaced(tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "ours", tmp_path / "theirs"
    kept.kept(OF, lambda: 3.0, elsewhere)
    kept.kept(OF, lambda: 4.0, place)
    (theirs,), (file,) = elsewhere.iterdir(), place.iterdir()
    file.unlink()
    file.symlink_to(theirs)
    assert kept.kept(OF, lambda: 5.0, place) == 5.0
    assert "3.0" in theirs.read_text()
    if os.geteuid() == 0:
        os.chown(file, 65534, 65534)
        assert kept.kept(OF, lambda: 6.0, place) == 6.0


def test_the_folder_is_this_user_s_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = kept.place()
    assert place == tmp_path / "nas-service" / "latency"
    place.mkdir(parents=True, mode=0o777)
    place.chmod(0o777)
    kept.kept(OF, lambda: 3.0, place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert kept.place() == Path.home() / ".cache" / "nas-service" / "latency"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(SpecError, match="belongs to another user; XDG_CACHE_HOME names another folder"):
        kept.kept(OF, lambda: 3.0, tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="cannot be used: "):
        kept.kept(OF, lambda: 3.0, tmp_path / "file" / "latency")
