"""Placeholder while the searcher is being written."""

from __future__ import annotations

from typing import Literal

from nas.config import SearcherSettings
from nas.objectives import Problem
from nas.searchers.random import RandomSearcher
from search_spaces.space import Space


class PredictorGuidedConfig(SearcherSettings):
    """Propose what a predictor expects to be good."""

    kind: Literal["predictor_guided"] = "predictor_guided"

    def build(self, space: Space, problem: Problem, seed: int) -> RandomSearcher:
        """A fresh searcher."""
        return RandomSearcher(space, seed)
