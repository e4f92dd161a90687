"""What may stand for a value in a document: the value itself, a list of choices, or a range.

Every domain is finite, so an architecture is a tuple of small integers (indices into domains).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import eq
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from search_spaces.faults import did_you_mean, show

Value: TypeAlias = str | int | float | bool

MAX_VALUES = 4096
_RANGE_KEYS = ("min", "max", "step", "scale", "levels")


@dataclass(frozen=True)
class Domain:
    """The finite set of values that may stand at one place; one value means that it is fixed."""

    values: tuple[Value, ...]

    @property
    def fixed(self) -> bool:
        """Whether there is nothing to choose."""
        return len(self.values) == 1

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers, whose order means something."""
        return all(_is_number(v) for v in self.values)

    def dump(self) -> Value | list[Value]:
        """The domain as a document would write it."""
        return self.values[0] if self.fixed else list(self.values)


class NotAllowed(ValueError):
    """Values, one or several, that may not stand where they do."""

    def __init__(self, values: Sequence[object], allowed: str, hint: str = "") -> None:
        self.values, self.allowed, self.hint = tuple(values), allowed, hint
        are = "is" if len(values) == 1 else "are"
        super().__init__(f"{', '.join(map(show, values))} {are} not allowed; allowed: {allowed}{hint}")


@dataclass(frozen=True)
class Check:
    """Which values may stand at a place."""

    read: Callable[[Value], Value]
    """Gives the value in its final type, or raises `NotAllowed`."""
    schema: Mapping[str, Any]
    """The same as JSON Schema."""


def integer(low: int, high: int | None = None, *, odd: bool = False) -> Check:
    """Integers of at least `low` (and at most `high`)."""
    allowed = f"{'odd ' if odd else ''}integers >= {low}" + ("" if high is None else f" and <= {high}")

    def check(value: Value) -> Value:
        whole = _is_number(value) and float(value) == int(value) if _is_finite(value) else False
        if not whole or int(value) < low or (high is not None and int(value) > high):
            raise NotAllowed([value], allowed, _as_number(value))
        if odd and int(value) % 2 == 0:
            raise NotAllowed([value], allowed)
        return int(value)

    schema = _bounds("integer", minimum=low, maximum=high)
    if odd:
        schema["not"] = {"multipleOf": 2}
    return Check(check, schema)


def real(low: float, high: float | None = None, *, above: bool = False, below: bool = False) -> Check:
    """Finite numbers between `low` and `high`; `above` and `below` leave out the ends themselves."""
    allowed = f"numbers {'>' if above else '>='} {low:g}"
    allowed += "" if high is None else f" and {'<' if below else '<='} {high:g}"

    def check(value: Value) -> Value:
        inside = _is_number(value) and _is_finite(value)
        inside = inside and (float(value) > low if above else float(value) >= low)
        inside = inside and (high is None or (float(value) < high if below else float(value) <= high))
        if not inside:
            raise NotAllowed([value], allowed, _as_number(value))
        return float(value)

    least = {"exclusiveMinimum" if above else "minimum": low}
    return Check(check, _bounds("number", **least, **{"exclusiveMaximum" if below else "maximum": high}))


def one_of(*allowed: Value) -> Check:
    """One of the listed values."""

    def check(value: Value) -> Value:
        for candidate in allowed:
            if value == candidate and isinstance(value, bool) == isinstance(candidate, bool):
                return candidate
        names = [str(a) for a in allowed]
        raise NotAllowed([value], ", ".join(names), did_you_mean(value, names))

    return Check(check, {"enum": list(allowed)})


def parse_domain(raw: object, check: Check) -> Domain:
    """Read a scalar, a list of choices, ``{min, max, step}`` or ``{min, max, scale, levels}``.

    Raises:
        ValueError: with one sentence that names the value and what is allowed.
    """
    if isinstance(raw, Domain):
        return raw
    if isinstance(raw, Mapping):
        values = [check.read(v) for v in _range(raw)]
    elif isinstance(raw, list | tuple):
        if not raw:
            raise ValueError("is an empty list; at least one choice must be given")
        values = _checked([_scalar(v) for v in raw], check)
    else:
        values = [check.read(_scalar(raw))]
    if len(values) > MAX_VALUES:
        raise ValueError(f"has {len(values)} choices; at most {MAX_VALUES} are allowed")
    if all(_is_number(v) for v in values):
        values.sort(key=float)  # equal sets of numbers are equal domains
    seen: set[tuple[type, Value]] = set()
    for value in values:
        if (type(value), value) in seen:
            raise ValueError(f"lists {show(value)} twice")
        seen.add((type(value), value))
    return Domain(tuple(values))


