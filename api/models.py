"""What goes over the wire, described for OpenAPI. The objects themselves are made by `nas.wire`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from nas.exports import ExportState, Format, Weights
from nas.fitted import FitState
from nas.job import JobState
from nas.trial import TrialState
from search_spaces.domains import Value

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
    project: str = Field(description="whose it is: API keys see the jobs of their own project only")
    owner: str | None = Field(description="the name of the API key that submitted it; null where none was needed")
    revision: int = Field(description="counts the edits of the document; the ETag")


class JobList(Wire):
    """A page of jobs."""

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

    job: str = Field(description="id of its job")
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
    feasible: bool | None = Field(
        description="whether every constraint of its job's document holds; null unless it was measured"
    )
    order: int | None = Field(description="0, 1, 2, ... in the order in which trials finished; null while open")
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


class CurvePoint(Wire):
    """What an evaluation had reached after a step."""

    step: int = Field(description="for training: epochs, from 1")
    metrics: dict[str, float]


class TrialInFull(Trial):
    """A trial, and how its evaluation went."""

    worker: str | None = Field(description="host and process that evaluated it; null where that is unknown")
    started_at: Time | None = Field(description="of the last attempt")
    curve: list[CurvePoint] = Field(description="intermediate metrics, by step")
    log: str = Field(description="the end of what the evaluation printed")


class TrialList(Wire):
    """A page of trials: by number, or with `after` in the order in which they finished."""

    trials: list[Trial]
    next_page_token: str | None = Field(description="null on the last page")


class Growth(Wire):
    """A point of the hypervolume's history."""

    trials: int = Field(description="trials that had finished, those of the jobs named before included")
    hypervolume: float | None = Field(description="then, against the same `reference`")


class ParetoFront(Wire):
    """The feasible trials that no other feasible trial dominates."""

    trials: list[Trial] = Field(
        description="the best in the first objective first; of equal points only the one that finished first"
    )
    hypervolume: float | None = Field(
        description="between the front and `reference`; null if it is larger than a double can hold"
    )
    hypervolume_exact: bool = Field(
        description="false for a front of 4 or 5 objectives that is too large to measure: all hypervolumes here "
        "are estimates then, mostly within 0.2%"
    )
    reference: list[float] | None = Field(
        description="one value an objective; by default the worst seen of each, null before the first"
    )
    objectives: list[str] = Field(description='what was wanted, as "max accuracy"')
    constraints: list[str] = Field(description='what was allowed, as "params <= 100000.0"')
    picked: Trial | None = Field(
        default=None, description="there only with `pick`: the best trial for it, or null if none fits"
    )
    history: list[Growth] = Field(
        default=[],
        description="there only with `history`: where the hypervolume grew, at most 200 points of it, and fewer "
        "where they take long",
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


class SampledArchitecture(Wire):
    """One point of a space."""

    architecture: dict[str, Value] = Field(description="the choices that have an effect, by name")
    key: str = Field(description="equal for equal networks")


class SampledArchitectures(Wire):
    """Points of a space, drawn at random."""

    architectures: list[SampledArchitecture]


class Cost(Wire):
    """What formulas say of one architecture, before anything is trained."""

    params: float = Field(description="trainable parameters")
    macs: float = Field(description="multiply-accumulate operations of one input")
    model_size_bytes: float = Field(description="packed weights, scales and biases")
    peak_activation_bytes: float = Field(description="activations that live at once, at most")


class Costs(Wire):
    """Costs, in the order in which the architectures were given."""

    costs: list[Cost]


class Figure(Wire):
    """A figure with the ends of its 90% interval."""

    value: float
    low: float
    high: float


class Judgement(Wire):
    """How well one metric was guessed."""

    metric: str
    trials: int = Field(description="measured trials that were learnt from")
    judged_on: Literal["held_out", "later"] = Field(
        description="held_out: on the trials that were learnt from, each as expected from the others"
    )
    count: int = Field(description="networks that were compared")
    kendall: Figure = Field(description="Kendall's tau-b between what was expected and what was measured")
    spearman: Figure = Field(description="Spearman's rank correlation")
    precision: Figure = Field(
        description="share of the expected best tenth that is really among it; the best are the greatest where "
        "neither an objective nor a constraint says otherwise"
    )
    coverage_50: Figure = Field(description="share of measurements in the interval that should hold half of them")
    coverage_90: Figure
    z_squared: Figure = Field(description="mean square of the error over its std; 1 where that is true")


class PredictorQuality(Wire):
    """How far a predictor can be trusted."""

    predictor_quality: list[Judgement] = Field(description="one a metric, in the order of `metrics`")
    remarks: list[str] = Field(description="why something is missing; for people")


class Predictor(Wire):
    """A predictor of a job's metrics. Its trials never change, so neither does it."""

    id: str
    job: str = Field(description="id of the job whose trials it learns from")
    metrics: list[str] = Field(description="what it predicts")
    trials: int = Field(
        description="it learns from the first so many finished trials of the job, as far as they were measured"
    )
    state: FitState
    reason: str | None = Field(description="why it is FAILED; null in every other state")
    quality: PredictorQuality | None = Field(description="null unless it is READY")
    created_at: Time


class PredictorList(Wire):
    """A page of predictors, the newest first."""

    predictors: list[Predictor]
    next_page_token: str | None = Field(description="null on the last page")


class Export(Wire):
    """A trial's network as a file, which a runner writes and checks."""

    id: str
    job: str = Field(description="id of the job")
    trial: int = Field(description="number of the trial")
    format: Format
    weights: Weights
    data_licence: str
    state: ExportState
    reason: str | None = Field(description="why it is FAILED (which check failed, say) or CANCELLED; else null")
    attempt: int = Field(description="counts starts, also of runners that died, were stopped or found no workers")
    file: str = Field(description="what the file is called")
    created_at: Time
    finished_at: Time | None


class ExportList(Wire):
    """A page of exports, the newest first."""

    exports: list[Export]
    next_page_token: str | None = Field(description="null on the last page")


class Expectation(Wire):
    """What is expected of one metric, in its own unit."""

    mean: float
    std: float = Field(description="standard deviation of the predictor's own uncertainty")


class Predictions(Wire):
    """What is expected of architectures, in the order in which they were given."""

    predictions: list[dict[str, Expectation]] = Field(description="by metric")


class Limits(Wire):
    """How much may be asked for at once."""

    max_body_bytes: int
    max_yaml_bytes: int
    max_depth: int = Field(description="levels of nesting in a body")
    max_page_size: int
    max_architectures: int = Field(description="in one request about a space")
    max_objectives: int
    max_trial_count: int
    max_warm_start_trials: int = Field(description="to learn from, of all jobs that a document's warm_start names")


class Capabilities(Wire):
    """What documents may name here."""

    version: str
    searchers: list[str]
    evaluators: list[str]
    families: list[str] = Field(description="of search spaces")
    presets: list[str] = Field(description="search spaces by name")
    datasets: list[str] = Field(description="for the training evaluator; those of the data registry among them")
    tables: list[str] = Field(description="for the tabular evaluator; those of the data registry among them")
    functions: list[str] = Field(description="for the callable evaluator: those that the operator allows")
    devices: list[str] = Field(description="that latency can be measured on, beside the workers' own hosts")
    limits: Limits


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
