"""The command that tells how far a job's predictors can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.commands.jobs import JobId, Json, Url, named, store_of_settings
from nas.commands.show import faults_told, print_json, say, table

if TYPE_CHECKING:
    from nas.predictor_quality import Judgement

HEADS = ["Kendall tau", "Spearman", "best tenth", "in 50% interval", "in 90% interval", "z squared"]


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
        rows = [[j.metric, j.trials, j.judged_on, j.quality.count, *_cells(j)] for j in found.judgements]
        table(["metric", "trials", "judged on", "networks", *HEADS], rows)
    for remark in found.remarks:
        say(remark)


def _learning(learnt: int, total: int) -> None:
    say(f"learning from {learnt} of {total} trials")


def _cells(judgement: Judgement) -> list[str]:
    """The figures with their intervals, but for the last, whose interval needs more room than it is worth."""
    *all_but_last, last = judgement.figures.values()
    return [f"{f.value:.2f} [{f.low:.2f}, {f.high:.2f}]" for f in all_but_last] + [f"{last.value:.3g}"]
