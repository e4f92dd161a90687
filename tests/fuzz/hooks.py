"""What schemathesis is told about the service, beside its OpenAPI document."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import Any

import requests
import schemathesis
from schemathesis.core.failures import Failure

from nas.access import Role, new_key
from nas.job import ID

OVER = os.environ["NAS_FUZZ_OVER"].split(",")
LASTING = os.environ["NAS_FUZZ_LASTING"].split(",")
EXPENDABLE = itertools.cycle(os.environ["NAS_FUZZ_EXPENDABLE"].split(","))
STATUSES = os.environ["NAS_FUZZ_STATUSES"]
"""A file, for the status of every answer."""
WRONG_KEY = f"Bearer {new_key('wrong', Role.ADMIN, 'default', 0.0)[1]}"
_ANY = re.compile(ID)
_asked_without: set[str] = set()
"""Operations that were tried without a key; once is enough."""


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Send what does not end, or destroys, to jobs that are there for it.

    The events of a job that is not over never end. Without the jobs that last, the others would find nothing; a
    job that the requests themselves made is really deleted, and then looked for.
    """
    job = (case.path_parameters or {}).get("job_id")
    if isinstance(job, str) and _ANY.fullmatch(job):
        if case.operation.path.endswith("/events"):
            case.path_parameters["job_id"] = OVER[len(job) % len(OVER)]
        elif case.method == "DELETE" and job in LASTING and case.operation.path.endswith("{job_id}"):
            case.path_parameters["job_id"] = next(EXPENDABLE)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Keep the status."""
    with Path(STATUSES).open("a") as file:
        file.write(f"{response.status_code}\n")


@schemathesis.check
def status_is_documented(context: Any, response: Any, case: Any) -> None:
    """The status stands in the document by its number: `default` does not count."""
    documented = {code for code in case.operation.responses.status_codes if code != "default"}
    if str(response.status_code) not in documented and response.status_code != 405:
        raise Failure(
            operation=case.operation.label,
            title="Undocumented status",
            message=f"{response.status_code} is not documented; documented: {', '.join(sorted(documented))}",
        )


@schemathesis.check
def key_is_needed(context: Any, response: Any, case: Any) -> None:
    """What was answered with a key is refused without one, and with a wrong one.

    Instead of schemathesis' `ignored_auth`, for which 429, the answer to many wrong keys, is no refusal.
    """
    operation = case.operation.label
    if not case.operation.definition.raw.get("security") or response.status_code >= 300:
        return
    if operation in _asked_without:
        return
    _asked_without.add(operation)
    for key, refusals in ((None, {401}), (WRONG_KEY, {401, 429})):
        request = response.request.copy()
        request.headers.pop("Authorization", None)
        if key is not None:
            request.headers["Authorization"] = key
        with requests.Session() as session:
            status = session.send(request, timeout=30, allow_redirects=False).status_code
        if status not in refusals:
            what = "no key" if key is None else "a wrong key"
            raise Failure(operation=operation, title="A key is not needed", message=f"{status} with {what}")
