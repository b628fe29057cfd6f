"""Conversations that the gateway keeps for /v1/responses: for their owner, for as long as is said, or not."""

from __future__ import annotations

import json
import os
import re
import stat
import time

import openai
import pytest

from gateway.errors import GatewayError
from gateway.kept import Kept
from gateway.objects import Objects
from tests.fakes import scripts
from tests.fakes.gateway import KEY, Gateway, endpoint, eventually, key, new_id, route
from tests.fakes.upstream import Seen, Upstream

OTHER = "sk-tg-other-0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    native = endpoint(upstream.url, "native", options={"api": "both"})
    return start(
        {
            "endpoint": [endpoint(upstream.url), native],
            "route": [route("x/*"), route("native/*", "native")],
            "key": [key("tester"), key("other", OTHER)],
        }
    )


def create(gateway: Gateway, **fields: object):
    body = {"model": "x/auto", "input": "Hi", **fields}
    return gateway.call("POST", "/v1/responses", json.dumps(body).encode())


def test_a_conversation_goes_on_from_a_kept_response(gateway, upstream):
    first = create(gateway, input="My name is Ada.").json
    second = create(gateway, input="What is my name?", previous_response_id=first["id"]).json
    third = create(gateway, input="And now?", previous_response_id=second["id"])
    assert third.status == 200
    said = [(m["role"], m["content"]) for m in upstream.requests[-1].json["messages"]]
    assert said == [
        ("user", "My name is Ada."),
        ("assistant", "w0 w1 "),
        ("user", "What is my name?"),
        ("assistant", "w0 w1 "),
        ("user", "And now?"),
    ]


def test_a_streamed_response_is_kept_before_its_end_is_told(gateway, upstream):
    reply = create(gateway, stream=True)
    last = json.loads(reply.body.split(b"event: response.completed\ndata: ")[1].split(b"\n")[0])["response"]
    kept = gateway.call("GET", f"/v1/responses/{last['id']}").json
    assert kept == last


