"""What is wanted and what is not allowed. Direction is turned here, once: below, everything minimizes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from search_spaces.faults import show, spec_error

NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_IMIZE = "(?:[Ii][Mm][Ii][Zz][Ee])?"
_DIGITS = "[0-9](?:_?[0-9])*"
_NUMBER = rf"[-+]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][-+]?{_DIGITS})?"
"""What `float` reads, but for words and spaces."""
OBJECTIVE = rf"\s*([Mm][Aa][Xx]{_IMIZE}|[Mm][Ii][Nn]{_IMIZE})\s+({NAME})\s*"
CONSTRAINT = rf"\s*({NAME})\s*(<=|>=)\s*({_NUMBER})\s*"
"""The short forms, as regular expressions that JSON Schema knows as well."""

RANGES: dict[str, tuple[float, float]] = {
    "accuracy": (0.0, 1.0),
    "loss": (0.0, math.inf),
    "params": (0.0, math.inf),
    "macs": (0.0, math.inf),
    "model_size_bytes": (0.0, math.inf),
    "peak_activation_bytes": (0.0, math.inf),
    "latency_ms": (0.0, math.inf),
    "energy_mj": (0.0, math.inf),
    "train_seconds": (0.0, math.inf),
}
"""The metrics that have a meaning everywhere, and the values they can take."""


class Goal(StrEnum):
    """Which way is better."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


class Objective(BaseModel):
    """A metric and which way is better; may be written ``"max accuracy"``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    goal: Goal

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, raw: Any) -> Any:
        if not isinstance(raw, str):
            return raw
        found = re.fullmatch(OBJECTIVE, raw)
        if not found:
            raise ValueError(
                f'{show(raw)} is not an objective; write "max accuracy" or "min latency_ms", '
                "or {metric: accuracy, goal: maximize}"
            )
        goal = Goal.MAXIMIZE if found[1].lower().startswith("max") else Goal.MINIMIZE
        return {"metric": found[2], "goal": goal}

    @classmethod
    def parse(cls, given: object) -> Objective:
        """From ``"max accuracy"``, or an objective. Raises `SpecError`."""
        return _parsed(cls, given)

    def loss(self, value: float) -> float:
        """The value turned so that less is better."""
        return -value if self.goal is Goal.MAXIMIZE else value

    def value(self, loss: float) -> float:
        """The metric's own value of a loss."""
        return -loss if self.goal is Goal.MAXIMIZE else loss

    def __str__(self) -> str:
        return f"{self.goal.value[:3]} {self.metric}"


class Constraint(BaseModel):
    """A bound on a metric, written ``"latency_ms <= 10"``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    metric: str
    relation: Literal["<=", ">="]
    bound: float

    @model_validator(mode="wrap")
    @classmethod
    def _short_form(cls, raw: Any, handler: ModelWrapValidatorHandler[Constraint]) -> Constraint:
        if not isinstance(raw, str):
            return handler(raw)
        found = re.fullmatch(CONSTRAINT, raw)
        bound = float(found[3]) if found else math.nan
        if not found or not math.isfinite(bound):
            write = 'write "metric <= number" or "metric >= number"'
            raise ValueError(f"{show(raw)} is not a constraint; {write}{_no_number(raw)}")
        return handler({"metric": found[1], "relation": found[2], "bound": bound})

    @model_serializer
    def _dump(self) -> str:
        return str(self)

    @classmethod
    def parse(cls, given: object) -> Constraint:
        """From ``"latency_ms <= 10"``, or a constraint. Raises `SpecError`."""
        return _parsed(cls, given)

    def excess(self, value: float) -> float:
        """How far a value is on the wrong side, relative to the bound; 0 where the constraint holds."""
        over = value - self.bound if self.relation == "<=" else self.bound - value
        return max(0.0, over) / max(abs(self.bound), 1e-12)

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.bound!r}"


@dataclass(frozen=True)
class Problem:
    """Objectives and constraints together: from metrics to losses and to the amount of violation."""

    objectives: Sequence[Objective]
    constraints: Sequence[Constraint] = ()

    @classmethod
    def parse(cls, objectives: Sequence[str], constraints: Sequence[str] = ()) -> Problem:
        """From the short forms: ``Problem.parse(["max accuracy"], ["latency_ms <= 10"])``."""
        return cls(
            tuple(map(Objective.parse, objectives)),
            tuple(map(Constraint.parse, constraints)),
        )

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that must be measured, each once."""
        return tuple(dict.fromkeys([o.metric for o in self.objectives] + [c.metric for c in self.constraints]))

    def losses(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """One number an objective, less is better."""
        return tuple(o.loss(metrics[o.metric]) for o in self.objectives)

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Sum of the relative excesses over all constraints; 0 for a feasible point."""
        return sum(c.excess(metrics[c.metric]) for c in self.constraints)


def _no_number(raw: str) -> str:
    """A remark on what stands where the number of a constraint should, or nothing."""
    found = re.fullmatch(rf"\s*{NAME}\s*[<>=]+([^<>=]*)", raw)
    bound = found[1].strip() if found else ""
    if not bound or re.fullmatch(_NUMBER, bound):
        return ""
    return f"; {show(bound)} is no number (100e3 is one)"


M = TypeVar("M", bound=BaseModel)


def _parsed(model: type[M], given: object) -> M:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise spec_error(error, model, given) from None
