"""The Python face, as the README shows it."""

import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import nas
from nas.job import JobState
from search_spaces import Architecture, BuildError, Choice, Space, SpecError

DIGITS: dict[str, Any] = {
    "space": "digits-tiny",
    "objectives": ["max accuracy", "min model_size_bytes"],
    "evaluator": {"kind": "training", "dataset": "digits", "epochs": 1},
    "searcher": "random",
}


def evaluate(architecture: Architecture) -> dict[str, float]:
    convolutions = sum(str(op).startswith("nor_conv") for op in architecture.values())
    return {"accuracy": 0.5 + 0.07 * convolutions, "latency_ms": 1.0 + 0.8 * convolutions}


def test_the_public_names_are_there() -> None:
    for name in nas.__all__:
        assert getattr(nas, name) is not None
    assert sorted(nas.__all__) == dir(nas)
    with pytest.raises(AttributeError, match="serach"):
        _ = nas.serach


def test_a_search_with_a_callable_on_nas_bench_201() -> None:
    space = nas.load_space("nas-bench-201")
    result = nas.search(
        space=space,
        objectives=["max accuracy", "min latency_ms"],
        constraints=["params <= 1e6"],
        searcher="predictor_guided",
        evaluator=evaluate,
        max_trial_count=40,
        parallel_trial_count=1,
        seed=0,
        executor="inline",
        store=None,
    )
    assert result.state is JobState.SUCCEEDED
    assert len(result.trials) == 40
    assert isinstance(result.trials, pd.DataFrame)
    assert isinstance(result.trials["architecture"][0], dict)
    assert (result.pareto_front["params"] <= 1e6).all()
    assert result.pareto_front["accuracy"].is_monotonic_decreasing
    assert result.best("accuracy")["accuracy"] == result.pareto_front["accuracy"].iloc[0]
    assert result.pick("max accuracy", "latency_ms <= 3")["latency_ms"] <= 3
    assert result.hypervolume([0.0, 10.0]) > 0
    with pytest.raises(ValueError, match=r"latency_ms <= 0\.1"):
        result.pick("max accuracy", "latency_ms <= 0.1")


def test_a_reference_network_is_measured_once() -> None:
    result = nas.search(
        space="mobilenetv2", objectives=["min params"], evaluator="cost", executor="inline", max_trial_count=2
    )
    assert len(result.all_trials) == 2  # the preset: there is something to choose
    result = nas.search(
        space="mobilenetv3-small",
        objectives=["min params"],
        evaluator="cost",
        executor="inline",
        max_trial_count=5,
    )
    assert (len(result.all_trials), result.best("params")["params"]) == (1, 2_542_856)


def test_same_seed_same_trials_and_another_seed_others() -> None:
    def trials(seed: int) -> list[Any]:
        result = nas.search(DIGITS, max_trial_count=4, seed=seed, executor="inline")
        return [(t.architecture.key, t.metrics["accuracy"], t.metrics["loss"]) for t in result.all_trials]

    first = trials(3)
    assert first == trials(3)
    assert [key for key, *_ in first] != [key for key, *_ in trials(4)]


def test_ray_and_inline_measure_the_same() -> None:
    def metrics(executor: Any) -> list[Any]:
        result = nas.search(DIGITS, max_trial_count=3, executor=executor)
        return [(t.number, t.metrics["accuracy"]) for t in result.all_trials]

    assert metrics("ray") == metrics("inline")


def test_test_data_are_measured_at_the_end_and_only_when_asked(tmp_path: Path) -> None:
    result = nas.search(DIGITS, max_trial_count=3, executor="inline")
    assert "test_accuracy" not in result.trials
    tested = result.test(executor="inline")
    assert set(tested.tested) == set(result.pareto_front["number"])
    assert tested.pareto_front["test_accuracy"].between(0, 1).all()
    written = tested.report(tmp_path / "deep" / "report.html").read_text()
    assert "Pareto front" in written
    assert "plotly" in written
    assert "test_accuracy" in written


def test_a_database_keeps_a_job_that_can_be_resumed(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/nas.db"
    document = {**DIGITS, "evaluator": {"kind": "callable", "function": "test_local:evaluate"}}
    stopping = {"after": 5}

    def stop(arch: Architecture) -> dict[str, float]:
        stopping["after"] -= 1
        if stopping["after"] < 0:
            raise KeyboardInterrupt
        return {"accuracy": int(arch.key[:6], 16) / 16**6}

    first = nas.search(document, evaluator=stop, max_trial_count=12, executor="inline", store=store)
    assert first.state is JobState.PAUSED
    assert sum(t.measured for t in first.all_trials) == 5
    stopping["after"] = 100
    second = nas.search(evaluator=stop, executor="inline", store=store, resume=first.job.id)
    assert second.state is JobState.SUCCEEDED
    assert second.all_trials[:5] == first.all_trials[:5]
    assert len(second.all_trials) == 12


def test_a_failing_evaluator_fails_the_search_and_keeps_what_there_is() -> None:
    def broken(arch: Architecture) -> dict[str, float]:
        return {"acuracy": 0.5}

    with pytest.raises(nas.SearchFailed, match="gave no accuracy; it gave") as caught:
        nas.search(DIGITS, evaluator=broken, max_trial_count=30, executor="inline")
    assert len(caught.value.result.all_trials) == 10


class Threshold(Space):
    """A space of one's own, in a few lines."""

    name = "threshold"
    choices = (Choice("a", (0, 1, 2, 3)), Choice("b", ("x", "y")))

    def build(self, arch: Architecture) -> Any:
        raise BuildError("there is nothing to build")


def test_a_space_of_ones_own(tmp_path: Path) -> None:
    def score(arch: Architecture) -> dict[str, float]:
        return {"score": float(arch["a"]) + (arch["b"] == "y")}  # type: ignore[arg-type]

    for store in (None, f"sqlite:///{tmp_path}/nas.db"):
        result = nas.search(
            space=Threshold(), objectives=["max score"], evaluator=score, executor="inline", store=store
        )
        assert result.best("score")["architecture"] == {"a": 3, "b": "y"}
        assert len(result.trials) == 8  # the space is exhausted long before the budget


def test_wrong_documents_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    store = nas.local.open_store(f"sqlite:///{tmp_path}/nas.db")
    with pytest.raises(nas.SpecError, match="objectives"):
        nas.search(DIGITS, objectives=["max speed"], store=store)
    with pytest.raises(nas.SpecError, match=r"constraints\.0"):
        nas.search(DIGITS, constraints=["params <= 1"], store=store)
    with pytest.raises(nas.SpecError, match="is not a file"):
        nas.search("nothing.yaml", store=store)
    assert list(store.jobs()) == []
    store.close()
    error = nas.SpecError.at("a.b", "is wrong")
    assert pickle.loads(pickle.dumps(error)).faults == error.faults


def test_importing_is_light() -> None:
    import subprocess
    import sys

    heavy = ["torch", "ray", "pandas", "sklearn", "lightgbm", "plotly", "sqlalchemy"]
    code = f"import nas, sys; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_arguments_that_search_does_not_have_are_told_with_those_it_has() -> None:
    with pytest.raises(SpecError, match=r'max_trial: unknown argument; .*repeats; did you mean "max_trial_count"'):
        nas.search({"space": "digits-tiny", "objectives": ["min params"]}, max_trial=3)
