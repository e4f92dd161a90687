"""Fitting the predictor of a job: what there is to learn, and what comes of it. No I/O but reading trials.

Only `Lesson.learn` loads scikit-learn and LightGBM, so it is called where these may be loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.contracts import Store
from nas.fitted import FittedPredictor
from nas.objectives import Goal
from nas.predictor_quality import FEWEST, PredictorQuality, goals_of, held_out_quality
from nas.trial import Trial
from predictors import Auto, Prediction
from search_spaces.architecture import Genes
from search_spaces.load import space_of
from search_spaces.space import Space

Floats = NDArray[np.float64]

PAGE = 1000
"""Trials that are read at a time."""
GREATEST = float(np.finfo(np.float64).max)


class TooFew(ValueError):
    """There is not enough to learn from."""


@dataclass(frozen=True)
class Lesson:
    """What there is to learn: networks, and what was measured of them."""

    space: Space
    goals: Mapping[str, Goal]
    """The metrics, with the way that is better."""
    genes: Genes
    """Canonical, of shape (n, d)."""
    values: Floats
    """Of shape (n, t), one column a metric."""

    def learn(self) -> Learnt:
        """Fit the recommended predictor to all metrics; takes seconds for 1,000 networks."""
        return Learnt(self)


class Learnt:
    """A fitted predictor of several metrics. Any thread may use it."""

    def __init__(self, lesson: Lesson) -> None:
        # In another unit, as squares of very large values would be infinite; a power of two changes no digit.
        _, self._exponents = np.frexp(np.abs(lesson.values).max(axis=0))
        scaled = np.ldexp(lesson.values, -self._exponents)
        self._model = Auto(lesson.space).fit_genes(lesson.genes, scaled)
        self._goals = lesson.goals
        self._trials = len(lesson.genes)

    @cached_property
    def quality(self) -> PredictorQuality:
        """How well it guesses networks that it learnt from, each held out."""
        return held_out_quality(self._model, self._goals, self._trials)

    def predict(self, genes: Genes) -> Prediction:
        """Mean and standard deviation of canonical genes (n, d), each of shape (n, t), all finite."""
        guess = self._model.predict_genes(genes)
        return Prediction(self._unscaled(guess.mean), self._unscaled(guess.std))

    def _unscaled(self, values: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.asarray(np.clip(np.ldexp(values, self._exponents), -GREATEST, GREATEST))


def lesson_of(store: Store, predictor: FittedPredictor) -> Lesson:
    """What a predictor learns from.

    Raises:
        KeyError: the job is gone.
        TooFew: too few of its trials have all the metrics.
        SpecError: its space cannot be imported here.
    """
    spec = store.job(predictor.job_id).spec
    space = space_of(spec.space, spec.name)
    genes = [np.zeros((0, len(space.choices)), dtype=np.int64)]
    rows: list[list[float]] = []
    for page in _pages(store, predictor):
        known = [t for t in page if t.measured and all(m in t.metrics for m in predictor.metrics)]
        genes.append(space.genes([t.architecture for t in known]))
        rows += [[t.metrics[m] for m in predictor.metrics] for t in known]
    if len(rows) < FEWEST:
        metrics = " and ".join(predictor.metrics)
        raise TooFew(
            f"too few measured trials: {len(rows)} of the first {predictor.trials} have {metrics}; "
            f"at least {FEWEST} are needed"
        )
    goals = {m: goals_of(spec.problem).get(m, Goal.MAXIMIZE) for m in predictor.metrics}
    canonical = space.canonical_genes(np.concatenate(genes))
    return Lesson(space, goals, canonical, np.array(rows, dtype=np.float64))


def _pages(store: Store, predictor: FittedPredictor) -> Iterator[Sequence[Trial]]:
    """The finished trials that it learns from, some at a time. Raises `KeyError`."""
    after = -1
    while after < predictor.trials - 1:
        page = store.finished(predictor.job_id, after, min(PAGE, predictor.trials - 1 - after))
        if not page:
            return
        yield page
        after = page[-1].order if page[-1].order is not None else predictor.trials
