"""The result of a job on a server, with all that the result of a local search offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from nas.contracts import Evaluator
from nas.evaluators.training import TrainingConfig
from nas.job import Job, JobSpec
from nas.remote.read import space_of_job
from nas.result import SearchResult
from nas.runner import Study
from nas.trial import Trial
from search_spaces import Space, SpecError


class Elsewhere:
    """Stands for a searcher and an evaluator that are on the server."""

    def ask(self, n: int) -> NoReturn:
        """Raises `RuntimeError`, as every method."""
        raise RuntimeError("the server searches")

    def tell(self, trials: object) -> NoReturn:
        """See `ask`."""
        raise RuntimeError("the server searches")

    def evaluate(self, proposal: object, report: object) -> NoReturn:
        """See `ask`."""
        raise RuntimeError("the server measures")


def result_of(job: Job, trials: Sequence[Trial]) -> SearchResult:
    """The result with these trials of a job, by number."""
    space = space_of_job(job.spec)
    study = Study(job.spec, space, Elsewhere(), _evaluator(job.spec, space))
    return SearchResult(job, study, tuple(sorted(trials, key=lambda t: t.number)))


def _evaluator(spec: JobSpec, space: Space) -> Evaluator:
    """What can measure test data here, where the data set is on this machine too. Imports no code of others."""
    if isinstance(spec.evaluator, TrainingConfig):
        try:
            return spec.evaluator.bind(space, spec.seed)
        except SpecError:
            pass
    return Elsewhere()
