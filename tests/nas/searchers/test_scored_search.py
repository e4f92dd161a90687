"""Zero-cost scores reach `predictor_guided`: from the document on, and to its good."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searcher_contract import BENCH, TINY, SearcherContract, keys, simulate
from searcher_contract import problem as made_up_problem
from test_searchers import TOY, metrics

from nas.check import check
from nas.job import JobSpec
from nas.local import study_of
from nas.objectives import Problem
from nas.runner import Study
from nas.searchers.predictor_guided import SCORED, PredictorGuided, PredictorGuidedConfig
from nas.trial import Measured, Trial
from predictors.features import Floats, Scores
from search_spaces import SpecError
from search_spaces.architecture import Genes
from search_spaces.space import Space

DOCUMENT = {
    "space": "digits-tiny",
    "objectives": ["max accuracy"],
    "evaluator": {"kind": "training", "dataset": "digits"},
    "searcher": {"kind": "predictor_guided", "scores": ["params", "macs"]},
}
LOSS = Problem.parse(["min loss"])


class WithScores(PredictorGuidedConfig):
    """Made-up scores: one of many networks is dead, another cannot be scored."""

    def build(self, space: Space, problem: Problem, seed: int, scores: Scores | None = None) -> PredictorGuided:
        def made_up(genes: Genes) -> Floats:
            total = genes.sum(axis=1) if genes.shape[1] else np.zeros(len(genes))
            second = np.where(total % 7 == 0, np.nan, np.cos(total))
            return np.stack([np.where(total % 5 == 0, -np.inf, total), second], axis=1)

        return super().build(space, problem, seed, made_up)


class Scored(SearcherContract):
    """Not collected: the whole contract, run without scores, takes half a minute."""

    config = WithScores(initial=4)


@given(space=st.sampled_from([BENCH, TINY]), seed=st.integers(0, 99), workers=st.integers(1, 3), data=st.data())
@settings(max_examples=6)
def test_a_fresh_searcher_told_everything_asks_the_same(
    space: Space, seed: int, workers: int, data: st.DataObject
) -> None:
    wanted = made_up_problem(constraints=data.draw(st.sampled_from([(), ("m2 >= 0.9",)])))
    old, fresh = (Scored.config.build(space, wanted, seed) for _ in range(2))
    trials = simulate(old, wanted, data.draw(st.integers(0, 14)), workers, seed, broken=0.2)
    fresh.tell(data.draw(st.permutations(trials)))
    assert keys(fresh, 3) == keys(old, 3) == keys(old, 3)


def test_a_space_is_exhausted_without_repeats() -> None:
    Scored()._exhaust(TINY, 0)


def loss_of(genes: Genes) -> Floats:
    return np.array([[metrics(a)["loss"]] for a in TOY.architectures(genes)])


def rough(genes: Genes) -> Floats:
    """The losses turned round, with errors."""
    noise = [np.random.default_rng(row.tolist()).normal(0, 0.3) for row in genes]
    return np.reshape(noise, (-1, 1)) - loss_of(genes)


def best(scores: Scores | None, seed: int, count: int = 10) -> float:
    searcher, found = PredictorGuidedConfig(initial=6).build(TOY, LOSS, seed, scores), []
    for number in range(count):
        (proposal,) = searcher.ask(1)
        measured = metrics(proposal.architecture)
        found.append(measured["loss"])
        searcher.tell([Trial(number, proposal).close(Measured(measured), LOSS, number, 0.0)])
    return min(found)


def test_scores_that_know_something_save_evaluations() -> None:
    plain, scored = (np.mean([best(s, seed) for seed in range(5)]) for s in (None, rough))
    assert scored < plain - 0.1


def test_few_are_scored_and_none_that_seems_dead_is_chosen_for_its_promise() -> None:
    asked: set[bytes] = set()

    def dead_by_word(genes: Genes) -> Floats:
        asked.update(row.tobytes() for row in genes)
        return np.where(genes[:, -1] == 0, -np.inf, 1.0)[:, None]

    searcher = PredictorGuidedConfig(initial=3).build(TOY, LOSS, 0, dead_by_word)
    for number in range(12):
        before = len(asked)
        (proposal,) = searcher.ask(1)
        assert number < 3 or proposal.architecture.genes[-1] != 0
        assert len(asked) - before <= SCORED + number  # candidates, and what was measured unscored
        found = Measured(metrics(proposal.architecture))
        searcher.tell([Trial(number, proposal).close(found, LOSS, number, 0.0)])


def test_the_document_brings_scores_to_the_searcher() -> None:
    """Whoever builds the job's objects; counts need no network, so nothing is built here."""
    spec = JobSpec.parse(DOCUMENT)
    asked = [[p.architecture.key for p in study.searcher.ask(8)] for study in (Study.of(spec), study_of(spec))]
    plain = JobSpec.parse({**DOCUMENT, "searcher": "predictor_guided"})
    assert asked[0] == asked[1] != [p.architecture.key for p in Study.of(plain).searcher.ask(8)]


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        (["naswott"], "searcher.scores.0", "'naswott' is not allowed: input should be 'params'"),
        (["naswot", "naswot"], "searcher.scores", "naswot stands twice; allowed: each score once"),
        ("cost", "searcher.scores", "the cost evaluator builds no networks to score; allowed: no scores"),
    ],
)
def test_scores_that_cannot_be_had_are_refused(
    changes: str | list[str], path: str, message: str, remote: bool
) -> None:
    document = {**DOCUMENT, "objectives": ["min params"]}
    if isinstance(changes, str):
        document["evaluator"] = changes
    else:
        document["searcher"] = {"kind": "predictor_guided", "scores": changes}
    with pytest.raises(SpecError) as caught:
        check(JobSpec.parse(document), remote=remote)
    (fault,) = caught.value.faults
    assert fault.path == path
    assert fault.message.startswith(message)
