"""Files and batches: where they go without a model, whose they are, and that nobody else gets at them."""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import openai
import pytest

from tests.fakes import scripts
from tests.fakes.forms import TYPE, File, form
from tests.fakes.gateway import KEY, Gateway, endpoint, key, new_id, route
from tests.fakes.upstream import Seen, Upstream

OTHER = "sk-tg-other-0123456789abcdefghijklmnopqrstuvwxyz"
NARROW = "sk-tg-narrow-123456789abcdefghijklmnopqrstuvwxyz"
PAYING = "sk-tg-paying-123456789abcdefghijklmnopqrstuvwxyz"
LINES = b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}\n'


class Shelf:
    """A vendor that keeps files and batches, as platform.openai.com/docs/api-reference says (read 2026-11)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._numbers = itertools.count(1)
        self.contents: dict[str, bytes] = {}
        self.objects: dict[str, dict[str, object]] = {}

    def __call__(self, seen: Seen) -> list[scripts.Step]:
        path = seen.target.partition("?")[0].removeprefix("/v1/").split("/")
        if seen.method == "POST":
            return self._json(self._made(seen, path))
        if path[1] not in self.objects:
            return scripts.error(404, f"No such File object: {path[1]}")
        if seen.method == "DELETE":
            del self.objects[path[1]]
            return self._json({"id": path[1], "object": "file", "deleted": True})
        if path[-1] == "content":
            return scripts.reply(self.contents[path[1]], kind="application/octet-stream")
        return self._json(self.objects[path[1]])

    def _json(self, document: dict[str, object]) -> list[scripts.Step]:
        return scripts.reply(json.dumps(document).encode())

    def _made(self, seen: Seen, path: list[str]) -> dict[str, object]:
        if path[-1] == "cancel":
            self.objects[path[1]]["status"] = "cancelling"
            return self.objects[path[1]]
        kind = {"files": "file", "batches": "batch"}[path[0]]
        identity = f"{kind}-{self._name}{next(self._numbers)}"
        made: dict[str, object] = {"id": identity, "object": kind, "created_at": 1_700_000_000 + len(self.objects)}
        if kind == "file":
            content = seen.body.split(b"\r\n\r\n")[-1].rpartition(b"\r\n--")[0]
            self.contents[identity] = content
            purpose = "batch" if b"\r\n\r\nbatch\r\n" in seen.body else "user_data"
            made |= {"bytes": len(content), "filename": "a.jsonl", "purpose": purpose, "status": "processed"}
        else:
            asked = seen.json
            made |= {"endpoint": asked["endpoint"], "input_file_id": asked["input_file_id"], "status": "in_progress",
                     "completion_window": "24h", "output_file_id": None}  # fmt: skip
        self.objects[identity] = made
        return made

    def finish(self, batch: str) -> str:
        """The batch is done; its output file."""
        output = f"file-{self._name}out{next(self._numbers)}"
        self.contents[output] = b'{"custom_id":"1"}\n'
        self.objects[output] = {"id": output, "object": "file", "purpose": "batch_output", "created_at": 1_700_000_500,
                                "bytes": 18, "filename": "out.jsonl", "status": "processed"}  # fmt: skip
        done = {"status": "completed", "output_file_id": output, "usage": {"input_tokens": 9, "output_tokens": 9}}
        self.objects[batch] |= done
        return output


@pytest.fixture(scope="module")
def shelves():
    made = Shelf("a"), Shelf("b")
    with Upstream(default=made[0]) as first, Upstream(default=made[1]) as second:
        yield dict(zip("ab", zip(made, (first, second), strict=True), strict=True))


@pytest.fixture(scope="module")
def gateway(start, shelves) -> Gateway:
    budget = [{"amount": 1, "window": "day"}]
    return start(
        {
            "endpoint": [
                endpoint(shelves["a"][1].url, "a"), endpoint(shelves["b"][1].url, "b"),
                endpoint(shelves["b"][1].url, "claude", provider="anthropic"),
            ],
            "route": [route("a/*", "a"), route("b/*", "b"), route("claude/*", "claude"),
                      route("mixed", "claude/x", "b/x", price={"input": 1})],
            "key": [key("tester"), key("other", OTHER), key("narrow", NARROW, models=["a/*", "claude/*"]),
                    key("paying", PAYING, budget=budget)],
        }
    )  # fmt: skip


@pytest.fixture
def sdk(gateway: Gateway) -> Iterator[Callable[..., openai.OpenAI]]:
    """Makes a client of a key, for a model."""
    with ExitStack() as clients:

        def make(secret: str = KEY, model: str = "a/x") -> openai.OpenAI:
            headers = {"x-tunegate-model": model} if model else {}
            return clients.enter_context(
                openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=secret, max_retries=0, default_headers=headers)
            )

        yield make


def upload(client: openai.OpenAI, content: bytes = LINES, purpose: str = "batch"):
    return client.files.create(file=("a.jsonl", io.BytesIO(content)), purpose=purpose)  # type: ignore[arg-type]


def test_the_official_client_uploads_reads_lists_and_deletes(gateway, sdk, shelves):
    client = sdk()
    content = os.urandom(2_000_000).replace(b"\r\n", b"xx")
    made = upload(client, content, "user_data")
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == content
    assert made.id in [one.id for one in client.files.list(purpose="user_data")]
    assert made.id not in [one.id for one in client.files.list(purpose="batch")]
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)
    assert made.id not in [one.id for one in client.files.list()]
    assert made.id not in shelves["a"][0].objects


def test_each_request_is_one_row_without_tokens(gateway):
    rid = new_id()
    body = form(purpose="user_data", file=File(b"x"))
    headers = {"content_type": TYPE.decode(), "x_request_id": rid, "x_tunegate_model": "b/x"}
    made = gateway.call("POST", "/v1/files", body, **headers)
    assert made.status == 200, made
    assert made.header("x-tunegate-target") == "b/b/*"
    row = gateway.row(rid)
    assert (row["operation"], row["route"], row["endpoint"], row["end"]) == ("file_create", "b/*", "b", "success")
    assert not any(row["tokens"].values())


def test_nobody_else_gets_at_a_file_or_a_batch(gateway, sdk, shelves):
    mine, theirs = sdk(), sdk(OTHER)
    file = upload(mine)
    batch = mine.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    before = len(shelves["a"][1].requests)
    for attempt in (
        lambda: theirs.files.retrieve(file.id),
        lambda: theirs.files.content(file.id),
        lambda: theirs.files.delete(file.id),
        lambda: theirs.batches.retrieve(batch.id),
        lambda: theirs.batches.cancel(batch.id),
        lambda: theirs.batches.create(input_file_id=file.id, endpoint="/v1/x", completion_window="24h"),  # type: ignore[arg-type]
        lambda: mine.files.retrieve("file-never"),
        lambda: mine.files.retrieve("../../etc/passwd"),
    ):
        with pytest.raises(openai.NotFoundError):
            attempt()
    assert len(shelves["a"][1].requests) == before, "the provider was never asked"
    assert not list(theirs.files.list())
    assert not list(theirs.batches.list())


def test_a_batch_goes_where_its_file_is_and_its_output_is_its_owners(gateway, sdk, shelves):
    client = sdk(model="b/x")
    file = upload(client)
    anywhere = sdk(model="")
    made = anywhere.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert made.id in shelves["b"][0].objects
    assert anywhere.batches.cancel(made.id).status == "cancelling"
    output = shelves["b"][0].finish(made.id)
    with pytest.raises(openai.NotFoundError):
        sdk(OTHER).files.content(output)
    rid = new_id()
    done = anywhere.with_options(default_headers={"x-request-id": rid}).batches.retrieve(made.id)
    assert (done.status, done.output_file_id) == ("completed", output)
    assert not any(gateway.row(rid)["tokens"].values()), "looking at a batch costs nothing, however often"
    assert anywhere.files.content(output).read() == b'{"custom_id":"1"}\n'
    assert {made.id: "completed"}.items() <= {one.id: one.status for one in anywhere.batches.list()}.items()
    with pytest.raises(openai.NotFoundError):
        sdk(OTHER).files.content(output)


def test_without_a_header_the_only_endpoint_is_meant_and_of_several_one_must_be_named(gateway, sdk, shelves):
    assert upload(sdk(NARROW, model="")).id in shelves["a"][0].objects
    with pytest.raises(openai.BadRequestError, match="x-tunegate-model, such as a/"):
        upload(sdk(model=""))


def test_the_first_target_of_a_route_that_has_files_is_meant(gateway, sdk, shelves):
    assert upload(sdk(model="mixed")).id in shelves["b"][0].objects
    with pytest.raises(openai.BadRequestError, match="has an API for file_create"):
        upload(sdk(model="claude/x"))
    with pytest.raises(openai.PermissionDeniedError):
        upload(sdk(NARROW, model="b/x"))
    with pytest.raises(openai.NotFoundError):
        upload(sdk(model="nothing"))


@pytest.mark.parametrize(("secret", "why"), [(NARROW, "only some"), (PAYING, "none of its limits")])
def test_who_may_use_only_some_models_or_some_money_makes_no_batches(gateway, sdk, secret, why):
    client = sdk(secret)
    file = upload(client)
    with pytest.raises(openai.PermissionDeniedError, match=why):
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")


def test_lists_come_in_pages(gateway, sdk):
    client = sdk(OTHER)
    made = [upload(client, purpose="user_data").id for _ in range(5)]
    pages = client.files.list(limit=2)
    assert [len(page.data) for page in pages.iter_pages()] == [2, 2, 1]
    assert [one.id for one in client.files.list(limit=2)] == made[::-1]
    assert [one.id for one in client.files.list(limit=3, order="asc")] == made
    for limit in ("0", "x", "10001"):
        assert gateway.call("GET", f"/v1/files?limit={limit}").error["param"] == "limit"
    assert gateway.call("GET", "/v1/files", secret=None).status == 401


def test_the_providers_own_404_reaches_the_owner(gateway, sdk, shelves):
    client = sdk()
    file = upload(client)
    del shelves["a"][0].objects[file.id]
    with pytest.raises(openai.NotFoundError, match="No such File object"):
        client.files.retrieve(file.id)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/batches", b"{}", 400),
        ("POST", "/v1/batches", b'{"input_file_id":["x"]}', 400),
        ("POST", "/v1/files", b"{}", 415),
        ("PUT", "/v1/files", b"{}", 405),
        ("PATCH", "/v1/files/file-x", None, 404),
        ("GET", "/v1/files/file-x/other", None, 404),
        ("GET", "/v1/files/" + "x" * 400, None, 404),
        ("DELETE", "/v1/batches/b", None, 404),
    ],
)
def test_what_there_is_not_is_said(gateway, method, path, body, status):
    assert gateway.call(method, path, body).status == status


def test_owners_outlive_a_restart_and_lie_where_only_the_gateway_reads(gateway, sdk):
    file = upload(sdk())
    assert {path.stat().st_mode & 0o77 for path in (gateway.data / "objects").rglob("*.json")} == {0}
    gateway.stop()
    gateway.start()
    assert sdk().files.retrieve(file.id).id == file.id
