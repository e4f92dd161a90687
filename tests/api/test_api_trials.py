from __future__ import annotations

import pytest

from nas.job import JobState
from nas.pareto import ParetoFront
from nas.trial import Broken, BrokenKind, Measured, Trace
from nas.wire import front_dict, trace_dict, trial_dict


@pytest.mark.parametrize("size", [1, 4, 11, 1000])
def test_pages_give_every_trial_once_by_number(client, search, size):
    search.run(11)
    found, query = [], {"page_size": size}
    while True:
        page = client.get(f"/v1/jobs/{search.id}/trials", params=query).json()
        assert 0 < len(page["trials"]) <= size
        found += page["trials"]
        if page["next_page_token"] is None:
            break
        query["page_token"] = page["next_page_token"]
    assert found == [trial_dict(t, search.id) for t in search.store.trials(search.id)]
    assert [t["number"] for t in found] == list(range(11))


def test_trials_that_come_while_pages_are_walked_are_found(client, search):
    search.run(3)
    first = client.get(f"/v1/jobs/{search.id}/trials?page_size=2").json()
    search.run(2, seed=1)
    rest = client.get(f"/v1/jobs/{search.id}/trials", params={"page_token": first["next_page_token"]}).json()
    assert [t["number"] for t in rest["trials"]] == [2, 3, 4]


def test_a_job_without_trials_has_one_empty_page(client, search):
    assert client.get(f"/v1/jobs/{search.id}/trials").json() == {"trials": [], "next_page_token": None}


def test_a_page_token_of_another_job_is_refused(client, new_search):
    one, other = new_search(), new_search()
    one.run(3)
    other.run(3)
    token = client.get(f"/v1/jobs/{one.id}/trials?page_size=1").json()["next_page_token"]
    assert client.get(f"/v1/jobs/{one.id}/trials?page_token={token}").status_code == 200
    assert client.get(f"/v1/jobs/{other.id}/trials?page_token={token}").status_code == 400
    assert client.get(f"/v1/jobs?page_token={token}").status_code == 400


def test_a_trial_shows_only_the_choices_that_have_an_effect(client, new_search, document):
    search = new_search({**document, "space": "digits-tiny", "constraints": []})
    search.run(20)
    trials = client.get(f"/v1/jobs/{search.id}/trials").json()["trials"]
    without = [t for t in trials if t["architecture"]["stages.0.depth"] == 0]
    assert without, "the draw has no network without its first stage"
    assert not any("stages.0.kernel" in t["architecture"] for t in without)
    assert all("stages.1.width" in t["architecture"] for t in trials)


def test_a_measured_trial(client, search):
    search.run(1)
    trial = client.get(f"/v1/jobs/{search.id}/trials/0").json()
    assert trial["state"] == "SUCCEEDED"
    assert set(trial["metrics"]) == {"params", "macs", "model_size_bytes", "peak_activation_bytes"}
    assert trial["feasible"] is (trial["metrics"]["params"] <= 5e5)
    assert (trial["attempt"], trial["fidelity"], trial["reason"]) == (1, None, None)
    assert len(trial["architecture"]) == 6
    assert trial["finished_at"] >= trial["created_at"]


def test_a_trial_that_cannot_be_built_says_so_in_its_own_key(client, search):
    search.run(5)
    trial = client.get(f"/v1/jobs/{search.id}/trials/4").json()
    assert (trial["state"], trial["infeasible_reason"]) == ("INFEASIBLE", "no path to the output")
    assert (trial["metrics"], trial["feasible"]) == ({}, None)
    assert "reason" not in trial


def test_a_trial_that_failed_gives_its_reason(client, search):
    search.open(1)
    search.close(0, Broken(BrokenKind.FAILED, "ZeroDivisionError: division by zero"))
    trial = client.get(f"/v1/jobs/{search.id}/trials/0").json()
    assert (trial["state"], trial["reason"]) == ("FAILED", "ZeroDivisionError: division by zero")
    assert "infeasible_reason" not in trial


def test_a_trial_whose_worker_was_lost_waits_with_one_more_attempt(client, search):
    search.open(1)
    search.close(0, Broken(BrokenKind.LOST, "worker died"))
    trial = client.get(f"/v1/jobs/{search.id}/trials/0").json()
    assert (trial["state"], trial["attempt"], trial["finished_at"]) == ("PENDING", 2, None)


def test_the_front_is_that_of_all_finished_trials(client, search):
    search.run(30)
    search.open(1, seed=1)
    front = ParetoFront.of(search.store.trials(search.id), search.job.spec.problem)
    answer = client.get(f"/v1/jobs/{search.id}/pareto-front").json()
    assert answer == front_dict(front, search.id)
    assert len(answer["trials"]) > 1
    assert answer["hypervolume"] == front.hypervolume() > 0
    macs = [t["metrics"]["macs"] for t in answer["trials"]]
    assert macs == sorted(macs, reverse=True)
    assert all(t["feasible"] for t in answer["trials"])


def test_the_front_before_the_first_trial_is_empty(client, search):
    expected = {
        "trials": [],
        "hypervolume": 0.0,
        "hypervolume_exact": True,
        "reference": None,
        "objectives": ["max macs", "min params"],
        "constraints": ["params <= 500000.0"],
    }
    assert client.get(f"/v1/jobs/{search.id}/pareto-front").json() == expected


def test_the_front_grows_with_each_finished_trial(client, search):
    url = f"/v1/jobs/{search.id}/pareto-front?reference=0&reference=1e6"
    volumes = []
    for trial in search.open(12):
        search.close(trial.number)
        answer = client.get(url).json()
        front = ParetoFront.of(search.store.trials(search.id), search.job.spec.problem)
        assert answer == front_dict(front, search.id, [0, 1e6]) == client.get(url).json()
        volumes.append(answer["hypervolume"])
    assert volumes == sorted(volumes)
    assert volumes[-1] > volumes[0]


