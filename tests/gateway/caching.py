"""Shared by the tests of the response cache: routes with one, and what is heard through them."""

from __future__ import annotations

from typing import Any

from tests.fakes import scripts
from tests.fakes.gateway import Gateway, digest, endpoint, key, route
from tests.fakes.wire import Usage

PRICE = {"input": 1000.0, "output": 1000.0}
USED = Usage(7, 3)
GUARD = {"restore": True, "prompt": {"personal": ["phone"]}, "answer": {"keywords": ["falcon"]}}
JUDGE = {"route": "judge", "check": "answer", "on_failure": "open"}
FULL = 10_000_000
"""Nano-units that USED costs."""
KEYS: dict[str, dict[str, Any]] = {
    "ann": {"team": "red"},
    "ben": {"team": "red"},
    "cleo": {"team": "blue"},
    "alone": {},
    "alone-too": {},
    "few": {"limits": {"rpm": 2}},
    "poor": {"budget": [{"amount": 0.015, "window": "total"}]},
    "narrow": {"models": ["free/*"]},
}


def secret(name: str) -> str:
    return "sk-tg-" + digest(name)[:40]


def cached(name: str, *targets: Any, **more: Any) -> dict[str, Any]:
    """A route with a cache; `cache` changes its settings."""
    return route(name, *(targets or ("up",)), price=PRICE, cache={"ttl": 600.0, **more.pop("cache", {})}, **more)


def configuration(url: str) -> dict[str, Any]:
    """Routes with caches of every kind before the upstream at this URL; they are named after what is special."""
    return {
        "cache": {"max_bytes": 100_000},
        "endpoint": [endpoint(url)],
        "team": [{"name": "red"}, {"name": "blue"}],
        "route": [
            cached("c/*"),
            cached("team/*", cache={"scope": "team"}),
            cached("full/*", cache={"billing": 1.0}),
            cached("half/*", cache={"billing": 0.5}),
            cached("free/*", cache={"billing": 0.0}),
            cached("short/*", cache={"ttl": 0.3}),
            cached("small/*", cache={"max_bytes": 1024}),
            cached("prompted/*", system_prompt="Be kind."),
            cached("guarded/*", guard=GUARD),
            cached("judged/*", guard={"moderation": JUDGE}),
            route("judge", price=PRICE),
            cached("shadowed/*", shadow={"endpoint": "up", "model": "copy", "share": 1.0}, log={"bodies": "both"}),
            cached("spare/*", {"endpoint": "up", "model": "broken"}, fallback="rescue"),
            route("rescue", {"endpoint": "up", "model": "rescue"}, price=PRICE),
            route("plain/*"),
        ],
        "key": [key("tester"), *(key(name, secret(name), **fields) for name, fields in KEYS.items())],
    }  # fmt: skip


def heard(reply: Any) -> str:
    """What a chat answer says, streamed or not."""
    assert reply.status == 200, reply.body
    if (reply.header("content-type") or "").startswith("text/event-stream"):
        assert reply.body.endswith(b"data: [DONE]\n\n")
        chunks = scripts.payloads(reply.body)
        assert len({chunk["id"] for chunk in chunks}) == 1
        return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])  # type: ignore[attr-defined]
    return reply.json["choices"][0]["message"]["content"]


def asked(gateway: Gateway, model: str, **fields: Any) -> tuple[str, str]:
    """(what the cache had, what the client heard)."""
    reply = gateway.chat(model, **fields)
    return reply.header("x-tunegate-cache"), heard(reply)
