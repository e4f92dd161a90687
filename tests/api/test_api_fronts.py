from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nas.objectives import Problem
from nas.pareto import ParetoFront
from nas.trial import Measured
from nas.wire import front_dict, trial_dict


def front(client: Any, search: Any, **query: Any) -> dict[str, Any]:
    answer = client.get(f"/v1/jobs/{search.id}/pareto-front", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def faults(client: Any, search: Any, **query: Any) -> dict[str, str]:
    answer = client.get(f"/v1/jobs/{search.id}/pareto-front", params=query)
    assert answer.status_code == 422, answer.text
    return {f["path"]: f["message"] for f in answer.json()["faults"]}


def expected(search: Any, problem: Problem) -> ParetoFront:
    """By way of all trials; `feasible` as the problem says."""
    trials = [t for t in search.store.trials(search.id) if set(problem.metrics) <= set(t.metrics)]
    return ParetoFront.of([replace(t, feasible=problem.violation(t.metrics) == 0) for t in trials], problem)


@pytest.mark.parametrize(
    ("objectives", "constraints"),
    [
        (["min model_size_bytes", "max macs"], []),
        (["min params"], []),
        ([], ["macs <= 6e7", "params >= 1e5"]),
        (["max macs", "min params", "min peak_activation_bytes"], ["macs <= 8e7"]),
        (["max macs"], ["params <= 1"]),
    ],
)
def test_the_front_for_other_objectives_and_constraints(client, search, objectives, constraints):
    search.run(40)
    given = search.job.spec.problem
    problem = Problem.parse(objectives, constraints)
    problem = Problem(problem.objectives or given.objectives, problem.constraints or given.constraints)
    answer = front(client, search, objective=objectives, constraint=constraints)
    found = expected(search, problem)
    assert [t["number"] for t in answer["trials"]] == [t.number for t in found.trials]
    assert answer["reference"] == list(found.reference)
    assert answer["hypervolume"] == pytest.approx(found.hypervolume())
    assert answer["objectives"] == [str(o) for o in problem.objectives]
    assert answer["constraints"] == [str(c) for c in problem.constraints]


def test_trials_without_a_metric_do_not_count_for_it(client, search):
    search.open(3)
    for number, extra in enumerate([{}, {"latency_ms": 3.0}, {"latency_ms": 2.0}]):
        search.close(number, Measured({"macs": 1.0 - number, "params": 1.0, **extra}))
    answer = front(client, search, objective=["max macs", "min latency_ms"])
    assert [t["number"] for t in answer["trials"]] == [1, 2]
    assert answer["reference"] == [-1.0, 3.0]
    assert [t["number"] for t in front(client, search)["trials"]] == [0]
    assert not front(client, search, objective="max macs", constraint="latency_ms >= 4")["trials"]


def test_a_metric_that_no_trial_has(client, search):
    assert front(client, search, objective="min latency_ms")["trials"] == []  # nothing is known yet
    search.run(2)
    found = faults(client, search, objective="min latency_ms", constraint="parms <= 3", pick=["max accuracy"])
    assert set(found) == {"objective.0", "constraint.0", "pick.0"}
    assert "measured were macs, model_size_bytes" in found["objective.0"]
    assert 'did you mean "params"?' in found["constraint.0"]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ({"objective": "accuracy"}, "objective.0"),
        ({"objective": ["max macs", "min macs"]}, "objective.1"),
        ({"objective": [f"min m{i}" for i in range(6)]}, "objective"),
        ({"constraint": ["params <= 1", "params < 1"]}, "constraint.1"),
        ({"constraint": "params <= nan"}, "constraint.0"),
        ({"pick": "params <= 3"}, "pick.0"),
        ({"pick": ["max macs", "max params"]}, "pick.1"),
        ({"objective": "max macs", "reference": [1, 2]}, "reference"),
        ({"job": "a b"}, "job.0"),
        ({"objectives": "max macs"}, "objectives"),
    ],
)
def test_a_query_that_is_wrong(client, search, query, path):
    search.run(1)
    assert path in faults(client, search, **query)


def test_the_best_trial_for_an_objective_within_bounds(client, search):
    search.run(40)
    assert "picked" not in front(client, search)
    picked = front(client, search, pick=["max macs", "params >= 2e5"])["picked"]
    fitting = [
        t
        for t in search.store.trials(search.id)
        if t.feasible and t.metrics["params"] >= 2e5  # feasible: the document's constraint holds too
    ]
    assert picked == trial_dict(max(fitting, key=lambda t: (t.metrics["macs"], -t.number)), search.id)
    assert front(client, search, pick=["max macs", "params <= 1"])["picked"] is None
    free = front(client, search, pick=["max macs"], constraint="params >= 0")["picked"]
    assert free["metrics"]["macs"] == max(t.metrics.get("macs", 0) for t in search.store.trials(search.id))


