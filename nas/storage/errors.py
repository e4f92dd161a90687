"""What can be wrong with a database, in words for the person who runs it."""

from __future__ import annotations

from search_spaces import SpecError


class DatabaseError(Exception):
    """The database cannot be used; the message names it, without its user and password."""


class DatabaseOutOfDate(DatabaseError):
    """The schema is older than this version needs; `nas db upgrade` brings it up to date."""


class DatabaseTooNew(DatabaseError):
    """The schema was made by a newer version than this one."""


class Duplicate(DatabaseError):
    """A row that must be the only one of its kind is there already; nothing was written."""


class Unreadable(SpecError):
    """The document of a job that is kept, by another version perhaps, is none to this version."""
