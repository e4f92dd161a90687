from __future__ import annotations

import pytest

from nas.job import JobState
from nas.pareto import ParetoFront
from nas.trial import Broken, BrokenKind, Measured
from nas.wire import front_dict, trial_dict


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
    assert found == [trial_dict(t) for t in search.store.trials(search.id)]
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
    assert answer == front_dict(front)
    assert len(answer["trials"]) > 1
    assert answer["hypervolume"] == front.hypervolume() > 0
    macs = [t["metrics"]["macs"] for t in answer["trials"]]
    assert macs == sorted(macs, reverse=True)
    assert all(t["feasible"] for t in answer["trials"])


def test_the_front_before_the_first_trial_is_empty(client, search):
    expected = {"trials": [], "hypervolume": 0.0, "reference": None}
    assert client.get(f"/v1/jobs/{search.id}/pareto-front").json() == expected


def test_the_front_grows_with_each_finished_trial(client, search):
    url = f"/v1/jobs/{search.id}/pareto-front?reference=0&reference=1e6"
    volumes = []
    for trial in search.open(12):
        search.close(trial.number)
        answer = client.get(url).json()
        front = ParetoFront.of(search.store.trials(search.id), search.job.spec.problem)
        assert answer == front_dict(front, [0, 1e6]) == client.get(url).json()
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


def test_a_front_is_computed_once_for_the_same_trials(client, search, monkeypatch):
    reads = []
    search.run(5)
    monkeypatch.setattr(search.store, "trials", _counted(search.store.trials, reads))
    url = f"/v1/jobs/{search.id}/pareto-front"
    first, second = client.get(url).json(), client.get(url).json()
    assert first == second
    assert reads == [search.id]
    search.run(1, seed=7)
    reads.clear()  # of what running a trial reads
    client.get(url)
    client.get(url)
    assert reads == [search.id]


def test_only_the_fronts_asked_for_last_are_kept(client, new_search, monkeypatch):
    monkeypatch.setattr("api.fronts.KEPT", 2)
    searches = [new_search() for _ in range(3)]
    reads = []
    store = searches[0].store
    monkeypatch.setattr(store, "trials", _counted(store.trials, reads))
    for search in [*searches, searches[2], searches[1], searches[0]]:
        client.get(f"/v1/jobs/{search.id}/pareto-front")
    assert reads == [s.id for s in [*searches, searches[0]]]


def test_trials_stay_when_the_job_is_over(client, search):
    search.run(3)
    search.open(1, seed=1)
    search.release(JobState.SUCCEEDED)
    trials = client.get(f"/v1/jobs/{search.id}/trials").json()["trials"]
    assert [t["state"] for t in trials] == ["SUCCEEDED"] * 3 + ["CANCELLED"]


def _counted(function, calls):
    def counted(job_id, *args, **options):
        calls.append(job_id)
        return function(job_id, *args, **options)

    return counted
