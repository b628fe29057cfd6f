"""Training jobs over the API, with a worker that does what the test says."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2 as httpx
import pytest

from control.jobs.workers import give_up, sweep
from tests.control.api.conftest import Running
from tests.control.api.training import CPU, STARTED, Worker, at, dataset, spec, trained

JOBS = "/api/v1/jobs"


@pytest.fixture
def engineer(control: Running) -> httpx.Client:
    client = control.as_("engineer")
    dataset(client)
    return client


@pytest.fixture
def worker(control: Running) -> Worker:
    return Worker(control)


def queued(client: httpx.Client, name: str = "support-bot", **body: Any) -> dict[str, Any]:
    changes = body.pop("spec", {})
    answer = client.post(JOBS, json={"spec": spec(name, **changes), **body})
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json()
    assert job["state"] == "queued", job
    return job


def job(client: httpx.Client, name: str = "support-bot") -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"{JOBS}/{name}").json()
    return found


def states(found: dict[str, Any]) -> list[str]:
    return [event["state"] for event in found["events"] if event["state"] != event["state_before"]]


def test_a_job_runs_from_queue_to_adapter(engineer: httpx.Client, worker: Worker) -> None:
    assert queued(engineer)["waits_for"] == "no worker is running: `tunegate trainer`"
    (order,) = worker.sync()["start"]
    assert order["spec"]["name"] == "support-bot"
    assert order["data"][0]["split"] == "train"
    assert worker.sync()["start"] == [order], "repeated until the worker has it"
    attempt = order["attempt"]
    rows = worker.client.get(f"/internal/v1/trainer/data/{order['data'][0]['version']}/train").text
    assert len(rows.splitlines()) == order["data"][0]["rows"] == 8
    assert worker.sync(at(attempt, "preparing"))["start"] == []
    worker.tell(attempt, STARTED, {"kind": "metrics", "step": 1, "values": {"loss": 2.5}})
    worker.tell(attempt, {"kind": "metrics", "step": 1, "values": {"eval_loss": 2.0}})
    worker.tell(attempt, {"kind": "checkpoint", "step": 1, "folder": "checkpoints/1", "size": 10})
    worker.tell(attempt, {"kind": "sample", "step": 1, "prompt": "hi", "text": "ho"})
    assert worker.client.post(f"/internal/v1/trainer/attempts/{attempt}/log", content=b"step 1\n").json() == {"next": 7}
    running = job(engineer)
    assert (running["state"], running["step"], running["total_steps"]) == ("running", 1, 10)
    assert running["latest"] == {"loss": 2.5, "eval_loss": 2.0}
    assert [one["text"] for one in running["samples"]] == ["ho"]
    points = engineer.get(f"{JOBS}/support-bot/metrics").json()["items"]
    assert [(point["step"], point["values"]) for point in points] == [(1, {"loss": 2.5, "eval_loss": 2.0})]
    assert engineer.get(f"{JOBS}/support-bot/attempts/1/log").json()["text"] == "step 1\n"
    found = engineer.get(f"{JOBS}/support-bot/attempts/1/log/search", params={"text": "STEP"}).json()["items"]
    assert [one["text"] for one in found] == ["step 1"]
    assert worker.put(attempt, "adapter_config.json", b"{}").status_code == 204
    assert worker.finish(attempt, metrics={"loss": 1.0}, step=10)["forget"] == [attempt]
    done = job(engineer)
    assert states(done) == [
        "validating", "queued", "allocating", "preparing", "running", "finalizing", "succeeded",
    ]  # fmt: skip
    assert done["adapter"] == "support-bot@v1"
    adapter = engineer.get("/api/v1/adapters/support-bot").json()["items"][0]
    assert adapter["metrics"] == {"loss": 1.0}
    assert adapter["data"][0]["name"] == "dialogues"
    assert engineer.get("/api/v1/datasets/dialogues").json()["adapters"] == [
        {"adapter": "support-bot", "version": 1, "number": 1}
    ]


def test_lines_that_come_again_or_too_early_change_nothing(engineer: httpx.Client, worker: Worker) -> None:
    queued(engineer)
    attempt = worker.take()
    path = f"/internal/v1/trainer/attempts/{attempt}/events"
    lines = [{"at": 1.0, **STARTED}, {"at": 2.0, "kind": "metrics", "step": 1, "values": {"loss": 1.0}}]
    assert worker.client.post(path, json={"first": 0, "lines": lines}).json() == {"next": 2}
    again = [*lines, {"at": 3.0, "kind": "metrics", "step": 2, "values": {"loss": 0.5}}]
    assert worker.client.post(path, json={"first": 0, "lines": again}).json() == {"next": 3}
    assert worker.client.post(path, json={"first": 9, "lines": lines}).json() == {"next": 3}
    unknown = [{"at": 4.0, "kind": "of a newer trainer"}, {"nonsense": True}]
    assert worker.client.post(path, json={"first": 3, "lines": unknown}).json() == {"next": 5}
    points = engineer.get(f"{JOBS}/support-bot/metrics").json()["items"]
    assert [(point["step"], point["values"]["loss"]) for point in points] == [(1, 1.0), (2, 0.5)]
    assert worker.client.post(path, json={"first": 5, "lines": "x"}).status_code == 422
    nobody = worker.client.post("/internal/v1/trainer/attempts/nobody/events", json={"first": 0, "lines": []})
    assert nobody.status_code == 404


def test_a_loss_that_is_no_number_is_seen_and_breaks_nothing(engineer: httpx.Client, worker: Worker) -> None:
    queued(engineer)
    attempt = worker.take()
    line = '{"at": 2.0, "kind": "metrics", "step": 1, "values": {"loss": NaN, "grad_norm": Infinity}}'
    body = f'{{"first": 0, "lines": [{json.dumps({"at": 1.0, **STARTED})}, {line}]}}'
    path, headers = f"/internal/v1/trainer/attempts/{attempt}/events", {"content-type": "application/json"}
    answer = worker.client.post(path, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    point = engineer.get(f"{JOBS}/support-bot/metrics").json()["items"][0]
    assert point["values"] == {"loss_not_finite": 1.0, "grad_norm_not_finite": 1.0}


@pytest.mark.parametrize(("wish", "end"), [("pause", "stopped"), ("cancel", "canceled")])
def test_a_running_job_is_stopped_by_its_worker(engineer: httpx.Client, worker: Worker, wish: str, end: str) -> None:
    queued(engineer)
    attempt = worker.take()
    worker.tell(attempt, STARTED)
    assert engineer.post(f"{JOBS}/support-bot/{wish}").json()["state"] == "stopping"
    assert engineer.post(f"{JOBS}/support-bot/{wish}").json()["state"] == "stopping", "twice"
    assert [one["attempt"] for one in worker.sync(at(attempt))["stop"]] == [attempt]
    worker.finish(attempt, "stopped", step=3)
    assert job(engineer)["state"] == end
    assert worker.sync()["start"] == []
    answer = engineer.post(f"{JOBS}/support-bot/start")
    if end == "canceled":
        assert answer.status_code == 409
    else:
        assert answer.json()["state"] == "queued"
        (order,) = worker.sync()["start"]
        assert (order["number"], order["resume"]) == (2, True)


def test_a_job_that_waits_is_stopped_at_once(engineer: httpx.Client, worker: Worker) -> None:
    queued(engineer)
    assert engineer.post(f"{JOBS}/support-bot/pause").json()["state"] == "stopped"
    assert engineer.post(f"{JOBS}/support-bot/cancel").json()["state"] == "canceled"
    assert worker.sync()["start"] == []
    assert engineer.delete(f"{JOBS}/support-bot").status_code == 204
    assert engineer.get(f"{JOBS}/support-bot").status_code == 404


def test_a_job_that_is_cancelled_before_it_began_is_not_started(engineer: httpx.Client, worker: Worker) -> None:
    queued(engineer)
    attempt = worker.take()
    assert engineer.post(f"{JOBS}/support-bot/cancel").json()["state"] == "canceled"
    orders = worker.sync(at(attempt, "preparing"))
    assert orders["stop"] == [{"attempt": attempt, "grace": 0.0}], "it had taken the order meanwhile"
    assert worker.sync({"attempt": attempt, "state": "ended"})["forget"] == [attempt]
    assert worker.tell(attempt, STARTED).json()["code"] == "attempt_over"


def test_out_of_memory_is_tried_again_with_the_same_effective_batch(engineer: httpx.Client, worker: Worker) -> None:
    queued(engineer)
    seen = []
    for _ in range(4):
        (order,) = worker.sync()["start"]
        training = order["spec"]["training"]
        seen.append((training["micro_batch"], training["accumulation"], training["gradient_checkpointing"]))
        worker.finish(order["attempt"], "failed", 1, failure="oom", message="needs 5000 MiB of 4096")
    assert seen == [(4, 2, False), (2, 4, False), (1, 8, False), (1, 8, True)]
    found = job(engineer)
    assert (found["state"], found["failure"]) == ("failed", "oom")
    assert "needs 5000 MiB of 4096" in found["message"]
    assert found["runs"][0]["plan"] == {"micro_batch": 1, "accumulation": 8, "gradient_checkpointing": True}


def test_wrong_data_is_not_tried_again_and_trouble_of_the_machine_is(
    control: Running, engineer: httpx.Client, worker: Worker
) -> None:
    queued(engineer)
    worker.finish(worker.take(), "failed", 1, failure="data", message="row 3 is empty")
    assert (job(engineer)["state"], job(engineer)["message"]) == ("failed", "row 3 is empty")
    engineer.post(f"{JOBS}/support-bot/start")
    for number in range(3):
        control.sql("UPDATE training_job SET not_before = NULL")  # nobody waits for the pause between
        attempt = worker.take()
        worker.sync({"attempt": attempt, "state": "ended", "exit_status": -9})
        assert job(engineer)["state"] == ("queued" if number < 2 else "failed")
    assert job(engineer)["message"] == "the recipe ended with -9 (after 2 retries)"
    engineer.post(f"{JOBS}/support-bot/start")
    assert job(engineer)["retries"] == 0


def test_what_a_worker_has_lost_is_queued_again(engineer: httpx.Client, worker: Worker) -> None:
    queued(engineer)
    attempt = worker.take()
    worker.sync(at(attempt))
    worker.sync()  # it was started again and knows of nothing
    assert states(job(engineer))[-2:] == ["lost", "queued"]
    assert worker.tell(attempt, STARTED).json()["code"] == "attempt_over", "its old process still lives"
    assert job(engineer)["runs"][0]["state"] == "lost"


def test_a_silent_worker_loses_its_job_after_two_leases(
    control: Running, engineer: httpx.Client, worker: Worker
) -> None:
    queued(engineer)
    attempt = worker.take()
    worker.sync(at(attempt))
    lease = timedelta(seconds=120)
    asyncio.run(sweep(control.parts.db, lease))
    assert job(engineer)["runs"][0]["state"] == "running"
    long_ago = (datetime.now(UTC) - timedelta(seconds=121)).strftime("%Y-%m-%d %H:%M:%S.%f")
    control.sql("UPDATE training_attempt SET lease_until = ?", long_ago)
    asyncio.run(sweep(control.parts.db, lease, not_before=datetime.now(UTC) + lease))
    assert job(engineer)["runs"][0]["state"] == "running", "control itself has only just come back"
    asyncio.run(sweep(control.parts.db, lease))
    assert states(job(engineer))[-2:] == ["lost", "queued"]
    assert worker.sync(at(attempt))["stop"] == [{"attempt": attempt, "grace": 0.0}]


def test_a_device_is_never_claimed_twice(control: Running, engineer: httpx.Client, worker: Worker) -> None:
    queued(engineer)
    attempt = worker.take()
    with pytest.raises(sqlite3.IntegrityError):
        control.sql("INSERT INTO device_claim (worker, uuid, attempt_id) VALUES ('w1', 'cpu-0', ?)", attempt)
    worker.status["devices"] = [{**CPU[0]}, {**CPU[1], "held_by": "engine tiny"}]
    queued(engineer, "second")
    assert worker.sync(at(attempt))["start"] == [], "an engine has the other one"


@pytest.mark.parametrize(
    ("change", "at_", "words"),
    [
        ({"data": {"train": "dialogues@9"}}, "body.spec.data.train", "no version 'dialogues@9'"),
        ({"data": {"train": "dialogues"}}, "body.spec.data.train", "NAME@N"),
        ({"data": {"train": "nothing@1"}}, "body.spec.data.train", "no dataset 'nothing'"),
        ({"recipe": "lora_dpo"}, "body.spec.data.train", "needs preference"),
        ({"training": {"learning_rate": -1}}, "body.spec.training.learning_rate", "greater than 0"),
        ({"name": "a b"}, "body.spec.name", "match pattern"),
        ({"nonsense": 1}, "body.spec.nonsense", "Extra inputs"),
        ({"training": {"early_stop": 2}}, "body.spec", "needs training.eval_every"),
    ],
)
def test_a_wrong_spec_is_refused_with_its_place(
    engineer: httpx.Client, change: dict[str, Any], at_: str, words: str
) -> None:
    answer = engineer.post(JOBS, json={"spec": {**spec(), **change}})
    assert answer.status_code == 422, answer.text
    errors = answer.json()["errors"]
    assert any(error["at"] == at_ and words in error["message"] for error in errors), errors
    assert engineer.get(JOBS).json()["total"] == 0


def test_a_rule_that_keeps_the_result_from_being_served_is_told_before(engineer: httpx.Client) -> None:
    checked = engineer.post(f"{JOBS}/check", json={"spec": spec(lora={"r": 4, "dora": True})}).json()
    assert [one["code"] for one in checked["warnings"]] == ["servable"]
    assert "DoRA" in checked["warnings"][0]["message"]
    assert checked["refused"] == ""
    created = engineer.post(JOBS, json={"spec": spec(lora={"r": 4, "dora": True}), "draft": True}).json()
    assert (created["state"], created["warnings"]) == ("draft", checked["warnings"])
    assert engineer.post(f"{JOBS}/support-bot/start").json()["state"] == "queued"


def test_names_of_jobs_are_taken_once(engineer: httpx.Client) -> None:
    queued(engineer)
    answer = engineer.post(JOBS, json={"spec": spec()})
    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate_name")


def test_people_see_and_change_what_is_theirs(control: Running, engineer: httpx.Client, worker: Worker) -> None:
    queued(engineer)
    admin = control.admin
    person = {"username": "eve", "password": "correct horse battery", "role": "engineer"}
    assert admin.post("/api/v1/users", json=person).status_code == 201
    control.sql("UPDATE user_account SET must_change_password = 0")
    eve = control.as_("eve")
    assert eve.get(JOBS).json()["total"] == 0
    assert eve.get(f"{JOBS}/support-bot").status_code == 404
    assert eve.post(f"{JOBS}/support-bot/cancel").status_code == 404
    assert eve.get("/api/v1/datasets/dialogues").status_code == 404
    viewer = control.as_("viewer")
    assert viewer.get(f"{JOBS}/support-bot").json()["mine"] is False
    assert viewer.post(f"{JOBS}/support-bot/cancel").status_code == 403
    assert control.as_("operator").post(f"{JOBS}/support-bot/pause").json()["state"] == "stopped"
    engineer.post(f"{JOBS}/support-bot/cancel")
    trained(control, engineer, worker, "mine")
    dataset(eve, "hers")
    answer = eve.post(JOBS, json={"spec": spec("other", adapter="mine", data={"train": "hers@1"})})
    assert answer.status_code == 422, "nobody adds to the adapter of another"


def test_a_dataset_that_a_job_needs_is_not_deleted(engineer: httpx.Client, worker: Worker) -> None:
    queued(engineer)
    answer = engineer.delete("/api/v1/datasets/dialogues")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    attempt = worker.take()
    worker.finish(attempt)
    assert engineer.delete("/api/v1/datasets/dialogues").status_code == 204
    answer = engineer.post("/api/v1/datasets", json={"name": "dialogues"})
    assert answer.status_code == 409, "an adapter has learned from rows of this name"


def test_a_dataset_stays_while_a_failed_job_can_go_on_with_it(engineer: httpx.Client, worker: Worker) -> None:
    queued(engineer)
    worker.finish(worker.take(), "failed", 1, failure="data", message="row 3 is empty")
    answer = engineer.delete("/api/v1/datasets/dialogues")
    assert answer.json()["detail"].endswith("cancel or delete first support-bot (failed)")
    assert answer.status_code == 409
    assert engineer.post(f"{JOBS}/support-bot/start").json()["state"] == "queued", "its rows are still there"
    engineer.post(f"{JOBS}/support-bot/cancel")
    assert engineer.delete("/api/v1/datasets/dialogues").status_code == 204


def test_a_worker_is_told_which_of_its_jobs_are_over(control: Running, engineer: httpx.Client, worker: Worker) -> None:
    ids = []
    for name, wish in (("paused", "pause"), ("canceled", "cancel"), ("deleted", "cancel"), ("failed", "")):
        queued(engineer, name)
        (order,) = worker.sync()["start"]
        ids.append(order["job"])
        worker.tell(order["attempt"], STARTED)
        if wish:
            engineer.post(f"{JOBS}/{name}/{wish}")
        worker.status["jobs"] = ids
        worker.finish(order["attempt"], *(("stopped",) if wish else ("failed", 1)), failure="data")
    assert engineer.delete(f"{JOBS}/deleted").status_code == 204
    assert set(worker.sync()["over"]) == {ids[1], ids[2]}
    month = (datetime.now(UTC) - timedelta(days=31)).strftime("%Y-%m-%d %H:%M:%S.%f")
    control.sql("UPDATE training_job SET ended_at = ? WHERE name = 'failed'", month)
    asyncio.run(give_up(control.parts.db, timedelta(days=30)))
    assert set(worker.sync()["over"]) == {ids[1], ids[2], ids[3]}
    given_up = job(engineer, "failed")
    assert (given_up["state"], states(given_up)[-1]) == ("canceled", "canceled")
    assert "30 days" in given_up["events"][-1]["message"]
    assert job(engineer, "paused")["state"] == "stopped", "it ended today"


def test_the_page_of_a_job_leads_to_the_pages_of_its_workers_tracker(engineer: httpx.Client, worker: Worker) -> None:
    worker.status["dashboard"] = "http://lab:5092"
    queued(engineer)
    assert job(engineer)["dashboard"] == "", "no worker has it yet"
    worker.take()
    assert job(engineer)["dashboard"] == "http://lab:5092"
    worker.status["dashboard"] = ""
    worker.sync()
    assert job(engineer)["dashboard"] == ""
    wrong = [{"dashboard": one} for one in ("javascript:alert(1)", "http://" + "x" * 1020, "http://a b", 7)]
    for told in (*wrong, {"jobs": ["a\x00b"]}, {"jobs": "a"}):
        assert worker.client.post("/internal/v1/trainer/sync", json={**worker.status, **told}).status_code == 422, told


def test_after_a_restore_from_a_backup_a_worker_keeps_the_files_of_jobs_that_are_not_in_it(
    control: Running, engineer: httpx.Client, worker: Worker
) -> None:
    ids, attempts = [], []
    for name in ("in-the-backup", "later", "later-and-running"):
        queued(engineer, name)
        (order,) = worker.sync()["start"]
        ids.append(order["job"])
        attempts.append(order["attempt"])
        worker.status["jobs"] = ids
        if name != "later-and-running":
            worker.tell(order["attempt"], STARTED)
            worker.finish(order["attempt"], "failed", 1, failure="data")
    control.sql("DELETE FROM training_attempt WHERE job_id != ?", ids[0])  # what a database from before them has
    control.sql("DELETE FROM training_job WHERE id != ?", ids[0])
    orders = worker.sync({"attempt": attempts[1], "state": "ended", "exit_status": 1}, at(attempts[2]))
    assert (orders["over"], orders["unknown"]) == ([], sorted(ids[1:]))
    assert orders["forget"] == [attempts[1]], "not to be told of again"
    assert [one["attempt"] for one in orders["stop"]] == [attempts[2]], "nobody could take what comes out of it"
    (shown,) = engineer.get("/api/v1/trainers").json()["items"]
    assert shown["unknown_jobs"] == sorted(ids[1:])
    assert engineer.delete(f"{JOBS}/in-the-backup").status_code == 204
    orders = worker.sync()
    assert (orders["over"], orders["unknown"]) == ([ids[0]], sorted(ids[1:])), "deleted by somebody: that is known"
    worker.status["jobs"] = []
    assert worker.sync()["unknown"] == []
    assert engineer.get("/api/v1/trainers").json()["items"][0]["unknown_jobs"] == []


def test_files_that_arrive_broken_or_lead_astray_are_refused(engineer: httpx.Client, worker: Worker) -> None:
    queued(engineer)
    attempt = worker.take()
    assert worker.put(attempt, "adapter_config.json", b"{}", "0" * 64).json()["code"] == "wrong_hash"
    for path in ("..%2f..%2fetc%2fpasswd", "a/%2e%2e/b", ".hidden", "a%00b"):
        assert worker.put(attempt, path, b"x").status_code in (404, 422), path
    assert worker.put(attempt, "adapter/adapter_config.json", b"{}").status_code == 204
    worker.finish(attempt)
    assert worker.put(attempt, "late.json", b"{}").status_code == 409


def test_the_queue_is_changed_by_priority(engineer: httpx.Client) -> None:
    queued(engineer, "first")
    queued(engineer, "second")
    assert [job(engineer, name)["position"] for name in ("first", "second")] == [1, 2]
    assert engineer.patch(f"{JOBS}/second", json={"priority": 7}).json()["position"] == 1
    assert engineer.patch(f"{JOBS}/second", json={"priority": 1000}).status_code == 422
