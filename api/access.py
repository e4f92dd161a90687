"""The principal behind a request, for routes: what it may do, and which jobs exist for it."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, TypeAlias, cast

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from api.problems import Refused
from nas import contracts
from nas.access import OPEN, ApiKey, Keys, Principal, Role, key_id, opens
from nas.artifacts import Artifacts
from nas.job import ID, Job

JobId: TypeAlias = Annotated[str, Path(pattern=f"^{ID}$")]

TRUSTED_SECONDS = 3.0
"""So long a key that was right is not looked up again; the longest that a revoked one still works."""
KEYS_REMEMBERED = 4096

BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    bearerFormat="nas_<id>_<secret>",
    description="A key that `nas keys create` made. A server that listens on a loopback address takes requests "
    "without one, unless it was told otherwise (NAS_AUTH).",
)


class KeyRing:
    """Finds API keys. Only what was right is remembered, so every wrong key costs the same. For one event loop."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._right: OrderedDict[bytes, tuple[ApiKey, float]] = OrderedDict()

    def known(self, authorization: bytes) -> str | None:
        """The id of the key in the value of a header, where it was right when it was looked up last."""
        scheme, _, text = authorization.decode("latin-1").partition(" ")
        found = self._right.get(_fingerprint(text)) if scheme.lower() == "bearer" else None
        return None if found is None else found[0].id

    async def find(self, text: str) -> ApiKey | None:
        """The key that this is, whether valid or not; None for a wrong one. Raises `DatabaseError`."""
        name = _fingerprint(text)
        key, until = self._right.get(name, (None, 0.0))
        if key is not None and time.monotonic() < until:
            return key
        shown = key_id(text)
        kept = None if shown is None else await run_in_threadpool(self._keys.get, shown)
        key = kept if opens(text, kept) else None
        if key is None or not key.valid(time.time()):
            self._right.pop(name, None)
            return key
        self._right[name] = key, time.monotonic() + TRUSTED_SECONDS
        self._right.move_to_end(name)
        if len(self._right) > KEYS_REMEMBERED:
            self._right.popitem(last=False)
        return key

    async def holds(self, key_id: str) -> bool:
        """Whether the key of this id is valid now, by the database. Raises `DatabaseError`."""
        key = await run_in_threadpool(self._keys.get, key_id)
        return key is not None and key.valid(time.time())


async def store_of(request: Request) -> contracts.Store:  # not a plain function: those go through a thread
    """The store of the application."""
    return cast(contracts.Store, request.app.state.store)


Store: TypeAlias = Annotated[contracts.Store, Depends(store_of)]


async def files_of(request: Request) -> Artifacts:
    """The files of the application's jobs."""
    return cast(Artifacts, request.app.state.artifacts)


Files: TypeAlias = Annotated[Artifacts, Depends(files_of)]


async def api_key(
    request: Request, shown: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
) -> ApiKey | None:
    """The key of a request; None where none is needed. Raises `Refused`, 401, for one without a valid key."""
    ring: KeyRing | None = request.app.state.key_ring
    if ring is None:
        return None
    if shown is None:
        raise _unknown("an API key is needed, as the header Authorization: Bearer nas_<id>_<secret>", "")
    key = await ring.find(shown.credentials)
    if key is None:
        raise _unknown("there is no such API key")
    if not key.valid(time.time()):
        raise _unknown(
            f"the API key {key.id} was revoked" if key.revoked_at else f"the API key {key.id} has expired"
        )
    return key


Key: TypeAlias = Annotated[ApiKey | None, Depends(api_key)]


async def principal(key: Key) -> Principal:
    """Who asks."""
    return OPEN if key is None else key.principal


def needs(role: Role) -> Callable[..., Awaitable[Principal]]:
    """A dependency that gives the principal, and refuses one of a lesser role with 403."""

    async def check(found: Annotated[Principal, Depends(principal)]) -> Principal:
        if not found.role.allows(role):
            raise Refused(403, f"this takes the role {role}; the API key has the role {found.role}")
        return found

    return check


Viewer: TypeAlias = Annotated[Principal, Depends(needs(Role.VIEWER))]
Submitter: TypeAlias = Annotated[Principal, Depends(needs(Role.SUBMITTER))]
Admin: TypeAlias = Annotated[Principal, Depends(needs(Role.ADMIN))]


def own_job(store: contracts.Store, who: Principal, job_id: str) -> Job:
    """A job that exists for this principal. Raises `Refused`, 404: also for a job of another project."""
    try:
        job = store.job(job_id)
    except KeyError:
        job = None
    if job is None or not who.sees(job):
        raise Refused(404, f"there is no job {job_id}")
    return job


@contextmanager
def while_there(store: contracts.Store, who: Principal, *job_ids: str) -> Iterator[None]:
    """Has a store's `KeyError` answered with 404 where somebody deleted one of the jobs just now.

    Any other `KeyError` is a bug, and goes on.
    """
    try:
        yield
    except KeyError:
        for job_id in job_ids:
            own_job(store, who, job_id)
        raise


def _unknown(detail: str, error: str = ', error="invalid_token"') -> Refused:
    return Refused(401, detail, headers={"WWW-Authenticate": f'Bearer realm="nas"{error}'})


def _fingerprint(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
