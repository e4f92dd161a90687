"""Files of jobs (checkpoints, exports): in a folder, or in an object store by URL."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from nas.job import ID

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_NAME = re.compile(rf"{_PART}(/{_PART}){{0,7}}")
_UNFINISHED = ".unfinished-"


class Artifacts:
    """Files by job and name. Any thread or process may use it; a file is there whole or not at all.

    Args:
        url: of fsspec: ``file:folder``, ``s3://bucket/prefix``, ``memory://name``.

    Raises:
        ValueError: here, where fsspec knows no such protocol or its package is not installed; from every method
            for a job id or a name that cannot be. Names are letters, digits and ``. _ -``, with ``/`` between.
    """

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        try:
            found = url_to_fs(url)
        except ImportError as error:
            raise ValueError(str(error)) from None
        self._files: AbstractFileSystem = found[0]
        self._root = str(found[1]).rstrip("/")

    def put(self, job_id: str, name: str, content: bytes | Path) -> None:
        """Keep a file, given as bytes or by the path of a local one; it takes the place of one that is there."""
        path = self._path(job_id, name)
        folder, _, last = path.rpartition("/")
        unfinished = f"{folder}/{_UNFINISHED}{secrets.token_hex(8)}-{last}"
        self._files.makedirs(folder, exist_ok=True)
        try:
            if isinstance(content, Path):
                self._files.put_file(str(content), unfinished)
            else:
                self._files.pipe_file(unfinished, content)
            self._files.mv(unfinished, path)
        except BaseException:
            with suppress(FileNotFoundError):
                self._files.rm_file(unfinished)
            raise

    def open(self, job_id: str, name: str) -> IO[bytes]:
        """A file to read from; close it after. Raises `FileNotFoundError`."""
        return cast("IO[bytes]", self._files.open(self._path(job_id, name), "rb"))

    def list(self, job_id: str) -> Sequence[str]:
        """Names of all files of a job, sorted."""
        folder = self._folder(job_id)
        self._files.invalidate_cache()
        try:
            found = self._files.find(folder)
        except FileNotFoundError:
            return []
        names = [path.removeprefix(f"{folder}/") for path in found]
        return sorted(name for name in names if _NAME.fullmatch(name))  # which no unfinished one does

    def delete(self, job_id: str, name: str | None = None) -> None:
        """Forget a file or a folder, or all files of the job; what is not there is no error."""
        path = self._folder(job_id) if name is None else self._path(job_id, name)
        with suppress(FileNotFoundError):
            self._files.rm(path, recursive=True)

    def _folder(self, job_id: str) -> str:
        if not re.fullmatch(ID, job_id):
            raise ValueError(f"{job_id!r} is not the id of a job")
        return f"{self._root}/{job_id}"

    def _path(self, job_id: str, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a file; allowed: letters, digits and . _ -, with / between")
        return f"{self._folder(job_id)}/{name}"