def varied(check: Check) -> Any:
    """The pydantic type of a place where a value or a choice may stand."""
    schema = dict(check.schema)
    spread = {
        "type": "object",
        "required": ["min", "max"],
        "additionalProperties": False,
        "properties": {
            "min": {"type": "number"},
            "max": {"type": "number"},
            "step": {"type": "number", "exclusiveMinimum": 0},
            "scale": {"enum": ["linear", "log"]},
            "levels": {"type": "integer", "minimum": 2},
        },
    }
    many = {"type": "array", "items": schema, "minItems": 1, "uniqueItems": True}
    numeric = schema.get("type") in ("integer", "number")
    return Annotated[
        Domain,
        BeforeValidator(lambda raw: parse_domain(raw, check)),
        PlainSerializer(Domain.dump),
        WithJsonSchema({"anyOf": [schema, many, spread] if numeric else [schema, many]}),
    ]


def choice(*allowed: Value) -> Any:
    """The pydantic type of a place where one of the listed values, or a choice of them, may stand."""
    return varied(one_of(*allowed))


def later(value: Value) -> Any:
    """The default of a key that came after others: where it is left out, spaces keep the keys they had."""
    default = Domain((value,))
    return Field(default=default, exclude_if=partial(eq, default))


def _bounds(kind: str, **ends: float | None) -> dict[str, Any]:
    """The JSON Schema of numbers within these ends; None: without end."""
    return {"type": kind, **{name: end for name, end in ends.items() if end is not None}}


def _checked(raw: Sequence[Value], check: Check) -> list[Value]:
    """All values in their final types; whatever is not allowed among them is told at once."""
    values, faults = [], []
    for value in raw:
        try:
            values.append(check.read(value))
        except NotAllowed as fault:
            faults.append(fault)
    if faults:
        hint = next((fault.hint for fault in faults if fault.hint), "")
        raise NotAllowed([v for fault in faults for v in fault.values], faults[0].allowed, hint)
    return values


def _range(raw: Mapping[Any, Any]) -> list[Value]:
    unknown = [k for k in raw if k not in _RANGE_KEYS]
    if unknown:
        raise ValueError(
            f"unknown key {show(unknown[0])}; a range has min, max and step, or min, max, scale and levels"
        )
    for key in ("min", "max"):
        if key not in raw:
            raise ValueError(f"is a range without {key}")
    for key in ("min", "max", "step", "levels"):
        if key in raw and not (_is_number(raw[key]) and _is_finite(raw[key])):
            raise ValueError(f"has {key} {show(raw[key])}, which is not a number{_as_number(raw[key])}")
    low, high = raw["min"], raw["max"]
    if low > high:
        raise ValueError(f"is a range upside down: min {low} is greater than max {high}")
    if "scale" in raw or "levels" in raw:
        if "step" in raw:
            raise ValueError("has both step and levels; give one of them")
        return _levels(float(low), float(high), raw.get("scale", "linear"), raw.get("levels", 16))
    step = raw.get("step", 1)
    if step <= 0:
        raise ValueError(f"has step {step}; allowed: numbers > 0")
    steps = (float(high) - float(low)) / step
    count = math.floor(steps + 1e-9) + 1 if math.isfinite(steps) else steps
    if count > MAX_VALUES:
        raise ValueError(f"has {count} choices; at most {MAX_VALUES} are allowed")
    values = [low + i * step for i in range(int(count))]
    return [v if isinstance(v, int) else round(v, 12) for v in values]


def _levels(low: float, high: float, scale: Literal["linear", "log"], levels: int) -> list[Value]:
    if scale not in ("linear", "log"):
        raise ValueError(f"has scale {show(scale)}; allowed: linear, log")
    if levels != int(levels) or not 2 <= levels <= MAX_VALUES:
        raise ValueError(f"has levels {levels}; allowed: integers from 2 to {MAX_VALUES}")
    if scale == "log" and low <= 0:
        raise ValueError(f"has min {low:g} on a log scale; allowed: numbers > 0")
    if low == high:
        return [low]
    if not math.isfinite(high - low):
        raise ValueError(f"reaches from {low:g} to {high:g}, which is too far")
    at = [i / (int(levels) - 1) for i in range(int(levels))]
    if scale == "linear":
        values = [low + (high - low) * t for t in at]
    else:
        values = [low * (high / low) ** t for t in at]
    return [float(f"{v:.6g}") for v in values]  # readable in a table, and exact when read back


def _scalar(raw: object) -> Value:
    if not isinstance(raw, str | int | float | bool):
        raise ValueError(f"{show(raw)} is not a value, a list of values or a range")
    return raw


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_number(value: object) -> str:
    """A hint where a number stands as text: YAML readers differ in what they take ``1e-3`` for."""
    try:
        return (
            " (this is text; write it as a number)"
            if isinstance(value, str) and math.isfinite(float(value))
            else ""
        )
    except ValueError:
        return ""


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False
