"""Where scores come from: a table of known networks, or what another predictor expects.

A score is anything known of a network before it is measured; see `features.Scores`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from predictors.contract import Predictor
from predictors.features import Scores
from search_spaces.architecture import Genes
from search_spaces.space import Space

Floats = NDArray[np.float64]


class ScoreTable:
    """Scores of listed networks; not-a-number for all others."""

    def __init__(self, space: Space, genes: Genes, scores: Floats) -> None:
        """Scores (n, k) of architectures with genes (n, d); of a network listed twice the last counts.

        Raises:
            ValueError: for scores of another shape.
        """
        scores = np.asarray(scores, dtype=np.float64)
        if scores.ndim != 2 or len(scores) != len(genes):
            raise ValueError(f"scores have shape {scores.shape}; allowed: ({len(genes)}, k)")
        self._width = scores.shape[1]
        canonical = np.ascontiguousarray(space.canonical_genes(genes))
        self._known = {row.tobytes(): score for row, score in zip(canonical, scores, strict=True)}

    def __call__(self, genes: Genes) -> Floats:
        """Scores of canonical genes (n, d), shape (n, k)."""
        unknown = np.full(self._width, np.nan)
        rows = np.ascontiguousarray(genes, dtype=np.int64)
        found = [self._known.get(row.tobytes(), unknown) for row in rows]
        return np.array(found, dtype=np.float64).reshape(len(genes), self._width)


class Prior:
    """What a predictor that was fitted elsewhere expects: to another data set, device or job, that is a score.

    A few measurements at the new place tell how far it can be trusted: predictors given it learn from them what
    differs (FLAN; Akhauri and Abdelfattah, "Encodings for prediction-based neural architecture search", 2024, show
    how much such transfers save).
    """

    def __init__(self, space: Space, source: Predictor, scores: Scores | None = None) -> None:
        """`source`: fitted, on a space with the same choices as `space`; `scores`: others, beside it.

        Raises:
            ValueError: for a source that knows other choices.
        """
        known = getattr(source, "space", space)
        if known.choices != space.choices:
            mine, other = {c.name for c in space.choices}, {c.name for c in known.choices}
            differ = ", ".join(sorted(mine ^ other)) or "their values"
            raise ValueError(f"the prior knows other choices than {space.name}: {differ} differ")
        self._space, self._source, self._scores = space, source, scores

    def __call__(self, genes: Genes) -> Floats:
        """Expectations for canonical genes (n, d), and other scores after them, shape (n, k)."""
        expected = self._source.predict(self._space.canonical_architectures(genes)).mean
        return np.concatenate([expected, self._scores(genes)], axis=1) if self._scores else expected
