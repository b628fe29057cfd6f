"""Adapters over the API: uploaded, deployed by a worker that does what the test says, published, rolled back."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running
from tests.control.api.training import CONFIG, Worker, dataset, trained, weights

ADAPTERS = "/api/v1/adapters"
BASE = {"id": "/models/tiny"}


def engine(name: str = "tiny", **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "base": "tiny", "model": "/models/tiny", "url": f"http://127.0.0.1:81{len(name):02}",
        "state": "ready", "max_loras": 4, "max_lora_rank": 16, "adapters": [], **changes,
    }  # fmt: skip


@pytest.fixture
def engineer(control: Running) -> httpx.Client:
    client = control.as_("engineer")
    dataset(client)
    return client


@pytest.fixture
def worker(control: Running) -> Worker:
    return Worker(control)


def version(client: httpx.Client, number: int = 1, name: str = "support-bot") -> dict[str, Any]:
    items = client.get(f"{ADAPTERS}/{name}").json()["items"]
    found: dict[str, Any] = next(one for one in items if one["number"] == number)
    return found


def has(worker: Worker, *names: str, state: str = "loaded", message: str = "") -> dict[str, Any]:
    """The engine says that it has these; its orders."""
    adapters = [{"name": name, "state": state, "message": message} for name in names]
    worker.status["engines"] = [engine(adapters=adapters)]
    (orders,) = worker.sync()["engines"]
    found: dict[str, Any] = orders
    return found


def both_live(control: Running, client: httpx.Client, worker: Worker) -> None:
    """Versions 1 and 2 of support-bot are live on the worker's engine; the first one has the name."""
    dataset(client)
    trained(control, client, worker)
    trained(control, client, worker, "again")
    its = "adapter_id = (SELECT id FROM adapter WHERE name = 'support-bot'), number = 2"
    control.sql(f"UPDATE adapter_version SET {its} WHERE job = 'again'")
    worker.status["engines"] = [engine()]
    worker.sync()
    post(client, "support-bot/versions/1/deploy", {"share": 1.0})
    has(worker, "support-bot@v1")
    post(client, "support-bot/versions/2/deploy")
    has(worker, "support-bot@v1", "support-bot@v2")


def post(client: httpx.Client, path: str, body: Any = None, status: int = 200) -> Any:
    answer = client.post(f"{ADAPTERS}/{path}", json=body or {})
    assert answer.status_code == status, answer.text
    return answer.json()


def targets(control: Running, route: str = "support-bot") -> list[tuple[str, int]]:
    found = control.admin.get(f"/api/v1/routes/{route}").json()["spec"]["target"]
    return [(one["model"], one["weight"]) for one in found]


def uploaded(client: httpx.Client, name: str, config: dict[str, Any] | None = None, content: bytes = b"") -> int:
    number = int(post(client, f"{name}/versions", {"base": BASE}, 201)["items"][0]["number"])
    path = f"{ADAPTERS}/{name}/versions/{number}/files"
    config_text = json.dumps(CONFIG if config is None else config).encode()
    assert client.put(f"{path}/adapter_config.json", content=config_text).status_code == 204
    assert client.put(f"{path}/adapter_model.safetensors", content=content or weights()).status_code == 204
    return number


