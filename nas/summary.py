"""What a person asks first of a finished search: the best network, and what quantization bought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.trial import Trial
from search_spaces import Space
from search_spaces.declared import DeclaredSpace
from search_spaces.quantization import FLOAT_BITS

POINT = 0.01
"""One percentage point of accuracy."""


@dataclass(frozen=True)
class Highlight:
    """A trial worth naming, and why."""

    title: str
    trial: Trial
    note: str = ""


def highlights(trials: Sequence[Trial], space: Space) -> list[Highlight]:
    """The most accurate network (of equally accurate ones the smallest), and what quantization bought.

    For spaces with a quantization policy also the most accurate network in floating point, and the smallest
    quantized one within one point of the best accuracy.
    """
    measured = [t for t in trials if t.feasible and "accuracy" in t.metrics]
    if not measured:
        return []
    best = max(measured, key=_rank)
    found = [Highlight("most accurate", best)]
    if not isinstance(space, DeclaredSpace) or "model_size_bytes" not in best.metrics:
        return found
    plain = [t for t in measured if _is_float(space, t)]
    near = [
        t
        for t in measured
        if not _is_float(space, t) and t.metrics["accuracy"] >= best.metrics["accuracy"] - POINT
    ]
    if plain:
        reference = max(plain, key=_rank)
        found.append(Highlight("most accurate at 32 bits", reference))
        if near:
            small = min(near, key=lambda t: t.metrics["model_size_bytes"])
            share = small.metrics["model_size_bytes"] / reference.metrics["model_size_bytes"]
            note = f"{share:.1%} of the bytes of trial {reference.number}"
            found.append(Highlight("smallest quantized within 1 point of the best", small, note))
    return found


def _rank(trial: Trial) -> tuple[float, float, int]:
    """Greater for what is better: accurate, then small, then early."""
    return trial.metrics["accuracy"], -trial.metrics.get("model_size_bytes", math.inf), -trial.number


def _is_float(space: DeclaredSpace, trial: Trial) -> bool:
    return all(bits.weight == FLOAT_BITS for bits in space.policy(trial.architecture).values())
