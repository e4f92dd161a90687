"""Predictors for clients, with the real process that fits them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psutil
import pytest

import predictors
from nas.fit_line import Busy
from nas.fitted import FitState, FittedPredictor
from nas.fitting import lesson_of
from nas.fitting_process import FittingFault, FittingProcess, NotLearnt
from nas.fitting_server import Bench
from nas.job import JobSpec, WrongState
from nas.predictor_desk import PredictorDesk, Unavailable
from nas.predictor_documents import Candidates, PredictorSpec
from nas.storage.memory import MemoryStore
from nas.trial import Broken, BrokenKind, Measured, Proposal
from search_spaces import SpecError
from search_spaces.load import space_of

SPEC = JobSpec.parse(
    {
        "space": "nas-bench-201",
        "objectives": ["max accuracy", "min latency_ms_raspi4"],
        "constraints": ["params <= 1e6"],
        "searcher": "random",
        "evaluator": {"kind": "tabular", "table": "nas-bench-201"},
    }
)
SPACE = space_of(SPEC.space)
ASKED = [dict(a) for a in SPACE.sample(20, 99)]
MEASURED = 40


def measured_job(store: MemoryStore, count: int) -> str:
    """A job of which so many trials were measured, and one was found infeasible after every ten."""
    job_id = store.submit(SPEC).id
    lease, evaluator = store.claim(job_id), SPEC.evaluator.bind(SPACE, 0)
    assert lease is not None
    for n, architecture in enumerate(SPACE.sample(count, 1)):
        proposal = Proposal(architecture)
        values = {**SPACE.cost(architecture), **evaluator.evaluate(proposal, lambda step, metrics: None)}
        lease.close([(lease.open([proposal])[0].number, Measured(values))])
        if n % 10 == 9:
            broken = Broken(BrokenKind.INFEASIBLE, "no path")
            lease.close([(lease.open([proposal])[0].number, broken)])
    return job_id


def until(ready: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for something true; bounded, so that a test fails instead of hanging."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def kill(process: FittingProcess) -> None:
    pid = until(lambda: process.pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: process.pid != pid)


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(scope="module")
def job_id(store: MemoryStore) -> str:
    return measured_job(store, MEASURED)


@pytest.fixture
def new_desk(store: MemoryStore) -> Iterator[Callable[..., PredictorDesk]]:
    made: list[PredictorDesk] = []

    def make(**settings: Any) -> PredictorDesk:
        made.append(PredictorDesk(store, **settings))
        return made[-1]

    yield make
    for desk in made:
        desk.close()


@pytest.fixture(scope="module")
def desk(store: MemoryStore) -> Iterator[PredictorDesk]:
    made = PredictorDesk(store, wait_seconds=90, answer_seconds=30)
    yield made
    made.close()


@pytest.fixture(scope="module")
def ready(store: MemoryStore, job_id: str, desk: PredictorDesk) -> FittedPredictor:
    return settled(store, begun(store, desk, job_id))


def begun(store: MemoryStore, desk: PredictorDesk, job_id: str, **spec: Any) -> FittedPredictor:
    return desk.fit(store.job(job_id), PredictorSpec.parse({"job": job_id, **spec}))


def settled(store: MemoryStore, predictor: FittedPredictor) -> FittedPredictor:
    def ended() -> FittedPredictor | None:
        seen = store.shelf.predictor(predictor.id)
        return None if seen.state is FitState.FITTING else seen

    return until(ended)


def ask(desk: PredictorDesk, predictor: FittedPredictor) -> predictors.Prediction:
    return desk.predict(predictor, Candidates.parse({"architectures": ASKED}))


def test_a_predictor_is_what_the_library_fits_on_the_measured_trials(store, desk, job_id, ready):
    assert (ready.state, ready.reason) == (FitState.READY, None)
    assert ready.metrics == ("accuracy", "latency_ms_raspi4")  # params is given by a formula
    assert ready.trials == MEASURED + MEASURED // 10
    trials = [t for t in store.trials(job_id) if t.measured]
    targets = np.array([[t.metrics[m] for m in ready.metrics] for t in trials])
    model = predictors.auto(SPACE).fit([t.architecture for t in trials], targets)
    known, found = model.predict([SPACE.architecture(a) for a in ASKED]), ask(desk, ready)
    np.testing.assert_allclose(found.mean, known.mean, rtol=1e-6)
    np.testing.assert_allclose(found.std, known.std, rtol=1e-4)


def test_its_quality_is_that_of_held_out_trials(ready):
    rows = ready.quality["predictor_quality"]
    assert [(r["metric"], r["judged_on"]) for r in rows] == [(m, "held_out") for m in ready.metrics]
    for row in rows:
        assert row["trials"] == MEASURED
        assert 10 <= row["count"] <= MEASURED
        assert -1 <= row["kendall"]["low"] <= row["kendall"]["value"] <= row["kendall"]["high"] <= 1
        assert row["spearman"]["value"] > 0.3  # there is much to learn in this table


def test_killed_between_and_within_fits_the_process_comes_back(store, desk, job_id, ready):
    before = ask(desk, ready)
    kill(desk.process)
    np.testing.assert_array_equal(ask(desk, ready).mean, before.mean)
    kill(desk.process)
    again = begun(store, desk, job_id)
    kill(desk.process)  # it had just begun
    assert settled(store, again).state is FitState.READY
    np.testing.assert_array_equal(ask(desk, again_ready := settled(store, again)).mean, before.mean)
    assert again_ready.quality == ready.quality


def test_a_process_that_stands_still_is_replaced(store, job_id, ready, new_desk):
    desk = new_desk(wait_seconds=90, answer_seconds=2.0)
    until(lambda: _answers(desk, ready))
    os.kill(desk.process.pid, signal.SIGSTOP)
    with pytest.raises(Unavailable):
        ask(desk, ready)
    assert until(lambda: _answers(desk, ready))


def _answers(desk: PredictorDesk, predictor: FittedPredictor) -> bool:
    try:
        ask(desk, predictor)
    except Unavailable:
        return False
    return True


def test_a_process_that_dies_again_and_again_fails_the_predictor(store, job_id, new_desk):
    desk = new_desk()
    predictor = begun(store, desk, job_id)
    kill(desk.process)
    kill(desk.process)
    end = settled(store, predictor)
    assert end.state is FitState.FAILED
    assert "died 2 times" in end.reason


def test_a_fit_that_takes_too_long_is_given_up(store, job_id, new_desk):
    end = settled(store, begun(store, new_desk(fit_seconds=0.01), job_id))
    assert (end.state, end.reason) == (FitState.FAILED, "the fit took longer than 0.01 seconds")


def test_too_few_measured_trials_fail_it_with_the_reason(store, desk):
    few = measured_job(store, 9)
    end = settled(store, begun(store, desk, few))
    assert end.state is FitState.FAILED
    assert "9 of the first 9" in end.reason
    assert "at least 10" in end.reason
    with pytest.raises(WrongState, match="FAILED"):
        ask(desk, end)
    none = settled(store, begun(store, desk, store.submit(SPEC).id))
    assert "too few measured trials: 0" in none.reason


def test_what_a_dead_process_left_fitting_is_fitted_by_whoever_looks(store, desk, job_id, ready):
    left = store.shelf.add(job_id, ready.metrics, ready.trials)
    with pytest.raises(WrongState, match="FITTING"):
        ask(desk, left)
    assert desk.look(left) == left
    assert settled(store, left).quality == ready.quality


def test_a_closed_desk_leaves_a_fit_to_the_next(store, job_id, new_desk, desk):
    first = new_desk()
    predictor = begun(store, first, job_id)
    until(lambda: first.process.pid)
    first.close()
    assert store.shelf.predictor(predictor.id).state is FitState.FITTING
    desk.look(predictor)
    assert settled(store, predictor).state is FitState.READY


def test_the_line_of_fits_is_bounded(store, job_id, new_desk):
    desk = new_desk(most_waiting=2)
    waiting = [begun(store, desk, job_id, trials=n) for n in (20, 30)]
    before = store.shelf.of_job(job_id)
    with pytest.raises(Busy):
        begun(store, desk, job_id)
    assert store.shelf.of_job(job_id) == before  # nothing was written
    assert {settled(store, p).state for p in waiting} == {FitState.READY}


def test_deleting_a_job_or_a_predictor_within_a_fit_harms_nobody(store, desk, job_id, ready):
    other = measured_job(store, 12)
    gone = begun(store, desk, other)
    store.request(other, "cancel")
    removed = begun(store, desk, job_id)
    store.shelf.remove(removed.id)
    last = begun(store, desk, job_id)
    assert settled(store, last).state is FitState.READY
    assert gone.id != last.id


def test_metrics_and_trials_that_are_not_there_are_refused(store, desk, job_id):
    with pytest.raises(SpecError) as found:
        begun(store, desk, job_id, metrics=["accuracy", "acuracy"], trials=1000)
    faults = {f.path: f.message for f in found.value.faults}
    assert set(faults) == {"metrics.1", "trials"}
    assert 'did you mean "accuracy"?' in faults["metrics.1"]
    assert str(MEASURED + MEASURED // 10) in faults["trials"]


def test_a_lesson_holds_the_first_trials_and_no_others(store, job_id):
    first = store.shelf.add(job_id, ["accuracy"], 15)
    lesson = lesson_of(store, first)
    trials = [t for t in store.finished(job_id)[:15] if t.measured]
    np.testing.assert_array_equal(lesson.values[:, 0], [t.metrics["accuracy"] for t in trials])
    np.testing.assert_array_equal(lesson.genes, SPACE.genes([t.architecture for t in trials]))


def test_very_large_values_are_predicted_as_finite_numbers(store, job_id):
    lesson = lesson_of(store, store.shelf.add(job_id, ["accuracy"], 30))
    huge = lesson.__class__(lesson.space, lesson.goals, lesson.genes, lesson.values * 1.7e308)
    found = huge.learn().predict(lesson.genes)
    assert np.isfinite(found.mean).all()
    assert np.isfinite(found.std).all()
    np.testing.assert_allclose(found.mean / 1.7e308, lesson.learn().predict(lesson.genes).mean, rtol=0.05)


def test_an_idle_process_ends_and_the_next_question_starts_another(store, job_id):
    process = FittingProcess(idle_seconds=0.2)
    lesson = lesson_of(store, store.shelf.add(job_id, ["accuracy"], 15))
    for _ in range(2):
        process.fit("kept", lesson, 60)
        until(lambda: process.pid is None)
        with pytest.raises(NotLearnt):
            process.predict("kept", lesson.genes, 60)
    process.close()


def test_a_bug_is_told_as_such_and_the_process_lives_on(store, job_id):
    process = FittingProcess()
    with pytest.raises(FittingFault, match="NoneType"):
        process.fit("broken", None, 60)
    pid = process.pid
    lesson = lesson_of(store, store.shelf.add(job_id, ["accuracy"], 15))
    process.fit("sound", lesson, 60)
    assert len(process.predict("sound", lesson.genes, 60).mean) == len(lesson.genes)
    assert process.pid == pid
    process.close()


def test_what_was_fitted_last_is_kept_and_the_rest_forgotten(store, job_id):
    bench, lesson = Bench(kept=2), lesson_of(store, store.shelf.add(job_id, ["accuracy"], 15))
    for name in "abc":
        bench.fit(name, lesson)
        if name != "c":
            bench.predict("a", lesson.genes)
    with pytest.raises(NotLearnt):
        bench.predict("b", lesson.genes)
    for name in "ac":
        assert np.isfinite(bench.predict(name, lesson.genes).mean).all()


def test_it_dies_with_the_process_that_asks_even_within_a_fit():
    code = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import test_predictor_desk as t
store = t.MemoryStore()
desk = t.PredictorDesk(store)
t.begun(store, desk, t.measured_job(store, 400))
t.until(lambda: desk.process.pid)
print(desk.process.pid, flush=True)
time.sleep(60)
"""
    here = os.path.dirname(__file__)  # noqa: PTH120
    with subprocess.Popen([sys.executable, "-c", code, here], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
