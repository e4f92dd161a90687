"""A job that begins with what others have learnt: taken over where they measure alike, else measured anew."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_bad_input import SEARCHERS

import nas
from nas.evaluators.callable import CallableConfig
from nas.evaluators.infeasible import Infeasible
from nas.evaluators.tabular import TabularConfig, TabularEvaluator
from nas.executors.simulated import END, START
from nas.job import Job, JobSpec, JobState
from nas.local import result_of, study_of, submit
from nas.pareto import ParetoFront
from nas.result import SearchResult
from nas.runner import run
from nas.storage import open_store
from nas.storage.memory import MemoryStore
from nas.trial import Broken, BrokenKind, Measured, Origin, Proposal, Trial, TrialState
from nas.warm_start import MAX_BEST, Source, first_trials
from search_spaces import Architecture, load_space

SPACE = load_space("nas-bench-201")
CHEAP: dict[str, dict[str, Any]] = {
    "linas": {"predictor": "ridge", "evaluations": 500},
    "nars": {"predictor": "ridge", "evaluations": 500, "pool": 200},
}


def evaluate(architecture: Architecture) -> dict[str, float]:
    values = list(architecture.values())
    if values.count("none") >= 4:
        raise Infeasible("nothing left of it")
    return {
        "accuracy": 0.5 + int(architecture.key[:4], 16) / 1e6,
        "latency_ms": 1.0 + values.count("nor_conv_3x3"),
    }


def again(architecture: Architecture) -> dict[str, float]:
    return {name: value / 2 for name, value in evaluate(architecture).items()}


def search(trials: int = 20, **more: Any) -> SearchResult:
    wanted = {"objectives": ["max accuracy", "min latency_ms"], "searcher": "random", "evaluator": evaluate}
    return nas.search(**{"space": SPACE, **wanted, "executor": "inline", "max_trial_count": trials, **more})


def faults(ask: Callable[[], object]) -> dict[str, str]:
    with pytest.raises(nas.SpecError) as caught:
        ask()
    return {f.path: f.message for f in caught.value.faults}


def facts(trials: Sequence[Trial]) -> list[Any]:
    return [(t.number, t.architecture.key, t.state, dict(t.metrics), t.order, t.attempt, t.origin) for t in trials]


@pytest.fixture(scope="module")
def source() -> SearchResult:
    return search(40, seed=5)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    opened = open_store(None if request.param == "memory" else f"sqlite:///{tmp_path}/nas.db", lease_seconds=0.0)
    yield opened
    opened.close()


# Taken over


@pytest.mark.law
@pytest.mark.parametrize("searcher", [s | CHEAP.get(s["kind"], {}) for s in SEARCHERS], ids=lambda s: s["kind"])
def test_what_was_measured_alike_is_taken_over_and_never_measured_again(
    source: SearchResult, searcher: Any
) -> None:
    known = dict(source.front.trials[0].architecture)
    warm = search(5, searcher=searcher, warm_start=[source], initial=[known, {"edge_0_1": "skip_connect"}])
    taken, own = warm.all_trials[:40], warm.all_trials[40:]
    assert [t.metrics for t in taken] == [t.metrics for t in source.all_trials]
    assert [t.reason for t in taken] == [t.reason for t in source.all_trials]
    assert [(t.number, t.order) for t in taken] == [(n, n) for n in range(40)]
    assert [t.origin for t in taken] == [Origin(source.job.id, n) for n in range(40)]
    assert all(t.taken_over for t in taken)
    assert {t.state for t in taken} == {TrialState.SUCCEEDED, TrialState.INFEASIBLE}
    assert len(own) == 5
    assert not any(t.taken_over or t.origin for t in own)
    assert len({t.architecture.key for t in warm.all_trials}) == 45
    assert own[1].architecture["edge_0_1"] == "skip_connect"  # the first was known, so the searcher had its place


def test_a_new_problem_judges_what_was_taken_over(source: SearchResult) -> None:
    wanted = {"objectives": ["min latency_ms"], "constraints": ["params <= 5e5", "accuracy >= 0.52"]}
    warm = search(1, warm_start=[source], **wanted)
    problem = warm.job.spec.problem
    measured = [t for t in warm.all_trials[:40] if t.measured]
    assert [t.feasible for t in measured] == [problem.violation(t.metrics) == 0 for t in measured]
    assert {t.feasible for t in measured} == {True, False}
    assert warm.front == ParetoFront.of(warm.all_trials, problem)


@pytest.mark.law
def test_same_seed_and_same_sources_same_trials(source: SearchResult) -> None:
    first, second = (search(6, searcher="nsga2", warm_start=[source], seed=3) for _ in range(2))
    assert facts(first.all_trials) == facts(second.all_trials)


def test_trials_that_were_taken_over_keep_their_origin(source: SearchResult) -> None:
    second = search(3, warm_start=[source], seed=1)
    third = search(3, warm_start=[second, source], seed=2)
    assert [str(t.origin) for t in third.all_trials[39:43]] == [
        f"job {source.job.id}, trial 39",
        *(f"job {second.job.id}, trial {n}" for n in (40, 41, 42)),
    ]
    assert len(third.all_trials) == 46


def test_a_space_that_is_known_as_a_whole_ends_the_search_at_once() -> None:
    small = {"family": "cell", "input": [3, 8, 8], "classes": 2}
    small["architecture"] = {"nodes": 2, "operations": ["none", "skip_connect", "nor_conv_1x1"]}
    whole = search(9, space=small)
    warm = search(9, space=small, warm_start=[whole])
    assert (warm.state, len(warm.all_trials)) == (JobState.SUCCEEDED, 3)
    assert warm.job.reason == "nothing new is left to propose after 3 trials"


def test_a_search_whose_own_trials_all_fail_has_failed(source: SearchResult) -> None:
    store, broken = MemoryStore(), {"kind": "callable", "function": "test_warm_start:evaluate"}
    document = {**source.job.spec.dump(), "budget": {"max_trial_count": 3}, "evaluator": broken}
    spec = JobSpec.parse({**document, "warm_start": [source.job.id]})
    study = study_of(spec, evaluator=lambda architecture: 1 / 0)
    job_id = submit(store, study, [source])
    ending = run(store.claim(job_id), "inline", study=study)  # type: ignore[arg-type]
    assert ending.state is JobState.FAILED
    assert str(ending.reason).startswith("no trial was measured; the last failure, trial 42: ZeroDivisionError")


def test_a_simulated_clock_begins_at_zero() -> None:
    wanted = {"evaluator": slow, "objectives": ["max accuracy"], "executor": "simulated"}
    first = search(5, **wanted)
    warm = search(2, warm_start=[first], seed=1, **wanted)
    assert not any({START, END} & set(t.metrics) for t in warm.all_trials[:5])
    assert [t.metrics[END] for t in warm.all_trials[5:]] == [9.0, 18.0]


def slow(architecture: Architecture) -> dict[str, float]:
    return {"accuracy": 0.5, "train_seconds": 9.0}


# Measured anew


@pytest.mark.parametrize(
    "change",
    [
        {"evaluator": again},
        {"repeats": 2},
        {"max_trial_duration": 60.0},
        {"space": {**SPACE.document.model_dump(), "input": [3, 64, 64]}},  # type: ignore[attr-defined]
    ],
    ids=["evaluator", "repeats", "time", "input"],
)
def test_of_what_was_measured_otherwise_the_best_networks_come_first(source: SearchResult, change: Any) -> None:
    warm = search(12, warm_start=[source], initial=[{"edge_*": "skip_connect"}], **change)
    best = {dict(t.architecture).__repr__() for t in source.front.trials}
    first = warm.all_trials[:MAX_BEST]
    assert len(best) <= MAX_BEST
    assert best <= {dict(t.architecture).__repr__() for t in first}
    assert all(t.origin is not None and t.origin.job == source.job.id and t.attempt == 1 for t in first)
    assert all(t.origin is None for t in warm.all_trials[MAX_BEST:])
    assert set(warm.all_trials[MAX_BEST].architecture.values()) == {"skip_connect"}
    assert len(warm.all_trials) == 12  # they are part of the budget
    if change.get("evaluator") is again:
        assert [t.metrics["accuracy"] for t in first] == [again(t.architecture)["accuracy"] for t in first]


class Scaled:
    """An evaluator whose class and methods do not tell how it measures."""

    scale = 2.0

    def evaluate(self, proposal: Proposal, report: object) -> dict[str, float]:
        return self.measure(proposal.architecture)

    def measure(self, architecture: Architecture) -> dict[str, float]:
        return {name: value / self.scale for name, value in evaluate(architecture).items()}


@pytest.mark.parametrize("evaluator", [lambda a: evaluate(a), Scaled(), Scaled().measure])
def test_a_name_that_does_not_tell_what_is_measured_is_not_trusted(evaluator: Any) -> None:
    first = search(9, evaluator=evaluator)
    warm = search(2, evaluator=evaluator, warm_start=[first])
    assert [(t.taken_over, t.origin is None) for t in warm.all_trials] == [(False, False)] * 2


def test_a_budget_of_fewer_trials_takes_the_best_of_them(source: SearchResult) -> None:
    warm = search(3, evaluator=again, warm_start=[source], objectives=["min latency_ms"])
    assert [t.state for t in warm.all_trials] == [TrialState.SUCCEEDED] * 3
    latencies = sorted(t.metrics["latency_ms"] for t in source.all_trials if t.measured)
    assert [2 * t.metrics["latency_ms"] for t in warm.all_trials] == latencies[:3]


def test_both_at_once_and_no_network_twice(source: SearchResult) -> None:
    other = search(40, evaluator=again, seed=5)  # the same networks, and
    other_too = search(10, evaluator=again, seed=6)  # a few others
    warm = search(10, warm_start=[other, source, other_too])
    assert [t.taken_over for t in warm.all_trials] == [True] * 40 + [False] * 10
    assert {t.origin.job for t in warm.all_trials[40:] if t.origin} == {other_too.job.id}
    assert len({t.architecture.key for t in warm.all_trials}) == 50


# Laws


OUTCOMES = st.one_of(
    st.builds(lambda a, b: Measured({"accuracy": a, "latency_ms": b}), *[st.integers(0, 5).map(float)] * 2),
    st.builds(Measured, st.just({"accuracy": 1.0})),
    st.builds(Broken, st.sampled_from(BrokenKind), st.just("because")),
)


def job(trials: Sequence[tuple[int, Any]], name: str, function: str) -> Source:
    """A job with these trials: a seed that draws the network, and an outcome; None: it still runs."""
    document = {"space": "nas-bench-201", "objectives": ["max accuracy"], "evaluator": {"kind": "callable"}}
    document["evaluator"] |= {"function": f"test_warm_start:{function}"}  # type: ignore[operator]
    spec = JobSpec.parse(document)
    made = [Trial(n, Proposal(SPACE.sample(1, seed)[0])) for n, (seed, _) in enumerate(trials)]
    ends = [o for _, o in trials]
    closed = [t if o is None else t.close(o, spec.problem, t.number, 1.0) for t, o in zip(made, ends, strict=True)]
    return Source(Job(name, spec, JobState.RUNNING), closed)


@pytest.mark.law
@given(
    jobs=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 20), st.none() | OUTCOMES), max_size=30),
            st.sampled_from(["evaluate", "again"]),
        ),
        max_size=3,
    ),
    budget=st.integers(1, 12),
)
@settings(max_examples=50)
def test_whatever_the_sources_hold_each_network_comes_once_and_the_best_first(jobs: Any, budget: int) -> None:
    first = (0, Measured({"accuracy": 1.0, "latency_ms": 1.0}))
    sources = [job([first, *trials], f"job{i}", function) for i, (trials, function) in enumerate(jobs)]
    document = {**job([], "new", "evaluate").job.spec.dump(), "objectives": ["max accuracy", "min latency_ms"]}
    document |= {"budget": {"max_trial_count": budget}, "warm_start": [s.job.id for s in sources]}
    spec = JobSpec.parse(document)
    begun = first_trials(MemoryStore(), spec, SPACE, sources)
    taken = [t for t in begun if t.taken_over]
    waiting = begun[len(taken) :]
    assert [t.number for t in begun] == list(range(len(begun)))
    assert [t.order for t in taken] == list(range(len(taken)))
    assert len({t.architecture.key for t in begun}) == len(begun)
    assert {t.state for t in waiting} <= {TrialState.PENDING}
    assert len(waiting) <= budget
    by_job = {s.job.id: s.trials for s in sources}
    for trial in begun:
        assert trial.origin is not None
        there = by_job[trial.origin.job][trial.origin.number]
        assert there.architecture == trial.architecture
        assert there.state in (TrialState.SUCCEEDED, TrialState.INFEASIBLE)
        if trial.measured:
            assert trial.metrics == there.metrics
            assert trial.feasible
    told = {t.architecture.key for t in taken}
    for source, (_, function) in zip(sources, jobs, strict=True):
        keys = {
            t.architecture.key for t in source.trials if t.state in (TrialState.SUCCEEDED, TrialState.INFEASIBLE)
        }
        if function == "evaluate":
            assert keys <= told


@pytest.mark.law
@pytest.mark.parametrize("evaluator", [evaluate, again])
def test_a_killed_search_goes_on_and_its_sources_are_no_longer_needed(
    source: SearchResult, store: Any, evaluator: Any
) -> None:
    class Killed(BaseException):
        """Nothing may catch it, nothing is cleaned up."""

    def dying(after: int) -> Callable[[Sequence[Trial]], None]:
        left = iter(range(after))

        def observe(trials: Sequence[Trial]) -> None:
            if next(left, None) is None:
                raise Killed

        return observe

    wanted: dict[str, Any] = {
        "evaluator": evaluator,
        "searcher": {"kind": "regularized_evolution", "population": 8},
    }
    wanted["initial"] = [dict(source.all_trials[3].architecture), {"edge_0_1": "none"}]
    calm = search(14, warm_start=[source], **wanted)
    study = study_of(calm.job.spec, evaluator=evaluator)
    job_id = submit(store, study, [source])  # which this store does not have
    for after in (0, 1, 4, 9):
        with pytest.raises(Killed):
            run(
                store.claim(job_id),
                "inline",
                study=study_of(calm.job.spec, evaluator=evaluator),
                observe=dying(after),
            )
    run(store.claim(job_id), "inline", study=study_of(calm.job.spec, evaluator=evaluator))
    lived = result_of(store, study, job_id)

    def without_attempts(trials: Sequence[Trial]) -> list[Any]:
        return [(*row[:5], row[6]) for row in facts(trials)]

    assert without_attempts(lived.all_trials) == without_attempts(calm.all_trials)


def test_a_source_that_is_deleted_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nas.db"
    first = search(5, store=url)
    warm = search(2, store=url, warm_start=[first.job.id], seed=1)
    store = open_store(url)
    store.delete(first.job.id)
    assert store.trials(warm.job.id) == list(warm.all_trials)
    assert store.job(warm.job.id).spec.warm_start == (first.job.id,)
    store.close()


# What does not fit


def test_a_job_that_does_not_fit_is_refused_by_its_place(source: SearchResult) -> None:
    other = {**SPACE.document.model_dump(), "architecture": {"operations": ["none", "nor_conv_3x3"]}}  # type: ignore[attr-defined]
    narrow = search(3, space=other)
    elsewhere = search(3, space="digits-tiny", evaluator="cost", objectives=["min params"])
    store = MemoryStore()
    empty = store.submit(source.job.spec).id
    found = faults(lambda: search(3, warm_start=[narrow, source, "0123", elsewhere, empty], store=store))
    assert set(found) == {f"warm_start.{i}" for i in (0, 2, 3, 4)}
    assert found["warm_start.0"].startswith(
        f"job {narrow.job.id}: its choice edge_0_1 has the values none, nor_conv_3x3"
    )
    assert found["warm_start.0"].endswith(
        "; allowed: none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3"
    )
    assert found["warm_start.2"] == "job 0123: there is no such job"
    assert "its space has no choice edge_0_1, and nas-bench-201 has one" in found["warm_start.3"]
    assert found["warm_start.4"] == f"job {empty}: it has measured no network yet"
    assert [j.id for j in store.jobs()] == [empty]


def test_a_job_must_have_measured_what_is_wanted(source: SearchResult) -> None:
    wanted = {"constraints": ["joules <= 5"], "objectives": ["max speed", "min params"]}
    for evaluator in (evaluate, again):
        found = faults(lambda e=evaluator: search(3, evaluator=e, warm_start=[source], **wanted))  # type: ignore[misc]
        assert set(found) == {"warm_start.0"}
        assert "did not measure speed, joules; it measured params, macs" in found["warm_start.0"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("0123", "is a single job; a list of jobs is needed"),
        (["01:23"], "string should match pattern"),
        (["0123", "0123"], "0123 stands twice; allowed: each job once"),
        ([f"0{n}" for n in range(17)], "should have at most 16 items"),
    ],
)
def test_jobs_are_named_in_a_list_of_ids(given: Any, message: str) -> None:
    (told,) = faults(lambda: search(3, warm_start=given)).values()
    assert message in told


def test_a_job_that_is_resumed_has_begun_already(source: SearchResult) -> None:
    found = faults(lambda: nas.search(store=MemoryStore(), resume="a", warm_start=[source]))
    assert found == {"resume": "takes a job of `store`, with the document that it began with"}


# What it is for


@cache
def table() -> TabularEvaluator:
    return TabularConfig(table="nas-bench-201").bind(SPACE, 0)


def trained(architecture: Architecture) -> dict[str, float]:
    found = table().evaluate(Proposal(architecture), lambda step, metrics: None)
    return {"accuracy": found["accuracy"], "latency_ms": found["latency_ms_raspi4"]}


def trained_for_less(architecture: Architecture) -> dict[str, float]:
    found = table().evaluate(Proposal(architecture), lambda step, metrics: None)
    return {"accuracy": found["accuracy_12ep"], "latency_ms": found["latency_ms_pixel3"]}


@pytest.mark.parametrize("there", [trained, trained_for_less])
def test_it_helps_on_a_real_table(there: Any) -> None:
    wanted = {"searcher": "nsga2", "seed": 1}
    learnt = search(60, evaluator=there, **wanted)
    cold = search(20, evaluator=trained, **wanted)
    warm = search(20, evaluator=trained, warm_start=[learnt], **wanted)
    assert sum(not t.taken_over for t in warm.all_trials) == 20
    assert warm.hypervolume([0.5, 60.0]) > 1.05 * cold.hypervolume([0.5, 60.0])


def test_a_function_of_a_script_is_another_in_every_script() -> None:
    of_a_script = CallableConfig(function="__main__:evaluate")
    assert not of_a_script.measures_like(of_a_script)
