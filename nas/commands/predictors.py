"""The command that tells how far a job's predictors can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.commands.jobs import JobId, Json, Url, named, store_of_settings
from nas.commands.show import faults_told, print_json, say, table

if TYPE_CHECKING:
    from nas.predictor_quality import Judgement

HEADS = ["metric", "trials", "judged on", "Kendall tau", "best tenth", "in 90%"]


def predictors(job: JobId, json: Json = False, url: Url = None) -> None:
    """Show how well a job's metrics can be predicted, after 10, 20, 50, ... of its trials; takes seconds."""
    with faults_told(json):
        from nas.predictor_quality import predictor_quality
        from search_spaces.load import space_of

        store = store_of_settings(url)
        job = named(store, job)
        spec, trials = store.job(job).spec, store.trials(job)
        space = space_of(spec.space, spec.name)
        found = predictor_quality(space, spec.problem, trials, observe=_learning)
    if json:
        from nas.wire import quality_dict

        print_json(quality_dict(found))
        return
    if found.judgements:
        rows = [[j.metric, j.trials, j.judged_on, *_cells(j)] for j in found.judgements]
        table(HEADS, rows)
        say("best tenth: the share of it that was expected there; in 90%: the share of values in such intervals")
        say("--json has more figures, each with the ends of its 90% interval")
    for remark in found.remarks:
        say(remark)


def _learning(learnt: int, total: int) -> None:
    say(f"learning from {learnt} of {total} trials")


def _cells(judgement: Judgement) -> list[str]:
    """The figures that tell most, that of ranks with its interval; all of them need 160 columns."""
    tau, best, inside = (judgement.figures[name] for name in ("kendall", "precision", "coverage_90"))
    return [f"{tau.value:.2f} [{tau.low:.2f}, {tau.high:.2f}]", f"{best.value:.2f}", f"{inside.value:.2f}"]