def test_publish_canary_promote_roll_back_retire(control: Running, engineer: httpx.Client, worker: Worker) -> None:
    probes = [{"messages": [{"role": "user", "content": "hi"}], "text": "ho"}]
    trained(control, engineer, worker, probes=probes)
    trained(control, engineer, worker, "again")
    its = "adapter_id = (SELECT id FROM adapter WHERE name = 'support-bot'), number = 2"
    control.sql(f"UPDATE adapter_version SET {its} WHERE job = 'again'")
    worker.status["engines"] = [engine()]
    worker.sync()
    post(engineer, "support-bot/versions/1/deploy", {"share": 1.0})
    assert version(engineer)["deployments"][0]["state"] == "placing"
    (order,) = has(worker)["adapters"]
    assert order["name"] == "support-bot@v1"
    assert order["probes"] == probes
    content = worker.client.get(f"/internal/v1/trainer/adapters/{order['adapter']}/files/adapter_model.safetensors")
    assert content.content == weights()
    assert control.admin.get("/api/v1/routes/support-bot").status_code == 404, "not before it is live"
    has(worker, "support-bot@v1")
    assert version(engineer)["deployments"][0]["state"] == "live"
    assert targets(control) == [("support-bot@v1", 1000)]
    assert targets(control, "support-bot@v1") == [("support-bot@v1", 1)]
    assert version(engineer)["share"] == 1.0

    post(engineer, "support-bot/versions/2/deploy", {"share": 0.1})
    has(worker, "support-bot@v1", "support-bot@v2")
    assert targets(control) == [("support-bot@v2", 100), ("support-bot@v1", 900)]
    assert version(engineer, 2)["share"] == pytest.approx(0.1)
    post(engineer, "support-bot/versions/2/promote", {"share": 1.0})
    assert targets(control) == [("support-bot@v2", 1000)]
    post(engineer, "support-bot/rollback")
    assert targets(control) == [("support-bot@v2", 100), ("support-bot@v1", 900)]
    post(engineer, "support-bot/versions/1/promote", {"share": 1.0})
    assert post(engineer, "support-bot/versions/1/retire", status=409)["code"] == "published"
    post(engineer, "support-bot/versions/2/retire")
    assert control.admin.get("/api/v1/routes/support-bot@v2").status_code == 404
    assert len(has(worker, "support-bot@v1", "support-bot@v2")["adapters"]) == 2, "requests on their way still end"
    control.sql("UPDATE deployment SET drain_until = '2020-01-01 00:00:00' WHERE state = 'draining'")
    assert [one["name"] for one in has(worker, "support-bot@v1", "support-bot@v2")["adapters"]] == ["support-bot@v1"]
    actions = [row["action"] for row in control.admin.get("/api/v1/audit?per_page=200").json()["items"]]
    assert {"deploy", "deployment", "promote", "rollback", "retire", "register"} <= set(actions)


def test_a_version_is_routed_once_all_its_engines_have_it(control: Running, engineer: httpx.Client) -> None:
    one, two = Worker(control, "w1"), Worker(control, "w2", devices=[])
    trained(control, engineer, one)
    one.status["engines"], two.status["engines"] = [engine()], [engine("other")]
    for worker in (one, two):
        worker.sync()
    post(engineer, "support-bot/versions/1/deploy", {"share": 1.0})
    has(one, "support-bot@v1")
    assert control.admin.get("/api/v1/routes/support-bot").status_code == 404
    two.status["engines"] = [engine("other", adapters=[{"name": "support-bot@v1", "state": "evicted"}])]
    two.sync()
    spec = control.admin.get("/api/v1/routes/support-bot").json()["spec"]
    assert [target["endpoint"] for target in spec["target"]] == ["engine-other", "engine-tiny"]


def test_what_an_engine_refuses_is_said(control: Running, engineer: httpx.Client, worker: Worker) -> None:
    trained(control, engineer, worker)
    path = "support-bot/versions/1/deploy"
    assert "no engine is running" in post(engineer, path, status=409)["detail"]
    worker.status["engines"] = [engine(model="/models/other")]
    worker.sync()
    assert "was trained on /models/tiny" in post(engineer, path, status=409)["detail"]
    worker.status["engines"] = [engine(max_lora_rank=2)]
    worker.sync()
    assert "its rank is 4" in post(engineer, path, status=409)["detail"]
    worker.status["engines"] = [engine()]
    worker.sync()
    post(engineer, path)
    has(worker, "support-bot@v1", state="failed", message="its answers are not those after training")
    placed = version(engineer)["deployments"][0]
    assert (placed["state"], placed["message"]) == ("failed", "its answers are not those after training")
    post(engineer, path)
    assert version(engineer)["deployments"][0]["state"] == "placing", "tried again"


def test_an_engine_that_went_away_degrades_and_comes_back(
    control: Running, engineer: httpx.Client, worker: Worker
) -> None:
    trained(control, engineer, worker)
    worker.status["engines"] = [engine()]
    worker.sync()
    post(engineer, "support-bot/versions/1/deploy")
    has(worker, "support-bot@v1")
    worker.status["engines"] = [engine(state="starting")]
    worker.sync()
    assert version(engineer)["deployments"][0]["state"] == "degraded"
    has(worker, "support-bot@v1")
    assert version(engineer)["deployments"][0]["state"] == "live"
    assert targets(control, "support-bot@v1") == [("support-bot@v1", 1)]


