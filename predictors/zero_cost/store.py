"""Scores on disk: a SQLite file that several processes may read and write at the same time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

PATIENCE = 60.0
"""Seconds to wait for another writer, who needs milliseconds."""


class FileStore:
    """Numbers by key. A key means the same number to all who write it, so that it does not matter who was last."""

    def __init__(self, path: str | Path) -> None:
        """Makes the file where it is missing.

        Raises:
            ValueError: for a path that cannot be written, or a file of another kind.
        """
        self._path = str(path)
        try:
            with self._opened() as file:
                file.execute("CREATE TABLE IF NOT EXISTS scores (key BLOB PRIMARY KEY, value REAL) WITHOUT ROWID")
        except sqlite3.Error as error:
            raise ValueError(f"cache {self._path!r}: {error}; allowed: a file of scores, or a new one") from None

    def read(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """The numbers known of a few keys."""
        marks = ",".join("?" * len(keys))
        with self._opened() as file:
            return dict(file.execute(f"SELECT key, value FROM scores WHERE key IN ({marks})", keys).fetchall())

    def write(self, values: Mapping[bytes, float]) -> None:
        """Keep numbers; not-a-number is none."""
        with self._opened() as file:
            file.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", values.items())

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=PATIENCE)) as file, file:
            yield file
