"""The Python face: one call from a document, or from keyword arguments, to a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from inspect import signature
from pathlib import Path
from typing import Any, TypeAlias, get_args

from nas.check import check
from nas.contracts import Evaluator, Jobs, Lease, LeaseLost, Searcher
from nas.evaluators.callable import CallableEvaluator, reference
from nas.executors import ExecutorKind
from nas.job import JobSpec, JobState, WrongState
from nas.loop import Observe
from nas.result import SearchFailed, SearchResult
from nas.runner import Study, run
from nas.storage import open_store
from nas.storage.memory import MemoryStore
from nas.storage.sql import SqlStore
from nas.trial import Trial
from nas.warm_start import Source, first_trials
from search_spaces import Fault, Space, SpecError
from search_spaces.faults import did_you_mean
from search_spaces.load import read_document
from search_spaces.python import PythonDocument, load_python
from search_spaces.python import reference as space_reference

LocalStore: TypeAlias = MemoryStore | SqlStore

_BUDGET = (
    "max_trial_count",
    "parallel_trial_count",
    "max_failed_trial_count",
    "max_duration",
    "max_trial_duration",
    "max_trial_memory",
    "repeats",
)


def search(
    document: str | Path | Mapping[str, Any] | None = None,
    *,
    space: Space | str | Path | Mapping[str, Any] | None = None,
    evaluator: Evaluator | Callable[..., Mapping[str, float]] | str | Mapping[str, Any] | None = None,
    searcher: Searcher | str | Mapping[str, Any] | None = None,
    executor: ExecutorKind = "ray",
    store: str | LocalStore | None = None,
    warm_start: Sequence[str | SearchResult] | None = None,
    resume: str | None = None,
    progress: bool | Observe = False,
    **overrides: Any,
) -> SearchResult:
    """Search, and give what was found.

    Args:
        document: a YAML or JSON file, or a mapping: the whole document. Everything else overrides its keys.
        space: the name of a preset or a reference network, a file, a document, or a `Space`.
        evaluator: ``f(architecture) -> {metric: value}``, an `Evaluator`, or its settings.
        searcher: a kind, settings, or a fresh `Searcher`.
        executor: "ray", "inline" for this very process, or "simulated": the same, but outcomes come as from
            `parallel_trial_count` workers on a simulated clock, each after its metric `train_seconds`.
        store: a database URL keeps the job; None: it lives as long as the result.
        warm_start: jobs to learn from, by their ids in `store` or by their results: what they measured in the
            same way is taken over, and of others the best networks are measured first; see `nas.warm_start`.
        resume: id of a job in `store` to go on with, instead of a new one.
        progress: show a bar, or be called with trials as they open and close.
        **overrides: `objectives`, `constraints`, `seed`, `name`, `initial`, and the keys of `budget`
            (`max_trial_count`, `parallel_trial_count`, ...).

    Returns:
        The result. After Ctrl-C it is what was measured so far, with `state` PAUSED.

    Raises:
        SpecError: with everything wrong in the document; nothing was written.
        SearchFailed: the job ended FAILED; its `result` holds what was measured.
    """
    if executor not in get_args(ExecutorKind):
        raise SpecError.at("executor", f"{executor!r} is not known; allowed: {', '.join(get_args(ExecutorKind))}")
    kept = open_store(store) if store is None or isinstance(store, str) else store
    if resume is not None:
        if document is not None or overrides or warm_start or store is None:
            raise SpecError.at("resume", "takes a job of `store`, with the document that it began with")
        study = study_of(kept.job(resume).spec, space, evaluator, searcher)
        return drive(kept, study, resume, executor, progress)
    if _is_object(searcher) and store is not None:
        raise SpecError.at(
            "searcher", "a Searcher object cannot be kept in a database; allowed: store=None, or a kind"
        )
    if isinstance(warm_start, str | SearchResult):
        raise SpecError.at("warm_start", "is a single job; a list of jobs is needed")
    _check_names(overrides)
    if warm_start is not None:
        overrides["warm_start"] = [w.job.id if isinstance(w, SearchResult) else w for w in warm_start]
    spec = JobSpec.parse(document_of(document, space, evaluator, searcher, overrides))
    study = study_of(spec, space, evaluator, searcher)
    results = [w for w in warm_start or () if isinstance(w, SearchResult)]
    return drive(kept, study, submit(kept, study, results), executor, progress)


def _check_names(overrides: Mapping[str, Any]) -> None:
    """Raises `SpecError` for arguments of `search` that it does not have."""
    own = [p.name for p in signature(search).parameters.values() if p.kind is not p.VAR_KEYWORD]
    allowed = [*own, *(name for name in JobSpec.model_fields if name not in (*own, "budget")), *_BUDGET]
    faults = [
        Fault(name, f"unknown argument; allowed: {', '.join(allowed)}{did_you_mean(name, allowed)}")
        for name in overrides
        if name not in (*allowed, "budget")
    ]
    if faults:
        raise SpecError(faults)


def read_study(document: str | Path | Mapping[str, Any], **overrides: Any) -> Study:
    """The objects that a document names, with some of its keys overridden. Raises `SpecError`."""
    return study_of(JobSpec.parse(document_of(document, None, None, None, overrides)))


def submit(store: LocalStore, study: Study, results: Sequence[SearchResult] = ()) -> str:
    """Keep the job, held back from other runners for this process to claim. Returns its id.

    What its `warm_start` names is looked up among `results`, then in the store. Raises `SpecError` where it does
    not fit.
    """
    if isinstance(study.spec.space, PythonDocument) and isinstance(store, SqlStore):
        load_python(study.spec.space)  # a database keeps genes; only an importable space gives them meaning
    sources = [Source(r.job, r.all_trials) for r in results]
    trials = first_trials(store, study.spec, study.space, sources)
    return store.submit(study.spec, queued=False, trials=trials).id


def drive(
    store: LocalStore,
    study: Study,
    job_id: str,
    executor: ExecutorKind,
    progress: bool | Observe = False,
) -> SearchResult:
    """Claim one job and drive it in this process to its end."""
    from nas.progress import shown

    lease = _claim(store, job_id)
    try:
        with shown(study.spec, progress) as observe:
            ending = run(lease, executor, study=study, observe=observe)
    except KeyboardInterrupt:
        with suppress(LeaseLost):  # released already, where the search itself was interrupted
            lease.release(JobState.PAUSED, "interrupted")
        if store.job(job_id).state.over:  # the search was done: whoever calls is to end, all the same
            raise
        return result_of(store, study, job_id)
    result = result_of(store, study, job_id)
    if ending.state is JobState.FAILED:
        raise SearchFailed(ending.reason or "the search failed", result)
    return result


def result_of(store: Jobs, study: Study, job_id: str) -> SearchResult:
    """The result of a job as it stands."""
    trials: Sequence[Trial] = store.trials(job_id)
    return SearchResult(store.job(job_id), study, tuple(trials))


def _claim(store: LocalStore, job_id: str) -> Lease:
    lease = store.claim(job_id)
    if lease is None:
        state = store.job(job_id).state
        hint = "" if state.over else "; another runner holds it (one that died lets go within half a minute)"
        raise WrongState(f"job {job_id} is {state}{hint}")
    return lease


def document_of(
    document: str | Path | Mapping[str, Any] | None,
    space: Space | str | Path | Mapping[str, Any] | None,
    evaluator: object,
    searcher: object,
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """The document with overrides in place; objects are written down by the names of what they are.

    Raises:
        SpecError: for a file that is not there or cannot be read. Nothing else is looked at.
    """
    whole = read_spec(document) if isinstance(document, str | Path) else dict(document or {})
    budget = {k: v for k, v in overrides.items() if k in _BUDGET and v is not None}
    whole |= {k: v for k, v in overrides.items() if k not in _BUDGET and v is not None}
    if budget:
        whole["budget"] = {**whole.get("budget", {}), **budget}
    if space is not None:
        whole["space"] = _space_document(space)
    if isinstance(evaluator, str | Mapping):
        whole["evaluator"] = evaluator
    elif _is_object(evaluator):
        whole["evaluator"] = {"kind": "callable", "function": reference(evaluator)}  # type: ignore[arg-type]
    if isinstance(searcher, str | Mapping):
        whole["searcher"] = searcher
    return whole


def read_spec(path: str | Path) -> dict[str, Any]:
    """A document from a file; a space named in it may be a file too, beside it."""
    file = Path(path)
    if not file.is_file():
        raise SpecError.at("", f"{str(path)!r} is not a file")
    document = read_document(file)
    named = document.get("space")
    if isinstance(named, str) and (file.parent / named).is_file():
        document["space"] = {"name": Path(named).stem, **read_document(file.parent / named)}
    return document


def _space_document(space: Space | str | Path | Mapping[str, Any]) -> Any:
    if isinstance(space, Space):
        declared = getattr(space, "document", None)
        if declared is None:
            return space_reference(space).model_dump()
        return {**declared.model_dump(mode="json", exclude_none=True), "name": space.name}
    if isinstance(space, str | Path) and Path(space).is_file():
        return {"name": Path(space).stem, **read_document(Path(space))}
    return space


def study_of(spec: JobSpec, space: object = None, evaluator: object = None, searcher: object = None) -> Study:
    """The objects of a search: those given as objects as they are, the others from the document.

    Raises:
        SpecError: where the parts of the document do not fit together.
    """
    used = check(
        spec,
        space=space if isinstance(space, Space) else None,
        evaluator_given=_is_object(evaluator),
    )
    if not _is_object(evaluator):
        measuring: Any = spec.evaluator.bind(used, spec.seed)
    else:
        measuring = evaluator if hasattr(evaluator, "evaluate") else CallableEvaluator(evaluator)  # type: ignore[arg-type]
    asking: Any = searcher
    if not _is_object(searcher):
        asking = spec.searcher.build_for(spec.evaluator, used, spec.problem, spec.seed)
    return Study(spec=spec, space=used, searcher=asking, evaluator=measuring)


def _is_object(given: object) -> bool:
    """Whether it is the thing itself, and not its name or settings."""
    return given is not None and not isinstance(given, str | Mapping)