def test_answers_of_an_adapter_cost_what_was_said_or_what_its_base_model_does(
    control: Running, engineer: httpx.Client, worker: Worker
) -> None:
    trained(control, engineer, worker)
    worker.status["engines"] = [engine()]
    worker.sync()
    body = {"name": "base-here", "provider": "vllm", "spec": {"base_url": f"{engine()['url']}/v1"}}
    assert control.admin.post("/api/v1/endpoints", json=body).status_code == 201
    target = {"endpoint": "base-here", "model": engine()["base"]}
    price = {"input": "1.5", "output": "6"}
    route = {"name": "the-base", "spec": {"target": [target], "price": price}}
    assert control.admin.post("/api/v1/routes", json=route).status_code == 201
    post(engineer, "support-bot/versions/1/deploy", {"share": 1.0})
    has(worker, "support-bot@v1")

    def priced(name: str) -> dict[str, str]:
        (found,) = control.admin.get(f"/api/v1/routes/{name}").json()["spec"]["target"]
        return {key: value for key, value in (found["price"] or {}).items() if value is not None}

    assert priced("support-bot@v1") == priced("support-bot") == price
    mine = {"input": "2", "output": "0"}
    post(engineer, "support-bot/versions/1/promote", {"share": 1.0, "price": mine})
    assert priced("support-bot@v1") == priced("support-bot") == mine
    post(engineer, "support-bot/versions/1/deploy", {"share": 1.0})
    assert priced("support-bot@v1") == mine, "what was said stays"
    post(engineer, "support-bot/versions/1/deploy", {"share": 1.0, "price": price})
    assert priced("support-bot@v1") == priced("support-bot") == price
    for wrong in ({"input": "-1"}, {"input": "x"}, {"colour": "1"}, 7, {"input": "1" * 40}):
        post(engineer, "support-bot/versions/1/deploy", {"share": 1.0, "price": wrong}, 422)
        post(engineer, "support-bot/versions/1/promote", {"share": 1.0, "price": wrong}, 422)


def test_without_any_price_of_the_base_there_is_none(control: Running, engineer: httpx.Client, worker: Worker) -> None:
    trained(control, engineer, worker)
    worker.status["engines"] = [engine()]
    worker.sync()
    post(engineer, "support-bot/versions/1/deploy")
    has(worker, "support-bot@v1")
    (target,) = control.admin.get("/api/v1/routes/support-bot@v1").json()["spec"]["target"]
    assert target.get("price") is None
    (endpoint,) = control.admin.get("/api/v1/endpoints").json()["items"]
    book = {"endpoint": endpoint["name"], "model": engine()["base"], "price": {"input": "3", "output": "4"}}
    assert control.admin.post("/api/v1/prices", json=book | {"source": "ours"}).status_code == 201
    post(engineer, "support-bot/versions/1/deploy")
    (target,) = control.admin.get("/api/v1/routes/support-bot@v1").json()["spec"]["target"]
    assert target["price"]["input"] == "3"


def test_an_engine_that_others_run_is_reached_through_the_endpoint_of_its_address(
    control: Running, engineer: httpx.Client, worker: Worker
) -> None:
    trained(control, engineer, worker)
    body = {"name": "far-away", "provider": "vllm", "spec": {"base_url": "http://127.0.0.1:9/v1"}}
    assert control.admin.post("/api/v1/endpoints", json=body).status_code == 201
    worker.status["engines"] = [engine(name="far", url="http://127.0.0.1:9", external=True)]
    worker.sync()
    (shown,) = control.admin.get("/api/v1/trainers").json()["items"]
    assert shown["engines"][0]["external"] is True
    post(engineer, "support-bot/versions/1/deploy", {"share": 1.0})
    said = {"name": "support-bot@v1", "state": "failed", "message": "it has no way to load adapters: start it with it"}
    worker.status["engines"] = [engine(name="far", url="http://127.0.0.1:9", external=True, adapters=[said])]
    worker.sync()
    (placed,) = version(engineer)["deployments"]
    assert (placed["state"], placed["message"]) == ("failed", said["message"])
    assert worker.sync()["engines"][0]["adapters"] == []
    post(engineer, "support-bot/versions/1/deploy", {"share": 1.0})
    said |= {"state": "loaded", "message": ""}
    worker.status["engines"] = [engine(name="far", url="http://127.0.0.1:9", external=True, adapters=[said])]
    worker.sync()
    (target,) = control.admin.get("/api/v1/routes/support-bot").json()["spec"]["target"]
    assert (target["endpoint"], target["model"]) == ("far-away", "support-bot@v1")


