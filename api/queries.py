"""What clients send as query parameters, described for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas.job import ID, JobState
from nas.objectives import CONSTRAINT, OBJECTIVE
from nas.trial import TrialState
from nas.trial_files import Format
from search_spaces import Fault, SpecError
from search_spaces.faults import did_you_mean, show

MAX_PAGE = 1000
MAX_ARCHITECTURES = 1000
"""Architectures that one request may ask for, or ask about."""
Text: TypeAlias = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
"""Words of a query; PostgreSQL knows no NUL."""
ObjectiveText: TypeAlias = Annotated[str, Field(json_schema_extra={"pattern": f"^{OBJECTIVE}$"})]
ConstraintText: TypeAlias = Annotated[str, Field(json_schema_extra={"pattern": f"^{CONSTRAINT}$"})]
"""Read by `nas.objectives`, whose faults say more than that a pattern does not fit."""


class Query(BaseModel):
    """Base of query parameters: a name that is not known is refused, not ignored."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, raw: Any) -> Any:
        allowed = list(cls.model_fields)
        told = f"is not a query parameter; allowed: {', '.join(allowed) or 'none'}"
        unknown = [name for name in raw if name not in allowed]
        if unknown:
            raise SpecError(Fault(n, f"{show(n)} {told}{did_you_mean(n, allowed)}") for n in unknown)
        return raw


class Submission(Query):
    """How a document is taken."""

    validate_only: bool = Field(default=False, description="say what would be accepted and write nothing")


class Page(Query):
    """Which part of a list."""

    page_size: int = Field(default=100, ge=1, le=MAX_PAGE)
    page_token: Annotated[str, Field(json_schema_extra={"pattern": "^[A-Za-z0-9_-]*$"})] | None = Field(
        default=None, max_length=200, description="next_page_token of the page before; empty: the first page"
    )


class JobPage(Page):
    """Which jobs."""

    state: list[JobState] = Field(default=[], description="jobs in one of these states; none named: in any")
    name: Text | None = Field(default=None, description="jobs whose document has this name")
    owner: Text | None = Field(default=None, description="jobs that the API key of this name submitted")
    order_by: Literal["created_at", "-created_at"] = Field(
        default="-created_at", description="-created_at: the newest first"
    )


class Draw(Query):
    """How many architectures, and which."""

    count: int = Field(default=1, ge=1, le=MAX_ARCHITECTURES)
    seed: int = Field(default=0, ge=0, lt=2**63, description="the same seed draws the same architectures")


class TrialPage(Page):
    """Which trials, and in which order."""

    state: list[TrialState] = Field(default=[], description="trials in one of these states; none named: in any")
    feasible: bool | None = Field(default=None, description="only those that do, or do not, meet all constraints")
    key: Text | None = Field(default=None, description="only those of the network with this key")
    after: int | None = Field(
        default=None,
        ge=-1,
        lt=2**31,
        description="only those whose `order` is greater, in the order in which they finished; -1: from the first "
        "on. Not together with `state`, `feasible` and `key`",
    )

    @model_validator(mode="after")
    def _one_order(self) -> TrialPage:
        if self.after is not None and (self.state or self.feasible is not None or self.key is not None):
            raise SpecError.at("after", "does not go together with state, feasible and key")
        return self


class OfJob(Page):
    """Of which job."""

    job: Annotated[str, Field(pattern=f"^{ID}$")] = Field(description="id of the job")


class Card(Query):
    """How a model card is written."""

    format: Literal["json", "markdown"] = Field(default="json")


class TrialFile(Query):
    """What kind of file."""

    format: Format = Field(default=Format.CSV)


class EventQuery(Query):
    """Where events begin."""

    after: int | None = Field(
        default=None,
        ge=-1,
        lt=2**31,
        description="with trials whose `order` is greater; -1: with the first; left out: with those that finish "
        "from now on. The header Last-Event-ID goes before it",
    )


class FrontQuery(Query):
    """Which front: as the document says, or another one of the same trials."""

    objective: list[ObjectiveText] = Field(
        default=[],
        max_length=5,
        description="instead of the document's; any metric that was measured",
        examples=[["max accuracy", "min latency_ms"]],
    )
    constraint: list[ConstraintText] = Field(
        default=[],
        max_length=20,
        description="instead of all of the document's",
        examples=[["params <= 1e5"]],
    )
    job: list[Annotated[str, Field(pattern=f"^{ID}$")]] = Field(
        default=[],
        max_length=16,
        description="ids of jobs whose trials count as well; they may be of other spaces",
    )
    reference: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default=[],
        max_length=5,
        description="what the hypervolume is measured against: one value an objective, in their order and the "
        "metrics' own units",
    )
    pick: list[str] = Field(
        default=[],
        max_length=20,
        description="the best trial for an objective, among those that also meet the constraints after it",
        examples=[["max accuracy", "params <= 5e4"]],
        json_schema_extra={
            "prefixItems": [{"type": "string", "pattern": f"^{OBJECTIVE}$"}],
            "items": {"type": "string", "pattern": f"^{CONSTRAINT}$"},
        },
    )
    history: bool = Field(default=False, description="how the hypervolume grew, too")
