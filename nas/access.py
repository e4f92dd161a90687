"""Who may do what with the service: API keys, roles, and the principal behind a request. No I/O."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from nas.contracts import Submitter
    from nas.job import Job

Auth: TypeAlias = Literal["auto", "keys", "off"]
"""Whether requests take an API key; `auto`: everywhere but on a loopback address."""

NAME = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
"""What the name of a key, and of a project, can be, as a regular expression."""
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH = 10
_SECRET_BYTES = 32
_KEY = re.compile(rf"nas_([{_ALPHABET}]{{{_ID_LENGTH}}})_([A-Za-z0-9_-]{{43,128}})")
_LIKE_A_KEY = re.compile(r"nas_([A-Za-z0-9]+)_[A-Za-z0-9_%.-]+")
"""Whole keys, and ones that were cut or mistyped, in any text."""


class Role(StrEnum):
    """What an API key allows; each role may do all that the one before it may."""

    VIEWER = "viewer"
    """Reads jobs, trials, fronts and predictors."""
    SUBMITTER = "submitter"
    """Submits, edits, pauses and cancels jobs, and fits predictors."""
    ADMIN = "admin"
    """Deletes jobs, and reads the metrics of the service."""

    def allows(self, needed: Role) -> bool:
        """Whether somebody of this role may do what takes the role `needed`."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)


@dataclass(frozen=True)
class Principal:
    """Who asks."""

    name: str | None
    """Of the API key; None where the service takes requests without one."""
    project: str | None
    """The only project that is seen; None: all, where the service takes requests without a key."""
    role: Role

    def sees(self, job: Job) -> bool:
        """Whether the job exists as far as this principal may know."""
        return self.project is None or job.project == self.project

    def submitter(self, token: str | None = None, digest: str = "") -> Submitter:
        """As whom it submits jobs."""
        from nas.contracts import Submitter
        from nas.job import DEFAULT_PROJECT

        return Submitter(self.project or DEFAULT_PROJECT, self.name, token, digest)


OPEN = Principal(name=None, project=None, role=Role.ADMIN)
"""Anybody, where the service takes requests without a key."""


@dataclass(frozen=True)
class ApiKey:
    """All that is kept of a key ``nas_<id>_<secret>``: the secret itself is not. Times are Unix seconds."""

    id: str
    """May be shown and logged."""
    name: str
    """Owner of the jobs that are submitted with it; unique for ever, so that nobody inherits them."""
    project: str
    role: Role
    digest: str = field(repr=False)
    """SHA-256 of the secret, hexadecimal. The secret is random, so no slow hash is needed."""
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None

    def valid(self, at: float) -> bool:
        """Whether it opens anything at this time."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)

    @property
    def principal(self) -> Principal:
        """As whom its bearer acts."""
        return Principal(self.name, self.project, self.role)


class NameTaken(Exception):
    """There is, or was, a key of this name."""


class Keys(Protocol):
    """Where API keys are kept."""

    def add(self, key: ApiKey) -> None:
        """Keep a new key. Raises `NameTaken`."""
        ...

    def get(self, key_id: str) -> ApiKey | None:
        """The key of this id, whether valid or not."""
        ...

    def all(self) -> Sequence[ApiKey]:
        """All keys, those that are not valid any more as well, by the time at which they were made."""
        ...

    def revoke(self, which: str, at: float) -> ApiKey:
        """End a key, by name or id; one that is revoked stays as it is. Raises `KeyError`."""
        ...


def new_key(
    name: str, role: Role, project: str, created_at: float, expires_at: float | None = None
) -> tuple[ApiKey, str]:
    """A random key, and its text, which exists nowhere else.

    Raises:
        SpecError: for a name or project that cannot be.
    """
    from search_spaces import SpecError  # takes a while, which `nas --help` can do without

    for path, text in (("name", name), ("project", project)):
        if not re.fullmatch(NAME, text):
            raise SpecError.at(path, f"{text!r} is not allowed; allowed: 1 to 64 letters, digits and . _ @ -")
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    key = ApiKey(key_id, name, project, role, _digest(secret), created_at, expires_at)
    return key, f"nas_{key_id}_{secret}"


def key_id(text: str) -> str | None:
    """The id in the text of a key, or None where it is not one."""
    found = _KEY.fullmatch(text)
    return found[1] if found else None


def opens(text: str, key: ApiKey | None) -> bool:
    """Whether `text` is this key, valid or not; takes as long for None as for any other key."""
    found = _KEY.fullmatch(text)
    digest = _digest(found[2] if found else "")
    right = hmac.compare_digest(digest, key.digest if key else _digest("no key"))
    return right and found is not None and key is not None and found[1] == key.id


def masked(text: str) -> str:
    """Text without the secrets of API keys, and of URLs: passwords, and the values of options."""
    text = _LIKE_A_KEY.sub(r"nas_\1_***", text)
    if "://" not in text:
        return text
    text = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    return re.sub(r"([?&][^=&]*)=[^&]*", r"\1=***", text)


def takes_keys(auth: Auth, host: str) -> bool:
    """Whether a service that listens on `host` asks for API keys.

    Raises:
        SpecError: where it should not, and others than this machine's users could reach it.
    """
    from search_spaces import SpecError

    if auth == "off" and not is_loopback(host):
        raise SpecError.at(
            "NAS_AUTH",
            f"off is not allowed on the address {host or 'of every network'}, where anybody could run jobs; "
            "allowed: keys, auto, or a loopback address such as 127.0.0.1",
        )
    return auth == "keys" or (auth == "auto" and not is_loopback(host))


def is_loopback(host: str) -> bool:
    """Whether only this machine is meant: ``localhost``, 127.0.0.0/8 or ::1, with or without brackets."""
    name = host.lower().removeprefix("[").removesuffix("]")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
