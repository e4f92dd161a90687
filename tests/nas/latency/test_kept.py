"""Numbers that stay: the first word counts, in a folder that is this user's alone."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nas.latency import kept
from search_spaces import SpecError

OF = {"runtime": "torch", "threads": 1}
AT_ONCE = """
import os, sys
from pathlib import Path
from nas.latency import kept
print("ready", flush=True)
sys.stdin.readline()
print(*[kept.kept({"threads": i}, lambda: os.getpid(), Path(sys.argv[1])) for i in range(100)])
"""


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
def test_a_damaged_number_is_found_anew(damaged: str, tmp_path: Path) -> None:
    kept.kept(OF, lambda: 3.0, tmp_path)
    (file,) = tmp_path.rglob("*.json")
    file.write_text(damaged)
    assert kept.kept(OF, lambda: 7.0, tmp_path) == 7.0
    assert kept.kept(OF, lambda: 8.0, tmp_path) == 7.0
    assert len(list(tmp_path.iterdir())) == 2


def test_who_finds_a_damaged_one_anew_leaves_what_another_host_has_put_there_meanwhile(tmp_path: Path) -> None:
    kept.kept(OF, lambda: 3.0, tmp_path)
    (file,) = tmp_path.rglob("*.json")
    file.write_text("")

    def found() -> float:
        assert kept.kept(OF, lambda: 1.0, tmp_path) == 1.0
        return 2.0

    assert kept.kept(OF, found, tmp_path) == 1.0
    assert kept.kept(OF, lambda: 4.0, tmp_path) == 1.0


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_start_at_once_go_on_with_one_number(damaged: bool, tmp_path: Path) -> None:
    if damaged:
        for threads in range(100):
            kept.kept({"threads": threads}, lambda: 3.0, tmp_path)
        for file in tmp_path.rglob("*.json"):
            file.write_text("")
    start = [sys.executable, "-c", AT_ONCE, str(tmp_path)]
    running = [subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in running]
    assert len(set(said)) == 1
    assert len(said[0].split()) == 100


def test_no_hard_links_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert [kept.kept(OF, found, tmp_path) for found in (lambda: 3.0, lambda: 4.0)] == [3.0, 3.0]


def test_what_is_of_another_kind_or_user_is_passed_over(tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "ours", tmp_path / "theirs"
    kept.kept(OF, lambda: 3.0, elsewhere)
    kept.kept(OF, lambda: 4.0, place)
    (theirs,), (ours,) = elsewhere.iterdir(), place.iterdir()
    shutil.rmtree(ours)
    ours.symlink_to(theirs)
    assert kept.kept(OF, lambda: 5.0, place) == 5.0
    assert kept.kept(OF, lambda: 6.0, elsewhere) == 3.0
    if os.geteuid() == 0:
        os.chown(theirs, 65534, 65534)
        assert kept.kept(OF, lambda: 7.0, elsewhere) == 7.0


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


@pytest.mark.parametrize(
    ("given", "said"),
    [(None, "XDG_CACHE_HOME: is not set, and"), ("relative", "XDG_CACHE_HOME: is 'relative', and")],
)
@pytest.mark.parametrize("home", ["", "relative"])
def test_without_a_home_the_variable_is_needed(
    given: str | None, said: str, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert kept.place() == Path("/elsewhere/nas-service/latency")
    monkeypatch.delenv("XDG_CACHE_HOME") if given is None else monkeypatch.setenv("XDG_CACHE_HOME", given)
    with pytest.raises(SpecError, match=f"^{said} this user has no home; allowed: a path from /"):
        kept.place()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("theirs", ["nas-service", "nas-service/latency"])
def test_a_folder_of_another_user_is_refused(theirs: str, tmp_path: Path) -> None:
    place = tmp_path / "nas-service" / "latency"
    place.mkdir(parents=True)
    os.chown(tmp_path / theirs, 65534, 65534)
    with pytest.raises(
        SpecError, match=f": {Path(theirs).name} belongs to another user; XDG_CACHE_HOME names another folder"
    ):
        kept.kept(OF, lambda: 3.0, place)


@pytest.mark.parametrize("planted", ["nas-service", "nas-service/latency"])
def test_a_link_is_refused_wherever_it_leads(planted: str, tmp_path: Path) -> None:
    ours, link = tmp_path / "ours", tmp_path / planted
    ours.mkdir(mode=0o755)
    ours.chmod(0o755)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(ours)
    with pytest.raises(
        SpecError, match=f": {Path(planted).name} is a link or a file, and no folder; XDG_CACHE_HOME names"
    ):
        kept.kept(OF, lambda: 3.0, tmp_path / "nas-service" / "latency")
    assert stat.S_IMODE(ours.stat().st_mode) == 0o755
    assert not list(ours.iterdir())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="cannot be used: "):
        kept.kept(OF, lambda: 3.0, tmp_path / "file" / "latency")
