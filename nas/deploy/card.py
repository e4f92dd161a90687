"""The model card: what is in a file, where it comes from, and what was checked. A value, as JSON and as Markdown.

After Mitchell et al. 2019, "Model cards for model reporting", for what a search knows by itself. What it does not
know, the licence of the data first of all, is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from nas.deploy.surroundings import Surroundings
from nas.exports import UNKNOWN

VERSION = 1
"""Of the card's form."""
POINTS = 0.005
"""How far the accuracy of a file may be from the trial's; or one example, where that is more."""


def points(examples: int) -> float:
    """How far that may be on so many examples, give or take what rounding adds."""
    return max(POINTS, 1 / examples) + 1e-9


@dataclass(frozen=True)
class FileFacts:
    """The file that the card lies beside."""

    name: str
    format: str
    """``onnx``, ``pt2`` or ``state``."""
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Metric:
    """A figure, and how it was come by."""

    name: str
    value: float
    protocol: str


@dataclass(frozen=True)
class Check:
    """What was looked at before the file was handed out."""

    name: str
    measured: float
    allowed: str
    passed: bool


@dataclass(frozen=True)
class Training:
    """How the weights came to be."""

    weights: str
    """``checkpoint``, ``trained again`` or ``final``: see `nas.deploy.export`."""
    examples: int
    """Of each epoch."""
    parts: tuple[str, ...]
    """Of the data, that it was trained on."""
    epochs: int
    seed: int
    seconds: float
    device: str
    recipe: Mapping[str, Any]
    made_with: Surroundings
    """Where it was trained."""


@dataclass(frozen=True)
class Data:
    """What it was trained and measured on."""

    dataset: str
    sha256: str
    """Of the arrays as the data set's files give them."""
    shape: tuple[int, ...]
    """Of an example."""
    classes: int
    examples: Mapping[str, int]
    """By part: train, validation, test."""
    licence: str = UNKNOWN
    """As whoever exported it said."""


@dataclass(frozen=True)
class ModelCard:
    """All that is known of an exported network."""

    name: str
    file: FileFacts
    job: str
    trial: int
    key: str
    """Of the architecture."""
    created_at: str
    """RFC 3339, UTC."""
    architecture: Mapping[str, Any]
    """Values by choice."""
    policy: Mapping[str, Mapping[str, Any]]
    """By module: bits and what belongs to them; the signal to quantization noise ratio of its weight in decibels,
    ``weight_sqnr_db``, where anything is lost; and the grid of what it reads, ``input_scale * (code -
    input_zero_point)``, where that is quantized."""
    training: Training
    metrics: tuple[Metric, ...]
    verification: tuple[Check, ...]
    data: Data
    spec: Mapping[str, Any]
    """The job's document."""
    written_with: Surroundings
    """Where the file was written and checked."""
    software_licence: str
    """Of the software that made the file."""
    card_version: int = VERSION

    def metric(self, name: str) -> float | None:
        """The value of a metric, where the card has it."""
        return next((m.value for m in self.metrics if m.name == name), None)


def card_json(card: ModelCard) -> str:
    """The card as JSON, by `card_schema`."""
    return json.dumps(asdict(card), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_card(text: str | bytes) -> ModelCard:
    """The card in what `card_json` gave. Raises `ValueError`."""
    return _form().validate_json(text)


def card_schema() -> dict[str, Any]:
    """The JSON Schema of cards."""
    return _form().json_schema()


@cache
def _form() -> TypeAdapter[ModelCard]:
    return TypeAdapter(ModelCard)


def card_markdown(card: ModelCard) -> str:
    """The card for people."""
    training, data = card.training, card.data
    parts = [
        f"# {_cell(card.name)}",
        f"`{card.file.name}`: {card.file.format}, {card.file.bytes:,} bytes, SHA-256 `{card.file.sha256}`.",
        f"Trial {card.trial} of job `{card.job}`, architecture `{card.key}`. Written {card.created_at}.",
        "## What was measured",
        _table(["metric", "value", "how"], ([m.name, _number(m.value), m.protocol] for m in card.metrics)),
        "## What was checked before the file was handed out",
        _table(
            ["check", "measured", "allowed", "passed"],
            ([c.name, _number(c.measured), c.allowed, "yes" if c.passed else "no"] for c in card.verification),
        ),
        "## Data",
        f"`{data.dataset}`: {' x '.join(map(str, data.shape))}, {data.classes} classes; "
        + ", ".join(f"{n:,} {part}" for part, n in data.examples.items())
        + f" examples. SHA-256 of its arrays `{data.sha256}`. Licence: {_cell(data.licence)}.",
        "## Training",
        f"Weights: {training.weights}. {training.epochs} epochs of {training.examples:,} examples "
        f"({' + '.join(training.parts)}), seed {training.seed}, {training.seconds:.1f} s on {training.device}.",
        _table(["recipe", ""], ([name, _told(value)] for name, value in training.recipe.items())),
        "## Architecture",
        _table(["choice", "value"], ([name, _told(value)] for name, value in card.architecture.items())),
        "## Quantization policy",
        _table(
            ["module", *_columns(card.policy.values())],
            ([name, *map(_told, bits.values())] for name, bits in card.policy.items()),
        ),
        "## Made with",
        _table(["", "training", "file"], _made_with(training.made_with, card.written_with)),
        f"The software that wrote this file is under {card.software_licence}.",
        "## The job's document",
        f"```json\n{json.dumps(card.spec, indent=2, ensure_ascii=False)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _made_with(training: Surroundings, file: Surroundings) -> Iterable[Sequence[str]]:
    trained, wrote = ({**s.versions, **s.hardware} for s in (training, file))
    return ([name, trained.get(name, ""), wrote.get(name, "")] for name in {**trained, **wrote})


def _columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return [name.replace("_", " ") for name in next(iter(rows), {})]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(heads), ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Text that neither ends a cell nor a line."""
    return " ".join(text.replace("|", "\\|").split())


def _told(value: object) -> str:
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1 else f"{value:.6g}"
