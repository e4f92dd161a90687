"""`nas.Client` and the command line against a real server: what a search gives there is what it gives here."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

import nas
from nas.cli import app
from nas.job import JobState
from tests.waiting import free_port, until

pytestmark = pytest.mark.timeout(400)

TABLE: dict[str, Any] = {
    "name": "table",
    "space": "nas-bench-201",
    "objectives": ["max accuracy", "min params"],
    "constraints": ["params <= 1e6"],
    "searcher": "regularized_evolution",
    "evaluator": {"kind": "tabular", "table": "nas-bench-201"},
    "budget": {"max_trial_count": 40},
    "seed": 5,
}
GUIDED: dict[str, Any] = {
    "name": "guided",
    "space": "digits-tiny",  # many genes without effect
    "objectives": ["max macs", "min model_size_bytes"],
    "evaluator": "cost",
    "budget": {"max_trial_count": 25},
    "initial": [{"quantization.*.weight_bits": 32}],
}
ENDLESS: dict[str, Any] = {
    "name": "endless",
    "space": "digits-tiny",
    "objectives": ["max accuracy"],
    "searcher": "random",
    "evaluator": {"kind": "training", "dataset": "digits", "epochs": 1},
    "budget": {"max_trial_count": 5000},
}


def convolutions(architecture: Any) -> dict[str, float]:
    """A function that the server's operator allows."""
    return {"accuracy": 0.1 * sum(str(op).startswith("nor_conv") for op in architecture.values())}


def forbidden(architecture: Any) -> dict[str, float]:
    """A function that the operator does not allow."""
    return {"accuracy": 1.0}


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    """A process of the service: ``python -m`` with these arguments."""
    with (folder / "out.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env={**os.environ, **surroundings(folder), **environment},
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def surroundings(folder: Path) -> dict[str, str]:
    return {
        "NAS_DATABASE_URL": f"sqlite:///{folder}/nas.db",
        "NAS_ALLOWED_FUNCTIONS": "test_client:convolutions",
        "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, Path(__file__).parents[2]))),
    }


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def serving(folder: Path, *arguments: str, port: int | None = None, **environment: str) -> Iterator[str]:
    port = port or free_port()
    process = start(folder, "nas", "serve", "--port", str(port), "--executor", "inline", *arguments, **environment)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(url))
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[nas.Client]:
    with nas.Client(url) as found:
        yield found


