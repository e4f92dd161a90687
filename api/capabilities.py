"""What documents may name here, under `/v1/capabilities`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from api import body, models, queries
from api.access import Viewer
from api.allowed import Functions
from api.openapi import PROBLEM, refusals
from nas.check import REMOTE_FAMILIES
from nas.evaluators import EvaluatorConfig, datasets, table_files, tables
from nas.job import MAX_OBJECTIVES, MAX_TRIALS
from nas.latency import devices
from nas.searchers import SearcherConfig
from nas.warm_start import MAX_REMOTE
from search_spaces import presets

router = APIRouter(prefix="/v1/capabilities", tags=["capabilities"], responses={"default": PROBLEM})

LIMITS = {
    "max_body_bytes": body.MAX_BYTES,
    "max_yaml_bytes": body.MAX_YAML_BYTES,
    "max_depth": body.MAX_DEPTH,
    "max_page_size": queries.MAX_PAGE,
    "max_architectures": queries.MAX_ARCHITECTURES,
    "max_objectives": MAX_OBJECTIVES,
    "max_trial_count": MAX_TRIALS,
    "max_warm_start_trials": MAX_REMOTE,
}


@router.get("", response_model=models.Capabilities, responses=refusals(422))
def get_capabilities(who: Viewer, functions: Functions, query: Annotated[queries.Query, Query()]) -> JSONResponse:
    """What documents may name, and how much may be asked for at once."""
    return JSONResponse(
        {
            "version": version("nas-service"),
            "searchers": _kinds(SearcherConfig),
            "evaluators": [k for k in _kinds(EvaluatorConfig) if functions or k != "callable"],
            "families": list(REMOTE_FAMILIES),
            "presets": list(presets()),
            "datasets": datasets.names(),
            "tables": [*tables.names(), *table_files.registered()],
            "functions": list(functions),
            "devices": devices.names(),
            "limits": LIMITS,
        }
    )


def _kinds(union: Any) -> list[str]:
    """The words that tell the members of a union apart."""
    members, *_ = get_args(union)
    return [member.model_fields["kind"].default for member in get_args(members)]
