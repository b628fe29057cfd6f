"""Endpoints and their credentials: what is refused, who may, what a secret can never do."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.control.api.conftest import Running

URL = "https://api.example.com/v1"
SECRET = "sk-live-0123456789abcdefghijklmnop"
ENDPOINTS = "/api/v1/endpoints"


def make(control: Running, name: str = "main", provider: str = "openai", **spec: Any) -> dict[str, Any]:
    spec = {"base_url": URL, **spec} if provider != "dummy" else spec
    answer = control.admin.post(ENDPOINTS, json={"name": name, "provider": provider, "spec": spec})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def add(control: Running, endpoint: str = "main", name: str = "one", secret: str = SECRET) -> Any:
    return control.admin.post(f"{ENDPOINTS}/{endpoint}/credentials", json={"name": name, "secret": secret})


def test_the_life_of_an_endpoint(control: Running) -> None:
    made = make(control)
    assert made["spec"]["timeouts"]["connect"] == 5.0
    assert (made["row_version"], made["enabled"], made["credentials"]) == (1, True, [])
    assert control.as_("engineer").get(f"{ENDPOINTS}/main").json() == made
    patch = {"row_version": 1, "spec": {"base_url": URL, "max_connections": 7}, "enabled": False}
    changed = control.as_("operator").patch(f"{ENDPOINTS}/main", json=patch).json()
    assert (changed["spec"]["max_connections"], changed["enabled"], changed["row_version"]) == (7, False, 2)
    assert control.admin.patch(f"{ENDPOINTS}/main", json=patch).status_code == 409
    same = control.admin.patch(f"{ENDPOINTS}/main", json={**patch, "row_version": 2}).json()
    assert same["row_version"] == 2, "nothing changed"
    assert control.admin.delete(f"{ENDPOINTS}/main").status_code == 204
    assert control.admin.get(f"{ENDPOINTS}/main").status_code == 404
    done = control.sql("SELECT actor, action FROM audit_log WHERE resource_kind = 'endpoint' ORDER BY seq")
    assert done == [("admin", "create"), ("operator", "update"), ("admin", "delete")]


@pytest.mark.parametrize(
    ("provider", "spec", "at"),
    [
        ("nobody", {}, "body.provider"),
        ("openai", {}, "body.spec.base_url"),
        ("openai", {"base_url": "ftp://x/v1"}, "body.spec.base_url"),
        ("openai", {"base_url": "https://user:pw@x/v1"}, "body.spec.base_url"),
        ("openai", {"base_url": "https://x:99999/v1"}, "body.spec.base_url"),
        ("openai", {"base_url": "http://169.254.169.254/latest"}, "body.spec.base_url"),
        ("openai", {"base_url": "http://[::ffff:169.254.169.254]/latest"}, "body.spec.base_url"),
        ("openai", {"base_url": "https://x/" + "a" * 5000}, "body.spec.base_url"),
        ("openai", {"base_url": 7}, "body.spec.base_url"),
        ("openai", {"base_url": URL, "proxy": "http://u:p@proxy:3128"}, "body.spec.proxy"),
        ("openai", {"base_url": URL, "ca_file": "../x.pem"}, "body.spec.ca_file"),
        ("openai", {"base_url": URL, "api_key": "sk-x"}, "body.spec.api_key"),
        ("openai", {"base_url": URL, "surprise": 1}, "body.spec.surprise"),
        ("openai", {"base_url": URL, "max_connections": "many"}, "body.spec.max_connections"),
        ("openai", {"base_url": URL, "max_connections": 0}, "body.spec.max_connections"),
        ("openai", {"base_url": URL, "timeouts": {"connect": -1}}, "body.spec.timeouts.connect"),
        ("openai", {"base_url": URL, "headers": {"Authorization": "x"}}, "body.spec.headers.Authorization"),
        ("openai", {"base_url": URL, "headers": {"X-Api-Key": "x"}}, "body.spec.headers.X-Api-Key"),
        ("openai", {"base_url": URL, "headers": {"x-auth-token": "x"}}, "body.spec.headers.x-auth-token"),
        ("openai", {"base_url": URL, "headers": {"Host": "other"}}, "body.spec.headers.Host"),
        ("openai", {"base_url": URL, "headers": {"x-é": "x"}}, "body.spec.headers.x-é"),
        ("openai", {"base_url": URL, "headers": {"x-a": "x\r\ny: z"}}, "body.spec.headers"),
        ("openai", {"base_url": URL, "forward_headers": ["authorization"]}, "body.spec.forward_headers.0"),
        ("openai", {"base_url": URL, "options": {"delay": 1}}, "body.spec.options.delay"),
        ("dummy", {"options": {"delay": "long"}}, "body.spec.options.delay"),
        ("dummy", {"options": {"fail": 200}}, None),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    control: Running, provider: str, spec: dict[str, Any], at: str | None
) -> None:
    answer = control.admin.post(ENDPOINTS, json={"name": "x", "provider": provider, "spec": spec})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert at is None or at in [error["at"] for error in answer.json()["errors"]]
    assert control.sql("SELECT * FROM endpoint") == []


@pytest.mark.parametrize(
    "body",
    [
        {"name": "", "provider": "dummy", "spec": {}},
        {"name": "a" * 65, "provider": "dummy", "spec": {}},
        {"name": "a+2", "provider": "dummy", "spec": {}},
        {"name": "a/b", "provider": "dummy", "spec": {}},
        {"name": "a", "provider": "dummy", "spec": []},
        {"name": "a", "provider": "dummy"},
        {"name": "a", "provider": "dummy", "spec": {}, "id": "x"},
        [],
    ],
)
def test_bodies_that_are_refused(control: Running, body: Any) -> None:
    assert control.admin.post(ENDPOINTS, json=body).status_code == 422


@pytest.mark.parametrize("path", [ENDPOINTS, "/api/v1/routes", "/api/v1/routes/validate"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"name":"x","provider":"dummy","spec":{"\\ud800":1}}',
        b'{"name":"\\ud800","provider":"dummy","spec":{}}',
        b'{"name":"x","provider":"dummy","spec":{"timeouts":{"connect":NaN}}}',
        b'{"name":"x","provider":"dummy","spec":{"options":{"delay":Infinity}}}',
        b'{"name":"x","provider":"dummy","spec":{"ca_file":"/a\\u0000b"}}',
        b'{"name":"x","provider":"dummy","spec":{"base_url":"http://[::1"}}',
        b'{"name":"x","provider":"dummy","spec":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"name":"x","provider":"dummy","spec":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bytes_that_no_parser_likes(control: Running, path: str, body: bytes) -> None:
    answer = control.admin.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert control.sql("SELECT count(*) FROM endpoint") == control.sql("SELECT count(*) FROM route") == [(0,)]


def test_a_taken_name_and_search_for_signs(control: Running) -> None:
    make(control, "a_b")
    make(control, "axb", "dummy")
    assert control.admin.post(ENDPOINTS, json={"name": "axb", "provider": "dummy", "spec": {}}).status_code == 409
    for search, found in (("a_b", ["a_b"]), ("%", []), ("A", ["a_b", "axb"]), ("dumm", ["axb"])):
        listed = control.admin.get(ENDPOINTS, params={"search": search}).json()
        assert [item["name"] for item in listed["items"]] == found, search
    paged = control.admin.get(ENDPOINTS, params={"per_page": 1, "page": 2}).json()
    assert (paged["total"], [item["name"] for item in paged["items"]]) == (2, ["axb"])
    assert control.admin.get(ENDPOINTS, params={"per_page": 1000}).status_code == 422


def test_a_secret_is_in_no_answer_no_audit_row_and_nowhere_in_the_database(control: Running) -> None:
    make(control)
    answers = [
        add(control),
        add(control),
        add(control, name="short", secret="tiny"),
        add(control, secret="a b" + SECRET),
    ]
    assert [a.status_code for a in answers] == [201, 409, 201, 422]
    assert answers[0].json()["masked"] == "sk-…mnop"
    assert answers[2].json()["masked"] == "…"
    answers += [control.admin.get(path) for path in (ENDPOINTS, f"{ENDPOINTS}/main", f"{ENDPOINTS}/main/credentials")]
    answers.append(control.admin.patch(f"{ENDPOINTS}/main/credentials/one", json={"enabled": False, "secret": SECRET}))
    answers.append(control.admin.patch(f"{ENDPOINTS}/main/credentials/one", json={"enabled": False}))
    assert [a.status_code for a in answers[-2:]] == [422, 200]
    assert not any(SECRET in a.text or "tiny" in a.text for a in answers)
    assert SECRET not in control.everything()
    assert SECRET[-4:] not in str(control.sql("SELECT state_before, state_after FROM audit_log"))
    assert control.admin.delete(f"{ENDPOINTS}/main/credentials/one").status_code == 204
    assert control.admin.delete(f"{ENDPOINTS}/main/credentials/one").status_code == 404
    assert control.sql("SELECT name FROM credential") == [("short",)]


@pytest.mark.parametrize(
    "secret", ["env:HOME", "file:/etc/passwd", "ENV:HOME", "sealed:x", "", "a\nb", "ключ", "x" * 9000]
)
def test_what_is_no_secret(control: Running, secret: str) -> None:
    make(control)
    answer = add(control, secret=secret)
    assert answer.status_code == 422
    assert control.sql("SELECT * FROM credential") == []


@pytest.mark.parametrize(
    "spec",
    [
        {"base_url": "https://evil.example.net/v1"},
        {"base_url": "http://api.example.com/v1"},
        {"base_url": "https://api.example.com:8443/v1"},
        {"base_url": URL, "proxy": "http://evil.example.net:3128"},
        {"base_url": URL, "ca_file": "/tmp/mine.pem"},
    ],
)
def test_credentials_do_not_follow_to_another_place(control: Running, spec: dict[str, Any]) -> None:
    make(control)
    add(control)
    patch = {"row_version": 1, "spec": spec}
    answer = control.admin.patch(f"{ENDPOINTS}/main", json=patch)
    assert (answer.status_code, answer.json()["code"]) == (409, "credential_bound")
    path = {"row_version": 1, "spec": {"base_url": URL + "/other/path"}}
    assert control.admin.patch(f"{ENDPOINTS}/main", json=path).status_code == 200
    moved = control.admin.patch(f"{ENDPOINTS}/main", json={**patch, "row_version": 2, "drop_credentials": True})
    assert moved.status_code == 200
    assert moved.json()["credentials"] == []
    assert control.sql("SELECT * FROM credential") == []
    dropped = control.sql("SELECT action FROM audit_log WHERE resource = 'main/one' ORDER BY seq")
    assert dropped == [("create",), ("delete",)]


def test_an_endpoint_in_use_stays(control: Running) -> None:
    make(control)
    add(control)
    spec = {"target": [{"endpoint": "main", "model": "m"}]}
    assert control.admin.post("/api/v1/routes", json={"name": "chat", "spec": spec}).status_code == 201
    answer = control.admin.delete(f"{ENDPOINTS}/main")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert "chat" in answer.json()["detail"]
    assert control.admin.delete("/api/v1/routes/chat").status_code == 204
    assert control.admin.delete(f"{ENDPOINTS}/main").status_code == 204
    assert control.sql("SELECT * FROM credential") == []


def test_of_two_edits_at_once_one_is_told_to_load_again(control: Running) -> None:
    make(control)
    clients, codes = [control.as_("admin"), control.as_("operator")], []

    def edit(number: int) -> None:
        spec = {"base_url": URL, "max_queue": number}
        codes.append(clients[number].patch(f"{ENDPOINTS}/main", json={"row_version": 1, "spec": spec}).status_code)

    threads = [threading.Thread(target=edit, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200, 409]


@pytest.mark.parametrize(
    ("role", "read", "write", "test"),
    [
        ("admin", 200, 201, 200),
        ("operator", 200, 201, 403),
        ("engineer", 200, 403, 403),
        ("member", 403, 403, 403),
        ("viewer", 403, 403, 403),
    ],
)
def test_who_may(control: Running, role: str, read: int, write: int, test: int) -> None:
    make(control, "there", "dummy")
    client = control.as_(role)
    assert client.get(ENDPOINTS).status_code == read
    assert client.post(ENDPOINTS, json={"name": "new", "provider": "dummy", "spec": {}}).status_code == write
    secret = client.post(f"{ENDPOINTS}/there/credentials", json={"name": "c", "secret": "s3cret"})
    assert secret.status_code == write
    assert client.post(f"{ENDPOINTS}/there/test").status_code == test
    assert control.anonymous().get(ENDPOINTS).status_code == 401