def test_the_history_of_the_hypervolume(client, search):
    volumes = {}
    for trial in search.open(12):
        search.close(trial.number)
        volumes[trial.number + 1] = front(client, search, reference=[0, 1e6])["hypervolume"]
    answer = front(client, search, reference=[0, 1e6], history=True)
    grew = {n: v for n, v in volumes.items() if v > volumes.get(n - 1, 0.0)}
    assert {p["trials"]: p["hypervolume"] for p in answer["history"]} == pytest.approx(grew)
    assert answer["history"][-1]["hypervolume"] == answer["hypervolume"]
    assert front(client, search, history=True)["reference"] == front(client, search)["reference"]


def test_a_joint_front_of_jobs_of_different_spaces(client, new_search, document):
    cells, tiny = new_search(), new_search({**document, "space": "digits-tiny", "constraints": []})
    cells.run(20)
    tiny.run(20)
    answer = front(client, tiny, job=[cells.id, tiny.id, cells.id], history=True)
    problem = tiny.job.spec.problem
    both = {s.id: list(s.store.trials(s.id)) for s in (tiny, cells)}
    names = {(job, t.number): t for job, trials in both.items() for t in trials}
    feasible = [replace(t, feasible=True) for trials in both.values() for t in trials if t.measured]
    found = ParetoFront.of(feasible, problem)
    assert answer["hypervolume"] == pytest.approx(found.hypervolume())
    assert answer["reference"] == list(found.reference)
    assert {t["job"] for t in answer["trials"]} == {tiny.id, cells.id}
    assert all(t == trial_dict(names[t["job"], t["number"]], t["job"]) for t in answer["trials"])
    points = {problem.losses(t.metrics) for t in found.trials}
    assert {problem.losses(t["metrics"]) for t in answer["trials"]} == points
    assert 20 < answer["history"][-1]["trials"] <= 40
    assert front(client, tiny, job=cells.id, pick="max macs")["picked"]["job"] == cells.id


def test_a_joint_front_with_a_job_that_is_not_there(client, search):
    answer = client.get(f"/v1/jobs/{search.id}/pareto-front?job=0123abc")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


def test_a_front_reads_only_what_is_new(client, search, monkeypatch):
    search.run(10)
    read = []
    measurements, trials = search.store.measurements, search.store.trials

    def counted(job_id, after=-1):
        found = measurements(job_id, after)
        read.extend(found.numbers.tolist())
        return found

    def listed(job_id, **options):
        found = trials(job_id, **options)
        read.extend(["trial"] * len(found))
        return found

    monkeypatch.setattr(search.store, "measurements", counted)
    monkeypatch.setattr(search.store, "trials", listed)
    first = front(client, search)
    assert [n for n in read if n != "trial"] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert read.count("trial") == len(first["trials"])
    read.clear()
    assert front(client, search) == first
    assert front(client, search, history=True, pick="max macs")["trials"] == first["trials"]
    assert set(read) <= {"trial"}  # the one picked need not belong to the front
    for problem in (["max macs"], ["min params", "max macs"]):  # by what is known of the trials
        read.clear()
        front(client, search, objective=problem)
        assert set(read) <= {"trial"}
    (trial,) = search.open(1, seed=5)
    search.close(trial.number)
    read.clear()
    assert front(client, search) == front_dict(expected(search, search.job.spec.problem), search.id)
    assert [n for n in read if n != "trial"] == [10]


@pytest.mark.parametrize("kept", ["MEASURED_BYTES", "ENTRANTS_BYTES", "TRIALS_BYTES", "FIGURES"])
def test_fronts_do_not_depend_on_what_is_kept(new_client, search, monkeypatch, kept):
    from api import create_app

    monkeypatch.setattr(f"api.kept_fronts.{kept}", 0)
    client = new_client(create_app(search.store))
    for seed in range(3):
        search.run(10, seed)
        for _ in range(2):
            found = front(client, search, history=True, pick="max macs")
            assert found["trials"] == front_dict(expected(search, search.job.spec.problem), search.id)["trials"]
            assert found["history"][-1]["hypervolume"] == found["hypervolume"] > 0
