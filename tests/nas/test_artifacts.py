from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from nas.artifacts import Artifacts

JOB, OTHER = "65a1b2c3d4e5f60789", "job-2"


@pytest.fixture(params=["folder", "file://", "memory://"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory://":
        yield "memory://bucket/prefix"
        fsspec.filesystem("memory").store.clear()
        return
    yield f"{'' if request.param == 'folder' else request.param}{tmp_path}/artifacts"


@pytest.fixture
def artifacts(url: str) -> Artifacts:
    return Artifacts(url)


def read(artifacts: Artifacts, job: str, name: str) -> bytes:
    with artifacts.open(job, name) as stream:
        return stream.read()


def test_what_is_put_is_read_again(artifacts: Artifacts, url: str, tmp_path: Path) -> None:
    local = tmp_path / "model.onnx"
    local.write_bytes(b"\0\1" * 70_000)
    artifacts.put(JOB, "checkpoints/12.pt", b"twelve")
    artifacts.put(JOB, "model.onnx", local)
    artifacts.put(OTHER, "model.onnx", b"")
    assert read(artifacts, JOB, "checkpoints/12.pt") == b"twelve"
    assert read(Artifacts(url), JOB, "model.onnx") == local.read_bytes()
    assert read(artifacts, OTHER, "model.onnx") == b""
    assert artifacts.list(JOB) == ["checkpoints/12.pt", "model.onnx"]
    assert artifacts.list(OTHER) == ["model.onnx"]
    assert artifacts.list("nothing") == []
    assert local.is_file()


def test_a_file_takes_the_place_of_another(artifacts: Artifacts) -> None:
    for content in (b"a long beginning", b"end"):
        artifacts.put(JOB, "a", content)
        assert read(artifacts, JOB, "a") == content
    assert artifacts.list(JOB) == ["a"]


def test_a_folder_goes_with_all_that_is_in_it(artifacts: Artifacts) -> None:
    for name in ("exports/a-1/3/model", "exports/a-1/3/card.json", "exports/a-10/3/model"):
        artifacts.put(JOB, name, b"x")
    for _ in range(2):
        artifacts.delete(JOB, "exports/a-1")
        assert artifacts.list(JOB) == ["exports/a-10/3/model"]


def test_deleting(artifacts: Artifacts) -> None:
    for name in ("a", "b/c", "b/d"):
        artifacts.put(JOB, name, b"x")
    artifacts.put(OTHER, "a", b"x")
    artifacts.delete(JOB, "a")
    artifacts.delete(JOB, "a")
    assert artifacts.list(JOB) == ["b/c", "b/d"]
    with pytest.raises(FileNotFoundError):
        artifacts.open(JOB, "a")
    artifacts.delete(JOB)
    artifacts.delete(JOB)
    assert artifacts.list(JOB) == []
    assert artifacts.list(OTHER) == ["a"]


def test_a_write_that_breaks_off_leaves_what_was_there(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.put(JOB, "a", b"old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(type(artifacts._files), "mv", full)
    with pytest.raises(OSError, match="no space"):
        artifacts.put(JOB, "a", b"new")
    assert artifacts.list(JOB) == ["a"]
    assert read(artifacts, JOB, "a") == b"old"
    left = artifacts._files.find(artifacts._folder(JOB))
    assert [Path(p).name for p in left] == ["a"]


CALLS: list[Callable[[Artifacts, str, str], Any]] = [
    lambda a, job, name: a.put(job, name, b"x"),
    lambda a, job, name: a.open(job, name),
    lambda a, job, name: a.delete(job, name),
]
WRONG = [
    "",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/..",
    "/etc/passwd",
    "a//b",
    "a/",
    ".hidden",
    "a/.b",
    "a\\b",
    "a b",
    "a\0",
]


@pytest.mark.parametrize("name", [*WRONG, "ä", "a\n", "x" * 200, "~/a", "s3://b/c", "a*"])
@pytest.mark.parametrize("call", CALLS)
def test_no_name_leads_out_of_the_job(artifacts: Artifacts, call: Any, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a file"):
        call(artifacts, JOB, name)


@pytest.mark.parametrize("job", WRONG)
def test_no_job_leads_elsewhere(artifacts: Artifacts, job: str) -> None:
    with pytest.raises(ValueError, match="not the id of a job"):
        artifacts.put(job, "a", b"x")
    with pytest.raises(ValueError, match="not the id of a job"):
        artifacts.list(job)


def test_a_store_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        Artifacts("nowhere://bucket")