def test_a_kept_response_is_read_listed_and_deleted(gateway):
    made = create(gateway, input=[{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]).json
    path = f"/v1/responses/{made['id']}"
    assert gateway.call("GET", path).json == made
    items = gateway.call("GET", f"{path}/input_items").json
    assert [item["content"] for item in items["data"]] == ["two", "one"]
    assert gateway.call("DELETE", path).json == {"id": made["id"], "object": "response", "deleted": True}
    assert [gateway.call(method, path).status for method in ("GET", "DELETE")] == [404, 404]
    again = create(gateway, previous_response_id=made["id"])
    assert (again.status, again.json["error"]["param"]) == (404, "previous_response_id")


def test_nobody_else_gets_a_response(gateway):
    made = create(gateway, input="secret").json
    path = f"/v1/responses/{made['id']}"
    for method in ("GET", "DELETE"):
        assert gateway.call(method, path, secret=OTHER).status == 404
        assert gateway.call(method, path, secret=None).status == 401
    body = json.dumps({"model": "x/auto", "input": "?", "previous_response_id": made["id"]}).encode()
    reply = gateway.call("POST", "/v1/responses", body, secret=OTHER)
    assert reply.status == 404
    assert gateway.call("GET", path).status == 200


@pytest.mark.parametrize("identity", ["..%2F..%2Fkeys", "%00", "x" * 5000, "resp_1%0d%0aX: y", "ü"])
def test_an_id_is_never_a_path(gateway, identity):
    assert gateway.call("GET", f"/v1/responses/{identity}").status in (400, 404)


def test_store_false_keeps_nothing(gateway):
    made = create(gateway, store=False).json
    assert made["store"] is False
    assert gateway.call("GET", f"/v1/responses/{made['id']}").status == 404


def test_only_the_gateway_may_read_the_files(gateway):
    create(gateway)
    files = [path for path in (gateway.data / "responses").rglob("*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert not [path for path in files if path.suffix], "a half-written file was left behind"


def test_a_failed_answer_is_not_kept(gateway, scripted):
    model = scripted(scripts.error(500))
    before = sum(path.is_file() for path in (gateway.data / "responses").rglob("*"))
    assert create(gateway, model=f"x/{model}").status == 500
    assert sum(path.is_file() for path in (gateway.data / "responses").rglob("*")) == before


def test_where_the_upstream_speaks_the_api_the_bytes_and_its_own_ids_pass(gateway, upstream, scripted):
    answer = b'{"id":"resp_theirs","object":"response", "output":[],"usage":{"input_tokens":3,"output_tokens":2}}'
    model = scripted(scripts.reply(answer))
    body = b'{"model":"native/%b","input":"Hi", "previous_response_id":"resp_before","odd":1.0}' % model.encode()
    reply = gateway.call("POST", "/v1/responses", body, x_request_id="native-1")
    assert reply.body == answer
    seen = upstream.requests[-1]
    assert seen.target == "/v1/responses"
    assert seen.body == body.replace(b"native/", b"")
    assert gateway.call("GET", "/v1/responses/resp_before").status == 404, "nobody knows whose that is"
    (row,) = eventually(lambda: gateway.rows("native-1"))
    assert (row["tokens"]["input"], row["tokens"]["output"], row["usage_source"]) == (3, 2, "provider")


class Keeper:
    """An upstream that keeps responses, as platform.openai.com/docs/api-reference/responses says (read 2026-11)."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, object]] = {}
        self.asked: list[str] = []

    def __call__(self, seen: Seen) -> list[scripts.Step]:
        self.asked.append(f"{seen.method} {seen.target}")
        path = seen.target.partition("?")[0].split("/")
        if seen.method == "POST" and path[-1] == "responses":
            identity = f"resp_{len(self.kept)}abc"
            made = {"id": identity, "object": "response", "created_at": 1, "model": "m", "output": [], "error": None,
                    "status": "completed", "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
                    "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}}  # fmt: skip
            self.kept[identity] = made
            if not seen.stream:
                return scripts.reply(json.dumps(made).encode())
            return scripts.stream(
                b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps({"type": kind, "response": made}).encode())
                for kind in ("response.created", "response.completed")
            )
        if path[3] not in self.kept:
            return scripts.error(404, "Response not found")
        if path[-1] == "input_items":
            return scripts.reply(b'{"object":"list","data":[],"has_more":false}')
        if seen.method == "DELETE":
            del self.kept[path[3]]
            return scripts.reply(json.dumps({"id": path[3], "object": "response", "deleted": True}).encode())
        return scripts.reply(json.dumps(self.kept[path[3]]).encode())


@pytest.fixture(scope="module")
def keeper():
    made = Keeper()
    with Upstream(default=made) as server:
        yield made, server.url


@pytest.fixture(scope="module")
def native(start, keeper) -> Gateway:
    places = [endpoint(keeper[1], "native", options={"api": "both"})]
    keys = [key("tester"), key("other", OTHER)]
    return start({"endpoint": places, "route": [route("native/*", "native")], "key": keys})


@pytest.mark.parametrize("stream", [False, True])
def test_what_an_upstream_keeps_is_read_and_deleted_there_by_its_owner(native, keeper, stream):
    with (
        openai.OpenAI(base_url=f"{native.url}/v1", api_key=KEY, max_retries=0) as client,
        openai.OpenAI(base_url=f"{native.url}/v1", api_key=OTHER, max_retries=0) as theirs,
    ):
        read_and_delete(native, keeper, stream, client, theirs)


def read_and_delete(native, keeper, stream: bool, client: openai.OpenAI, theirs: openai.OpenAI) -> None:
    if stream:
        events = list(client.responses.create(model="native/m", input="Hi", stream=True))
        assert [event.type for event in events] == ["response.created", "response.completed"]
        identity = events[0].response.id
    else:
        identity = client.responses.create(model="native/m", input="Hi").id
    rid = new_id()
    named = client.with_options(default_headers={"x-request-id": rid})
    again = named.responses.retrieve(identity, include=["file_search_call.results"])
    assert again.id == identity
    assert keeper[0].asked[-1] == f"GET /v1/responses/{identity}?include%5B%5D=file_search_call.results"
    row = native.row(rid)
    assert (row["operation"], row["route"], sum(row["tokens"].values())) == ("response_get", "native/*", 0)
    assert not list(client.responses.input_items.list(identity))
    before = len(keeper[0].asked)
    for attempt in (theirs.responses.retrieve, theirs.responses.delete, theirs.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            attempt(identity)
    assert len(keeper[0].asked) == before, "the upstream was never asked"
    client.responses.delete(identity)
    assert identity not in keeper[0].kept
    with pytest.raises(openai.NotFoundError, match="is yours"):
        client.responses.retrieve(identity)


def test_a_native_response_that_is_not_stored_is_not_noted(native):
    reply = create(native, model="native/m", store=False)
    assert native.call("GET", f"/v1/responses/{reply.json['id']}").status == 404


def test_notes_of_responses_go_when_they_are_old(tmp_path):
    objects = Objects(tmp_path)
    for kind in ("response", "file"):
        objects.note("me", "native", {"id": "x1", "object": kind})
    objects.sweep(time.time() - 100)
    assert objects.find("me", "response", "x1") == "native"
    objects.sweep(time.time() + 100)
    with pytest.raises(GatewayError):
        objects.find("me", "response", "x1")
    assert objects.find("me", "file", "x1") == "native"


def test_what_cannot_be_said_is_refused_by_name(gateway):
    reply = create(gateway, tools=[{"type": "web_search"}])
    error = reply.json["error"]
    assert (reply.status, error["code"]) == (400, "unsupported_parameter")
    assert error["param"].startswith("tools")


def test_without_days_nothing_is_kept(start, upstream):
    gateway = start({"gateway": {"responses_days": 0}, "endpoint": [endpoint(upstream.url)], "route": [route("x/*")]})
    made = create(gateway).json
    assert gateway.call("GET", f"/v1/responses/{made['id']}").status == 404
    assert not (gateway.data / "responses").exists()


def test_a_full_disk_loses_no_answer(start, upstream, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder should be")
    gateway = start(
        {
            "gateway": {"responses_dir": str(blocked)},
            "endpoint": [endpoint(upstream.url)],
            "route": [route("x/*")],
        }
    )
    assert create(gateway).status == 200
    metrics = gateway.call("GET", "/metrics", secret=None).body.decode()
    assert re.search(r"^tunegate_responses_not_kept\S* 1\.0$", metrics, re.MULTILINE), metrics
    assert any('"responses.not_kept"' in line for line in gateway.log_lines)


def test_replicas_share_a_folder(start, upstream, tmp_path):
    config = {
        "gateway": {"responses_dir": str(tmp_path / "shared")},
        "endpoint": [endpoint(upstream.url)],
        "route": [route("x/*")],
    }
    one, two = start(config), start(config)
    made = create(one, input="remember").json
    assert create(two, previous_response_id=made["id"]).status == 200


def test_what_is_too_old_goes(tmp_path):
    kept = Kept(tmp_path, days=1)
    now = time.time()
    kept.save("me", [], {"id": "resp_new", "created_at": now, "output": []})
    kept.save("me", [], {"id": "resp_old", "created_at": now - 90_000, "output": []})
    with pytest.raises(GatewayError):
        kept.find("me", "resp_old")
    old = next(path for path in tmp_path.rglob("*") if path.is_file() and b"resp_old" in path.read_bytes())
    os.utime(old, (now - 90_000, now - 90_000))
    assert kept.sweep(now) == 1
    assert kept.find("me", "resp_new")["response"]["id"] == "resp_new"
