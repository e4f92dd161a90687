"""What goes over the wire, described for OpenAPI. The objects themselves are made by `nas.wire`."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nas.job import JobState
from nas.trial import TrialState
from search_spaces.domains import Value
from search_spaces.faults import did_you_mean

Time: TypeAlias = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339, in UTC."""


class Wire(BaseModel):
    """Base of what is answered: exactly these keys."""

    model_config = ConfigDict(extra="forbid")


class Job(Wire):
    """A search: its document, where it stands, and how many trials it has in each state."""

    id: str
    name: str = Field(description="the document's name")
    state: JobState
    error: str | None = Field(
        default=None, description="why the job ended; there only if it is FAILED or CANCELLED"
    )
    reason: str | None = Field(
        default=None,
        description="why the job waits or ended, or null; there in every other state",
    )
    counts: dict[TrialState, int] = Field(description="trials by state, every state named")
    spec: dict[str, Any] = Field(description="the document with its defaults filled in")
    created_at: Time
    started_at: Time | None
    finished_at: Time | None


class JobList(Wire):
    """A page of jobs, the newest first."""

    jobs: list[Job]
    next_page_token: str | None = Field(description="null on the last page")


class Validated(Wire):
    """A document that would be accepted; nothing was written."""

    spec: dict[str, Any] = Field(description="the document with its defaults filled in")
    size: int = Field(description="points of the space, before those that mean the same network are merged")


class Origin(Wire):
    """A trial of another job."""

    job: str
    number: int


class Trial(Wire):
    """One evaluation of one architecture."""

    number: int = Field(description="0, 1, 2, ... in the order in which trials were opened")
    state: TrialState
    infeasible_reason: str | None = Field(
        default=None, description="why it cannot be built or measured; there only if it is INFEASIBLE"
    )
    reason: str | None = Field(
        default=None,
        description="why there are no metrics, or null; there in every other state",
    )
    architecture: dict[str, Value] = Field(description="the choices that have an effect, by name")
    key: str = Field(description="equal for equal networks")
    metrics: dict[str, float] = Field(description="empty unless the trial was measured")
    feasible: bool | None = Field(description="whether every constraint holds; null unless it was measured")
    attempt: int = Field(
        description="counts starts; more than 1 after a lost worker, 0 where another job measured it"
    )
    fidelity: float | None = Field(description="part of the full training that was spent; null: all of it")
    origin: Origin | None = Field(
        description="the trial of another job (warm_start) that gave the architecture and, where attempt is 0, "
        "the metrics; null otherwise"
    )
    created_at: Time
    finished_at: Time | None


class TrialList(Wire):
    """A page of trials, by number."""

    trials: list[Trial]
    next_page_token: str | None = Field(description="null on the last page")


class ParetoFront(Wire):
    """The feasible trials that no other feasible trial dominates."""

    trials: list[Trial] = Field(description="the best in the first objective first")
    hypervolume: float | None = Field(
        description="between the front and `reference`; null if it is larger than a double can hold"
    )
    reference: list[float] | None = Field(
        description="one value an objective; by default the worst seen of each, null before the first"
    )


class SpaceSummary(Wire):
    """A preset in one line."""

    name: str
    family: str
    size: int = Field(description="points, before those that mean the same network are merged; exact")


class SpaceList(Wire):
    """All presets."""

    spaces: list[SpaceSummary]


class Condition(Wire):
    """A choice has an effect only where the choice `name` takes one of `values`."""

    name: str
    values: list[Value]


class Choice(Wire):
    """One place of the document where several values may stand."""

    name: str
    values: list[Value]
    when: list[Condition] = Field(description="all must hold for the choice to have an effect")


class Space(SpaceSummary):
    """A space: its document with the defaults filled in, and its choices."""

    document: dict[str, Any]
    choices: list[Choice]


class Health(Wire):
    """The service is well."""

    status: str


class Fault(Wire):
    """One thing wrong with a document or a query."""

    path: str = Field(description="dots between keys and indices; empty: the whole")
    message: str


class Problem(Wire):
    """What went wrong (RFC 9457)."""

    type: str
    title: str = Field(description="the phrase of the status")
    status: int
    code: str = Field(description="canonical gRPC code", examples=["INVALID_ARGUMENT"])
    detail: str
    faults: list[Fault] = Field(default=[], description="everything that is wrong, where that is known")


class Query(BaseModel):
    """Base of query parameters: a name that is not known is refused, not ignored."""

    model_config = ConfigDict(frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, raw: Any) -> Any:
        allowed = list(cls.model_fields)
        for name in raw:
            if name not in allowed:
                hint = did_you_mean(name, allowed)
                raise ValueError(f"{name!r} is not a query parameter; allowed: {', '.join(allowed)}{hint}")
        return raw


class Submission(Query):
    """How a document is taken."""

    validate_only: bool = Field(default=False, description="say what would be accepted and write nothing")


class Page(Query):
    """Which part of a list."""

    page_size: int = Field(default=100, ge=1, le=1000)
    page_token: str | None = Field(default=None, max_length=200, description="next_page_token of the page before")


class JobPage(Page):
    """Which jobs."""

    state: list[JobState] = Field(default=[], description="jobs in one of these states; none named: in any")


class FrontQuery(Query):
    """What the hypervolume is measured against."""

    reference: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default=[], description="one value an objective, in the document's order and the metrics' own units"
    )
