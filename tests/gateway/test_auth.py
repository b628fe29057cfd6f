"""Who may call: keys, expiry, models, networks, and credentials that try to be clever."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.fakes.gateway import KEY, Gateway, digest, endpoint, key, route
from tests.fakes.http import Connection

NOW = datetime.now(UTC)
KEYS = {
    "expired": ({"expires_at": NOW - timedelta(seconds=5)}, 401, "policy_key"),
    "not yet expired": ({"expires_at": NOW + timedelta(hours=1)}, 200, None),
    "expires in another zone": (
        {"expires_at": (NOW - timedelta(minutes=5)).astimezone(timezone(timedelta(hours=8)))},
        401,
        "policy_key",
    ),
    "disabled": ({"enabled": False}, 401, "policy_key"),
    "granted by name": ({"models": ["gpt"]}, 200, None),
    "granted by prefix": ({"models": ["g*"]}, 200, None),
    "granted another": ({"models": ["other"]}, 403, "policy_access"),
    "granted a longer name": ({"models": ["gpt-4"]}, 403, "policy_access"),
    "granted nothing": ({"models": []}, 403, "policy_access"),
    "from loopback": ({"cidrs": ["127.0.0.0/8"]}, 200, None),
    "from this host alone": ({"cidrs": ["10.0.0.0/8", "127.0.0.1/32"]}, 200, None),
    "from elsewhere": ({"cidrs": ["10.0.0.0/8"]}, 403, "policy_access"),
    "from elsewhere, IPv6": ({"cidrs": ["2001:db8::/32"]}, 403, "policy_access"),
}


def secret(name: str) -> str:
    return "sk-tg-" + digest(name)[:40]


@pytest.fixture(scope="module")
def gateway(start, upstream, tmp_path_factory) -> Gateway:
    file = tmp_path_factory.mktemp("keys") / "key"
    file.write_text("sk-tg-from-a-file-0123456789\n")
    config = {
        "endpoint": [endpoint(upstream.url)],
        "route": [route("gpt", aliases=["nick"]), route("other"), route("wild/*")],
        "key": [
            key("tester"),
            *(key(f"k{i}", secret(name), **fields) for i, (name, (fields, _, _)) in enumerate(KEYS.items())),
            key("alias", secret("alias"), models=["nick"]),
            key("wild", secret("wild"), models=["wild/*"]),
            {"name": "by-env", "key": "env:BY_ENV"},
            {"name": "by-file", "key": f"file:{file}"},
        ],
    }
    return start(config, env={"BY_ENV": "sk-tg-from-the-environment"})


@pytest.mark.parametrize(("name", "status", "fault"), [(n, s, f) for n, (_, s, f) in KEYS.items()], ids=KEYS.keys())
def test_a_key_may_do_what_its_record_says(gateway, name, status, fault):
    reply = gateway.chat("gpt", secret=secret(name))
    assert (reply.status, reply.fault) == (status, fault)
    if status != 200:
        assert reply.error["type"]
        assert secret(name) not in reply.raw.decode()


@pytest.mark.parametrize("value", ["sk-tg-from-the-environment", "sk-tg-from-a-file-0123456789"])
def test_keys_may_come_from_references(gateway, value):
    assert gateway.chat("gpt", secret=value).status == 200


def test_a_grant_of_a_wildcard_route(gateway):
    assert gateway.chat("wild/thing", secret=secret("wild")).status == 200
    assert gateway.chat("gpt", secret=secret("wild")).status == 403


def test_a_grant_is_no_way_around_through_an_alias(gateway):
    """A key that may use `other` only gets nothing by another name of `gpt`."""
    assert gateway.chat("nick", secret=secret("granted another")).status == 403
    assert gateway.chat("nick", secret=secret("granted by name")).status == 200


HOSTILE = {
    "none": None,
    "empty": "",
    "no scheme": KEY,
    "basic": f"Basic {KEY}",
    "another scheme": f"Token {KEY}",
    "bearer alone": "Bearer",
    "bearer and a space": "Bearer ",
    "two values": f"Bearer {KEY} {KEY}",
    "two keys": f"Bearer {KEY},{KEY}",
    "a longer key": f"Bearer {KEY}x",
    "a shorter key": f"Bearer {KEY[:-1]}",
    "another case": f"Bearer {KEY.upper()}",
    "its digest": f"Bearer {digest(KEY)}",
    "quoted": f'Bearer "{KEY}"',
    "bytes that are not UTF-8": "Bearer \udcff\udcfe",
    "not ASCII": f"Bearer {KEY}é",
    "an injection": "Bearer ' OR 1=1 --",
    "very long": "Bearer " + "a" * 30_000,
    "percent-encoded": "Bearer %73k" + KEY[2:],
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
def test_a_hostile_authorization_is_401(gateway, upstream, value, path):
    before = len(upstream.requests)
    method, body = (
        ("GET", None) if path.endswith("models") else ("POST", b'{"model":"gpt","messages":[{"role":"user"}]}')
    )
    headers = {} if value is None else {"authorization": value}
    reply = gateway.call(method, path, body, secret=None, **headers)
    assert (reply.status, reply.fault) == (401, "policy_key")
    assert reply.error["code"] == "invalid_api_key"
    assert KEY not in reply.raw.decode("latin-1")
    assert len(upstream.requests) == before


@pytest.mark.parametrize("value", [f"bearer {KEY}", f"BEARER {KEY}", f"Bearer   {KEY}  "])
def test_the_scheme_is_not_case_sensitive(gateway, value):
    reply = gateway.call(
        "POST",
        "/v1/chat/completions",
        b'{"model":"gpt","messages":[{"role":"user"}]}',
        authorization=value,
    )
    assert reply.status == 200


def test_two_authorization_headers_are_not_a_choice(gateway):
    """Whichever is read, the wrong one must not be ignored for the right one (or it is a bad request)."""
    body = b'{"model":"gpt","messages":[{"role":"user"}]}'
    with Connection(gateway.url) as conn:
        conn.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer wrong\r\n"
            b"authorization: Bearer %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (KEY.encode(), len(body), body)
        )
        assert conn.response().status in (400, 401)


def test_a_key_in_the_query_or_the_body_is_no_key(gateway):
    body = json.dumps({"model": "gpt", "messages": [], "api_key": KEY}).encode()
    reply = gateway.call("POST", f"/v1/chat/completions?api_key={KEY}", body, secret=None)
    assert reply.status == 401


def test_an_unknown_model_is_told_only_to_a_known_key(gateway):
    reply = gateway.chat("nowhere")
    assert (reply.status, reply.fault) == (404, "caller_unknown_model")
    assert reply.error["code"] == "model_not_found"
    assert "nowhere" in reply.error["message"]
    assert gateway.chat("nowhere", secret="sk-tg-wrong").status == 401


def test_a_forwarded_address_does_not_change_who_calls(gateway):
    headers = {"x_forwarded_for": "10.1.2.3", "x_real_ip": "10.1.2.3", "forwarded": "for=10.1.2.3"}
    assert gateway.chat("gpt", secret=secret("from elsewhere"), headers=headers).status == 403
    assert gateway.chat("gpt", secret=secret("from loopback"), headers=headers).status == 200


# ---- models ----


def names(reply) -> set[str]:
    assert reply.status == 200
    assert reply.json["object"] == "list"
    assert all(m["object"] == "model" for m in reply.json["data"])
    return {m["id"] for m in reply.json["data"]}


def test_the_list_of_models_shows_what_the_key_may_use(gateway):
    assert {"gpt", "other"} <= names(gateway.call("GET", "/v1/models"))
    assert names(gateway.call("GET", "/v1/models", secret=secret("granted another"))) == {"other"}
    assert names(gateway.call("GET", "/v1/models", secret=secret("granted nothing"))) == set()


@pytest.mark.parametrize(
    ("model", "who", "status"),
    [
        ("gpt", None, 200),
        ("nowhere", None, 404),
        ("other", "granted by name", 404),
        ("gpt", "granted by name", 200),
        ("wild%2Fthing", None, 200),
        ("wild/thing", None, 200),
    ],
)
def test_one_model_is_shown_only_to_who_may_use_it(gateway, model, who, status):
    reply = gateway.call("GET", f"/v1/models/{model}", secret=secret(who) if who else KEY)
    assert reply.status in ((status, 403) if who and status == 404 else (status,))
    if status == 200:
        assert (reply.json["id"], reply.json["object"]) == (model.replace("%2F", "/"), "model")
    else:
        assert reply.error
