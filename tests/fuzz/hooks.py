"""What schemathesis is told about the service, beside its OpenAPI document."""

from __future__ import annotations

import os
import random
import re
from typing import Any

import schemathesis
from schemathesis.core.failures import Failure

from nas.job import ID

OVER = os.environ["NAS_FUZZ_OVER"].split(",")
EXPENDABLE = os.environ["NAS_FUZZ_EXPENDABLE"].split(",")
_ANY = re.compile(ID)


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Send what does not end, or destroys, to jobs that are there for it.

    The events of a job that is not over never end. A deleted job would leave the others with nothing to find.
    """
    job = (case.path_parameters or {}).get("job_id")
    if isinstance(job, str) and _ANY.fullmatch(job):
        if case.operation.path.endswith("/events"):
            case.path_parameters["job_id"] = OVER[len(job) % len(OVER)]
        elif case.method == "DELETE" and case.operation.path.endswith("{job_id}"):
            case.path_parameters["job_id"] = random.choice(EXPENDABLE)


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