def test_the_reference_is_in_the_metrics_own_units(client, search):
    (trial,) = search.open(1)
    search.close(trial.number, Measured({"macs": 9e6, "params": 3e5, "model_size_bytes": 1e6}))
    answer = client.get(f"/v1/jobs/{search.id}/pareto-front?reference=8e6&reference=5e5").json()
    assert (answer["reference"], answer["hypervolume"]) == ([8e6, 5e5], 1e6 * 2e5)


def test_a_volume_larger_than_a_double_is_null(client, search):
    search.run(1)
    answer = client.get(f"/v1/jobs/{search.id}/pareto-front?reference=-1e308&reference=1e308")
    assert (answer.status_code, answer.json()["hypervolume"]) == (200, None)


def test_trials_stay_when_the_job_is_over(client, search):
    search.run(3)
    search.open(1, seed=1)
    search.release(JobState.SUCCEEDED)
    trials = client.get(f"/v1/jobs/{search.id}/trials").json()["trials"]
    assert [t["state"] for t in trials] == ["SUCCEEDED"] * 3 + ["CANCELLED"]


def listed(client, search, **query):
    """All trials of a query, over all its pages."""
    found, query = [], {"page_size": 3, **query}
    while True:
        answer = client.get(f"/v1/jobs/{search.id}/trials", params=query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["trials"]
        if page["next_page_token"] is None:
            return found
        query["page_token"] = page["next_page_token"]


def test_trials_are_filtered_by_state_feasibility_and_network(client, search):
    search.run(20)
    search.open(3, seed=1)
    trials = listed(client, search)
    assert {t["state"] for t in trials} == {"SUCCEEDED", "INFEASIBLE", "RUNNING"}
    for state in (["RUNNING"], ["RUNNING", "INFEASIBLE"], ["PENDING"]):
        assert listed(client, search, state=state) == [t for t in trials if t["state"] in state]
    for feasible in (True, False):
        assert listed(client, search, feasible=feasible) == [t for t in trials if t["feasible"] is feasible]
    key = trials[7]["key"]
    assert listed(client, search, key=key) == [t for t in trials if t["key"] == key] != []
    assert listed(client, search, state="SUCCEEDED", feasible=False, key=key) == [
        t for t in trials if t["key"] == key and t["feasible"] is False
    ]


def test_a_running_job_is_followed_by_the_order_in_which_trials_finish(client, search):
    search.open(8)
    finished, seen, last = [5, 2, 7, 0, 1], [], -1
    for number in finished:
        search.close(number)
        new = listed(client, search, after=last)
        seen += new
        last = seen[-1]["order"]
    assert [t["number"] for t in seen] == finished
    assert [t["order"] for t in seen] == list(range(5))
    assert listed(client, search, after=-1) == seen
    assert listed(client, search, after=2) == seen[3:]
    assert listed(client, search, after=4) == listed(client, search, after=1000) == []


def test_pages_of_finished_trials_go_on_with_those_that_come_meanwhile(client, search):
    search.run(4)
    url = f"/v1/jobs/{search.id}/trials"
    first = client.get(url, params={"after": -1, "page_size": 3}).json()
    search.run(2, seed=1)
    query = {"after": -1, "page_size": 3, "page_token": first["next_page_token"]}
    rest = client.get(url, params=query).json()
    assert [t["order"] for t in first["trials"] + rest["trials"]] == list(range(6))


@pytest.mark.parametrize(
    "query", ["after=-2", "after=x", "after=0&state=RUNNING", "after=0&feasible=true", "after=0&key=ab"]
)
def test_an_order_that_cannot_be_asked_for(client, search, query):
    answer = client.get(f"/v1/jobs/{search.id}/trials?{query}")
    assert answer.status_code == 422
    assert "after" in str(answer.json()["faults"])


def test_a_page_token_of_other_filters_is_refused(client, search):
    search.run(5)
    url = f"/v1/jobs/{search.id}/trials?page_size=1"
    token = client.get(f"{url}&state=SUCCEEDED").json()["next_page_token"]
    assert client.get(f"{url}&state=SUCCEEDED&page_token={token}").status_code == 200
    for query in ("", "&state=INFEASIBLE", "&state=SUCCEEDED&feasible=true", "&after=-1"):
        assert client.get(f"{url}{query}&page_token={token}").status_code == 400


def test_one_trial_tells_how_its_evaluation_went(client, search):
    search.open(2)
    curve = ((1, {"loss": 0.5}), (2, {"loss": 0.25}))
    trace = Trace("gpu-3:4711", 1_795_209_425.25, curve, "epoch 2\n")
    search.close(0, Measured({"macs": 1.0, "params": 2.0}, trace))
    search.close(1)
    known, unknown = (client.get(f"/v1/jobs/{search.id}/trials/{n}").json() for n in (0, 1))
    trial, other = search.store.trials(search.id)
    assert known == {**trial_dict(trial, search.id), **trace_dict(trace)}
    assert known["curve"] == [{"step": 1, "metrics": {"loss": 0.5}}, {"step": 2, "metrics": {"loss": 0.25}}]
    assert (known["worker"], known["log"]) == ("gpu-3:4711", "epoch 2\n")
    assert known["started_at"] == "2026-11-20T21:17:05.250Z"
    nothing = {"worker": None, "started_at": None, "curve": [], "log": ""}
    assert unknown == {**trial_dict(other, search.id), **nothing}
