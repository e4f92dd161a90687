"""Formulas only: what a network costs, without building it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from nas.config import EvaluatorSettings
from nas.trial import Proposal
from search_spaces.space import Space

if TYPE_CHECKING:
    from nas.contracts import Report


class CostConfig(EvaluatorSettings):
    """`params`, `macs` and `model_size_bytes` from the space's formulas, which every trial gets anyway."""

    kind: Literal["cost"] = "cost"

    def bind(self, space: Space, seed: int) -> CostEvaluator:
        """The evaluator."""
        return CostEvaluator()

    def metrics(self) -> frozenset[str]:
        """Nothing beyond the formulas."""
        return frozenset()

    def measurements(self) -> int:
        """Formulas have no noise."""
        return 1


class CostEvaluator:
    """Adds nothing to what the formulas give."""

    def evaluate(self, proposal: Proposal, report: Report) -> Mapping[str, float]:
        """No further metrics."""
        return {}
