"""The queue: who gets devices, and when: priority, quota, fair order, whole shares of nodes."""

from __future__ import annotations

from tests.control.api.conftest import Running
from tests.control.api.test_jobs import job, queued
from tests.control.api.training import CPU, Worker, at, dataset


def test_devices_go_by_priority_then_to_the_team_with_fewest_and_quotas_hold(control: Running) -> None:
    admin, worker = control.admin, Worker(control)
    dataset(admin)
    for team, quota in (("red", 1), ("blue", None)):
        assert admin.post("/api/v1/teams", json={"name": team, "gpu_quota": quota}).status_code == 201
    for name, team, priority in (("r1", "red", 0), ("r2", "red", 0), ("b1", "blue", 0), ("b2", "blue", 5)):
        queued(admin, name, team=team, priority=priority)
    assert [job(admin, name)["position"] for name in ("b2", "r1", "r2", "b1")] == [1, 2, 3, 4]
    started = worker.sync()["start"]
    assert sorted(order["spec"]["name"] for order in started) == ["b2", "r1"]
    assert {device for order in started for device in order["devices"]} == {"cpu-0", "cpu-1"}
    assert job(admin, "r2")["waits_for"] == "the team 'red' holds 1 of its 1 devices"
    attempts = {order["spec"]["name"]: order["attempt"] for order in started}
    worker.finish(attempts["b2"])
    (order,) = worker.sync(at(attempts["r1"]))["start"]
    assert order["spec"]["name"] == "b1", "red holds its quota"
    trainer = admin.get("/api/v1/trainers").json()["items"][0]
    assert [(one["uuid"], one["job"]) for one in trainer["devices"]] == [("cpu-0", "b1"), ("cpu-1", "r1")]
    others = control.as_("engineer").get("/api/v1/trainers").json()["items"][0]["devices"]
    assert [(one["job"], one["claimed"]) for one in others] == [("", True), ("", True)]


def test_a_large_job_is_not_starved_by_small_ones(control: Running) -> None:
    admin, worker = control.admin, Worker(control)
    dataset(admin)
    queued(admin, "small-1")
    first = worker.take()
    queued(admin, "large", spec={"resources": {"processes": 2}})
    queued(admin, "small-2")
    assert worker.sync(at(first))["start"] == [], "one device is free, and kept for the large job"
    assert job(admin, "large")["waits_for"] == "waits for free devices"
    worker.finish(first)
    (order,) = worker.sync()["start"]
    assert (order["spec"]["name"], len(order["devices"])) == ("large", 2)
    queued(admin, "giant", spec={"resources": {"processes": 3}})
    assert job(admin, "giant")["waits_for"] == "no worker has 3 devices: ask for fewer in resources.processes"


def test_nodes_of_a_cluster_are_given_whole_shares(control: Running) -> None:
    admin, worker = control.admin, Worker(control)
    worker.status["devices"] = [
        {**CPU[0], "uuid": f"{n}/cpu-{i}", "node": n} for n in ("n1", "n2", "n3") for i in (0, 1)
    ]
    dataset(admin)
    queued(admin, "small")
    small = worker.take()
    queued(admin, "wide", spec={"resources": {"nodes": 2, "processes": 2}})
    (order,) = worker.sync(at(small))["start"]
    assert order["devices"] == ["n2/cpu-0", "n2/cpu-1", "n3/cpu-0", "n3/cpu-1"], "n1 has one left"
    queued(admin, "wider", spec={"resources": {"nodes": 4}})
    assert job(admin, "wider")["waits_for"] == "no worker has 4 nodes with 1 devices each: ask for fewer in resources"
