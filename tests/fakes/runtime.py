"""Compiled configurations and contexts for tests that call the gateway's parts directly."""

from __future__ import annotations

import time
from typing import Any

from gateway.api.chat import CHAT
from gateway.context import Context, new_id
from gateway.contract import snapshot as wire
from gateway.runtime import Runtime
from gateway.snapshot.compile import compile_snapshot

ENDPOINTS = [{"name": name, "provider": "openai", "base_url": f"http://{name}.example"} for name in "abcdef"]
DIGEST = "0" * 64


def compiled(**tables: Any) -> Runtime:
    """A Runtime of endpoints `a` to `f`, one key, and the given tables of a snapshot."""
    return compile_snapshot(
        wire.Snapshot.model_validate({"endpoint": ENDPOINTS, "key": [{"name": "k", "sha256": DIGEST}], **tables})
    )


def route(name: str, *targets: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A route table; a target without a model has the route's name there."""
    return {"name": name, "target": [{"model": name, **t} for t in targets or ({"endpoint": "a"},)], **fields}


def context(runtime: Runtime, body: bytes, request_id: str = "r-1") -> Context:
    """An admitted chat request of the runtime's first key for its first route."""
    key, pinned = next(iter(runtime.keys.values())), next(iter(runtime.routes.values()))
    call = CHAT.parse(body)
    return Context(CHAT, runtime, key, call, pinned, new_id(), request_id, time.monotonic(), time.time())
