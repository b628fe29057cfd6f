"""GET /v1/models and /v1/models/{id}: what a key may use, from the running configuration."""

from __future__ import annotations

from typing import Any

from gateway.errors import GatewayError
from gateway.routing.resolver import find_route
from gateway.runtime import KeyRecord, Runtime


def _entry(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "tunegate"}


def _names(runtime: Runtime, key: KeyRecord) -> list[str]:
    """Route names and aliases that the key is granted; wildcard routes have no one name to list, drafts are in none."""
    listed = ((name, route) for name, route in runtime.routes.items() if not route.draft)
    return sorted(name for name, route in listed if key.may_use(route.name) or key.may_use(name))


def list_models(runtime: Runtime, key: KeyRecord, created: int) -> dict[str, Any]:
    """OpenAI's model list. `created` is Unix seconds: when the configuration was taken over."""
    return {"object": "list", "data": [_entry(name, created) for name in _names(runtime, key)]}


def get_model(runtime: Runtime, key: KeyRecord, name: str, created: int) -> dict[str, Any]:
    """One entry; a model that the key may not use is answered like one that does not exist."""
    route = find_route(runtime, name, key)
    if route is None or not (key.may_use(route.name) or key.may_use(name)):
        raise GatewayError("caller_unknown_model", f"The model {name[:200]!r} does not exist here.", param="model")
    return _entry(name, created)