def test_a_route_that_happens_to_have_the_name_is_not_taken_over(
    control: Running, engineer: httpx.Client, worker: Worker
) -> None:
    trained(control, engineer, worker)
    worker.status["engines"] = [engine()]
    worker.sync()
    admin = control.admin
    assert admin.post("/api/v1/endpoints", json={"name": "dummy", "provider": "dummy", "spec": {}}).status_code == 201
    body = {"name": "support-bot", "spec": {"target": [{"endpoint": "dummy", "model": "x"}]}}
    assert admin.post("/api/v1/routes", json=body).status_code == 201
    answer = post(engineer, "support-bot/versions/1/deploy", {"share": 1.0}, 409)
    assert answer["code"] == "name_taken"
    assert post(engineer, "support-bot/rollback", status=409)["code"] == "name_taken"
    assert targets(control) == [("x", 1)]


def test_an_uploaded_folder_is_checked_and_comes_back_whole(engineer: httpx.Client) -> None:
    assert engineer.post(ADAPTERS, json={"name": "mine"}).status_code == 201
    number = uploaded(engineer, "mine")
    done = post(engineer, f"mine/versions/{number}/complete")["items"][0]
    assert (done["state"], done["rank"], done["problems"]) == ("ready", 4, [])
    assert post(engineer, f"mine/versions/{number}/complete")["items"][0]["state"] == "ready", "twice"
    path = f"{ADAPTERS}/mine/versions/{number}"
    late = engineer.put(f"{path}/files/adapter_config.json", content=b"{}")
    assert (late.status_code, late.json()["code"]) == (409, "immutable")
    with tarfile.open(fileobj=io.BytesIO(engineer.get(f"{path}/archive").content)) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}  # type: ignore[union-attr]
    assert files == {
        "mine-v1/adapter_config.json": json.dumps(CONFIG).encode(), "mine-v1/adapter_model.safetensors": weights(),
    }  # fmt: skip
    assert engineer.get(f"{path}/files/adapter_model.safetensors").content == weights()
    assert engineer.get(f"{path}/files/nothing.json").status_code == 404


@pytest.mark.parametrize(
    ("config", "content", "words"),
    [
        ({"peft_type": "IA3", "r": 4}, b"", "peft_type LORA"),
        ({**CONFIG, "r": "4"}, b"", "not a rank"),
        ([], b"", "no JSON object"),
        (None, b"junk", "no safetensors file"),
        (None, (1 << 40).to_bytes(8, "little") + b"{}", "no safetensors file"),
        (None, weights()[:-1], "not whole"),
    ],
)
def test_what_is_no_adapter_is_refused(engineer: httpx.Client, config: Any, content: bytes, words: str) -> None:
    engineer.post(ADAPTERS, json={"name": "mine"})
    number = uploaded(engineer, "mine", config, content)
    answer = post(engineer, f"mine/versions/{number}/complete", status=422)
    assert answer["code"] == "not_an_adapter"
    assert words in answer["detail"]


@pytest.mark.parametrize(
    "change",
    [
        {"use_dora": True},
        {"init_lora_weights": "pissa"},
        {"modules_to_save": ["lm_head"]},
        {"r": 128},
        {"bias": "all"},
    ],
)
def test_what_engines_refuse_is_said_of_an_uploaded_folder(engineer: httpx.Client, change: dict[str, Any]) -> None:
    engineer.post(ADAPTERS, json={"name": "mine"})
    number = uploaded(engineer, "mine", {**CONFIG, **change})
    done = post(engineer, f"mine/versions/{number}/complete")["items"][0]
    assert len(done["problems"]) == 1
    assert post(engineer, f"mine/versions/{number}/deploy", status=409)["code"] == "not_servable"


def test_files_that_could_be_programs_are_refused(engineer: httpx.Client) -> None:
    engineer.post(ADAPTERS, json={"name": "mine"})
    number = uploaded(engineer, "mine")
    for name in ("adapter_model.bin", "training_args.pt", "x.py", "x.pkl"):
        answer = engineer.put(f"{ADAPTERS}/mine/versions/{number}/files/{name}", content=b"x")
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_file"), name


def test_others_see_no_adapter_that_is_not_theirs(control: Running, engineer: httpx.Client) -> None:
    engineer.post(ADAPTERS, json={"name": "mine"})
    person = {"username": "eve", "password": "correct horse battery", "role": "engineer"}
    assert control.admin.post("/api/v1/users", json=person).status_code == 201
    control.sql("UPDATE user_account SET must_change_password = 0")
    eve = control.as_("eve")
    assert eve.get(ADAPTERS).json()["total"] == 0
    assert eve.get(f"{ADAPTERS}/mine").status_code == 404
    assert eve.post(f"{ADAPTERS}/mine/versions", json={"base": BASE}).status_code == 404
    assert control.as_("member").get(ADAPTERS).status_code == 403