def command(url: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nas", *arguments],
        env={**os.environ, "NAS_URL": url, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def told(url: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    found = CliRunner().invoke(app, list(arguments), env={"NAS_URL": url, **environment})
    return found.exit_code, found.stdout, found.stderr


def what_was_found(result: nas.SearchResult) -> list[Any]:
    """All that does not hang on when and where a search ran."""
    return [
        (t.number, t.architecture.genes, t.architecture.key, t.state, t.metrics, t.feasible, t.order, t.attempt)
        for t in result.all_trials
    ]


def timeless(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=["seconds", "origin"])


@pytest.mark.parametrize("document", [TABLE, GUIDED], ids=["table", "guided"])
def test_the_same_document_gives_the_same_trials_here_and_there(
    client: nas.Client, document: dict[str, Any], tmp_path: Path
) -> None:
    here = nas.search(document, executor="inline")
    job = client.search(document)
    there = job.wait(progress=False, timeout=120)
    assert there.state is JobState.SUCCEEDED
    assert what_was_found(there) == what_was_found(here)

    file = tmp_path / "document.yaml"
    file.write_text(yaml.safe_dump(document))
    code, out, error = told(client.url, "search", str(file), "--json")
    assert code == 0, error
    again = client.job(json.loads(out)["job"])
    assert again.id != job.id
    assert what_was_found(again.result()) == what_was_found(here)
    assert [t["number"] for t in json.loads(out)["trials"]] == [t.number for t in here.front.trials]

    begun = nas.search(document, warm_start=[here], executor="inline", max_trial_count=5, seed=9)
    also = client.search(document, warm_start=[job], max_trial_count=5, seed=9).wait(False, timeout=120)
    assert what_was_found(also) == what_was_found(begun)


def test_a_result_from_a_server_offers_all_that_a_local_one_does(client: nas.Client, tmp_path: Path) -> None:
    here = nas.search(TABLE, executor="inline")
    shown: list[nas.Trial] = []
    job = client.search(TABLE)
    there = job.wait(progress=shown.extend, timeout=120)
    assert [t.order for t in shown] == list(range(40))
    pd.testing.assert_frame_equal(timeless(there.trials), timeless(here.trials))
    pd.testing.assert_frame_equal(timeless(job.trials), timeless(here.trials))
    for front in (there.pareto_front, job.pareto_front()):
        pd.testing.assert_frame_equal(timeless(front), timeless(here.pareto_front))
    pd.testing.assert_frame_equal(timeless(there.recommended), timeless(here.recommended))
    assert there.best("accuracy")["number"] == here.best("accuracy")["number"]
    bound = "params <= 4e5"
    assert there.pick("max accuracy", bound)["number"] == here.pick("max accuracy", bound)["number"]
    assert there.hypervolume([0.0, 1e6]) == here.hypervolume([0.0, 1e6])
    pd.testing.assert_frame_equal(there.predictor_quality(), here.predictor_quality())
    pd.testing.assert_frame_equal(there.family("max accuracy", bound), here.family("max accuracy", bound))
    assert there.report(tmp_path / "report.html").stat().st_size > 1e6
    with pytest.raises(ValueError, match="no test split"):
        there.test(executor="inline")


def test_a_job_is_looked_at_and_changed_from_afar(client: nas.Client, tmp_path: Path) -> None:
    job = client.search(TABLE)
    seen = list(job.events(after=-1))
    assert [t.order for e in seen for t in getattr(e, "trials", ())] == list(range(40))
    assert job.refresh().state is JobState.SUCCEEDED

    cheapest = job.pareto_front("min params", constraints=["accuracy >= 0.8"])
    assert len(cheapest) == 1
    measured = job.trials
    assert cheapest["params"][0] == measured[measured["accuracy"] >= 0.8]["params"].min()
    other = job.clone(seed=6, budget={"max_trial_count": 7})
    assert (other.job.spec.seed, other.job.spec.budget.max_trial_count) == (6, 7)
    assert len(other.wait(progress=False, timeout=120).all_trials) == 7
    both = job.pareto_front(jobs=[other])
    assert set(both["job"]) <= {job.id, other.id}

    for name in ("trials.csv", "trials.json", "trials.parquet"):
        file = job.export(tmp_path / name)
        reader = {"csv": pd.read_csv, "json": pd.read_json, "parquet": pd.read_parquet}[file.suffix[1:]]
        assert sorted(reader(file)["number"]) == list(range(40))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["trials.csv", "trials.json", "trials.parquet"]
    with pytest.raises(ValueError, match=r"allowed: \.csv"):
        job.export(tmp_path / "trials.xlsx")

    predictor = job.fit_predictor(timeout=120)
    architectures = [t.architecture for t in job.result().all_trials[:5]]
    predicted = predictor.predict(architectures)
    assert predicted.mean.shape == (5, len(predictor.metrics))
    assert (predicted.std >= 0).all()
    assert predictor.quality
    with pytest.raises(nas.SpecError):
        predictor.predict([{"edge_0_1": "magic"}])

    other.delete()
    with pytest.raises(KeyError):
        other.refresh()


def test_a_running_job_is_paused_edited_resumed_and_cancelled(client: nas.Client) -> None:
    job = client.search(ENDLESS)
    until(lambda: job.refresh().job.counts.get(nas.TrialState.SUCCEEDED))
    with pytest.raises(TimeoutError):
        job.wait(progress=False, timeout=0.1)
    job.pause()
    result = job.wait(progress=False, timeout=60)
    assert result.state is JobState.PAUSED
    done = len(result.all_trials)
    job.edit(name="ends", budget={"max_trial_count": done + 1})
    assert job.job.spec.name == "ends"
    elsewhere = client.job(job.id).edit(budget={"max_failed_trial_count": 3})
    with pytest.raises(nas.contracts.Stale):
        job.edit(name="lost update")
    assert elsewhere.job.spec.name == "ends"
    with pytest.raises(nas.job.WrongState):
        job.refresh().edit(budget={"max_trial_count": max(done - 1, 1)} if done > 1 else {"repeats": 2})
    ended = job.resume().wait(progress=False, timeout=60)
    assert (ended.state, len(ended.all_trials)) == (JobState.SUCCEEDED, done + 1)
    assert client.search(ENDLESS).cancel().wait(progress=False, timeout=60).state is JobState.CANCELLED
    assert [j.id for j in client.jobs("SUCCEEDED", name="ends")] == [job.id]


def test_functions_go_by_their_names_and_only_allowed_ones(client: nas.Client) -> None:
    asked: dict[str, Any] = {"space": "nas-bench-201", "objectives": ["max accuracy"], "max_trial_count": 5}
    from test_client import convolutions as allowed  # by the name that the server knows
    from test_client import forbidden as refused

    job = client.search(evaluator=allowed, searcher="random", **asked)
    assert "test_client:convolutions" in client.capabilities()["functions"]
    assert len(job.wait(progress=False, timeout=60).all_trials) == 5
    before = len(client.jobs())
    with pytest.raises(nas.SpecError, match="evaluator"):
        client.search(evaluator=refused, **asked)
    with pytest.raises(nas.SpecError, match="a function of a module"):
        client.search(evaluator=lambda architecture: {"accuracy": 1.0}, **asked)
    with pytest.raises(nas.SpecError, match="cannot be sent"):
        client.search(TABLE, searcher=object())  # type: ignore[arg-type]
    with pytest.raises(nas.SpecError, match="objectives"):
        client.search(TABLE, objectives=["max speed"])
    with pytest.raises(nas.SpecError, match=r"warm_start\.0"):
        client.search(TABLE, warm_start=["nothing"])
    assert client.validate(TABLE)["size"] == 15625
    assert len(client.jobs()) == before


def test_a_server_that_is_killed_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    first = start(tmp_path, "api", "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    until(lambda: answers(url))
    runner = start(tmp_path, "nas", "runner", "--executor", "inline")
    try:
        with nas.Client(url, patience=90) as client:
            job = client.search(TABLE)
            first.kill()
            first.wait()
            second = start(tmp_path, "api", "--port", str(port))
            try:  # nobody has waited for it to be ready
                other = client.search(TABLE, seed=1)
                assert len(other.wait(progress=False, timeout=120).all_trials) == 40
                here = nas.search(TABLE, executor="inline")
                assert what_was_found(job.wait(progress=False, timeout=120)) == what_was_found(here)
                assert {j.id for j in client.jobs()} == {job.id, other.id}
            finally:
                second.terminate()
                second.wait(timeout=60)
    finally:
        runner.terminate()
        runner.wait(timeout=60)


def test_ctrl_c_leaves_the_job_on_the_server(url: str, tmp_path: Path) -> None:
    (tmp_path / "endless.yaml").write_text(yaml.safe_dump(ENDLESS))
    process = command(url, "search", str(tmp_path / "endless.yaml"))
    client = nas.Client(url)
    (job,) = until(lambda: client.jobs("RUNNING", name="endless"))
    until(lambda: job.refresh().job.counts.get(nas.TrialState.SUCCEEDED))
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert f"the job goes on. To look at it again: nas search --resume {job.id}" in error
    assert job.refresh().state is JobState.RUNNING

    assert told(url, "pause", job.id)[0] == 0
    until(lambda: job.refresh().state is JobState.PAUSED)
    done = sum(job.job.counts.values())
    assert told(url, "edit", job.id, "--trials", str(done + 2))[0] == 0
    code, out, error = told(url, "search", "--resume", job.id, "--test", "none")
    assert code == 0, error
    assert f"Pareto front of job {job.id}" in out
    code, out, error = told(url, "search", "--resume", job.id)  # over by now
    assert (code, f"job {job.id} has SUCCEEDED already" in error) == (0, True)
    assert f"Pareto front of job {job.id}" in out
    client.close()


def test_the_commands_read_and_change_jobs_of_a_server(url: str, tmp_path: Path) -> None:
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(TABLE))
    report = tmp_path / "report.html"
    options = ["--trials", "20", "--report", str(report), "--warm-start", "latest"]
    nas.Client(url).search(TABLE).wait(progress=False, timeout=120)
    code, out, error = told(url, "search", str(tmp_path / "table.yaml"), *options)
    assert code == 0, error
    assert "warm start: 40 trials taken over" in error
    assert "20/20 trials" in error
    assert "Pareto front of job" in out
    assert report.stat().st_size > 1e6
    assert told(url, "search", str(tmp_path / "table.yaml"), "--validate-only")[0] == 0

    listed = json.loads(told(url, "jobs", "--json", "--limit", "3")[1])["jobs"]
    job = listed[0]["id"]
    assert len(json.loads(told(url, "trials", job, "--json")[1])["trials"]) == 60
    front = json.loads(told(url, "pareto", "latest", "--json")[1])
    served = httpx.get(f"{url}/v1/jobs/{job}/pareto-front").json()
    assert front == {key: served[key] for key in front}
    assert (
        told("", "jobs", "--json", "--limit", "3", "--url", url)[1]
        == told(url, "jobs", "--json", "--limit", "3")[1]
    )
    assert json.loads(told(url, "family", job, "-c", "params <= 3e5", "--json")[1])["family"]
    assert told(url, "pause", job)[0] == 3
    assert told(url, "edit", job, "--trials", "100")[0] == 3
    assert told(url, "delete", job)[0] == 0
    code, _, error = told(url, "trials", job)
    assert (code, f"there is no job {job}" in error) == (3, True)
    assert told(url, "search", str(tmp_path / "table.yaml"), "--executor", "inline")[0] == 2
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({**TABLE, "objectives": ["max speed"]}))
    code, _, error = told(url, "search", str(tmp_path / "wrong.yaml"))
    assert (code, "objectives.0.metric: 'speed' is not a metric" in error) == (2, True)


def test_the_server_writes_files_of_trials(client: nas.Client, url: str, tmp_path: Path) -> None:
    job = client.search(ENDLESS, max_trial_count=1)
    job.wait(progress=False, timeout=120)
    card = job.export_model(0, tmp_path / "a.onnx", data_licence="CC0", timeout=120)
    assert (card.job, card.data.licence, card.file.name) == (job.id, "CC0", "a.onnx")
    assert (tmp_path / "a.onnx").stat().st_size == card.file.bytes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "a.onnx.json", "a.onnx.md"]
    front = ["export", job.id, "--front", "-o", str(tmp_path / "front"), "--weights", "checkpoint"]
    code, _, error = told(url, *front)
    assert code == 0, error
    assert (tmp_path / "front" / "trial-0.onnx").read_bytes() == (tmp_path / "a.onnx").read_bytes()
    code, _, error = told(url, "export", job.id, "0", "--weights", "final")
    assert (code, "there are no final weights of trial 0" in error) == (3, True)
    assert told(url, "export", job.id, "0", "--executor", "inline")[0] == 2
    with pytest.raises(nas.SpecError, match="allowed"):
        job.export_model(0, tmp_path / "b.tflite")
    with pytest.raises(TimeoutError, match="goes on"):
        job.export_model(0, tmp_path / "b.onnx", weights="retrained", timeout=0)
    job.delete()


def test_a_server_that_takes_keys(tmp_path: Path) -> None:
    with serving(tmp_path, "--no-runner", NAS_AUTH="keys") as url:
        made = subprocess.run(
            [sys.executable, "-m", "nas", "keys", "create", "me", "--role", "submitter", "--json"],
            env={**os.environ, **surroundings(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        key = next(v for v in json.loads(made.stdout).values() if str(v).startswith("nas_"))
        for wrong in ("", "nas_ab12_wrong"):
            code, _, error = told(url, "jobs", NAS_API_KEY=wrong)
            assert (code, "NAS_API_KEY" in error, "Traceback" in error) == (1, True, False)
            assert "wrong" not in error
        with nas.Client(url) as nobody, pytest.raises(nas.ApiError, match="NAS_API_KEY"):
            nobody.search(TABLE)
        with nas.Client(url, key) as client:
            job = client.search(TABLE)
            assert job.job.owner == "me"
            with pytest.raises(nas.ApiError, match="admin"):
                job.delete()
        assert json.loads(told(url, "jobs", "--json", NAS_API_KEY=key)[1])["jobs"][0]["id"] == job.id
        assert told(url, "delete", job.id, NAS_API_KEY=key)[0] == 1
