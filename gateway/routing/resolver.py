"""Model name → route, and whether the key may use it."""

from __future__ import annotations

from gateway.errors import GatewayError
from gateway.runtime import KeyRecord, Route, Runtime

LONGEST = 255
"""Characters of a model's name: as many as the ledger keeps. What the spool records of a request has a bound, too."""


def find_route(runtime: Runtime, model: str, key: KeyRecord | None = None) -> Route | None:
    """The route of a name, an alias, or the wildcard with the longest matching prefix; with a key, of those that are
    there for it."""
    found = runtime.routes.get(model)
    if found is None or (found.draft and key is not None and not key.sees(found)):
        found = None
        if len(model) > LONGEST:
            return None
        for wildcard in runtime.wildcards:
            prefix = wildcard.prefix or ""
            if model.startswith(prefix) and len(model) > len(prefix):
                return wildcard
    return found


def resolve(runtime: Runtime, key: KeyRecord, model: str) -> Route:
    """The route that serves a model for a key. GatewayError(caller_unknown_model | policy_access)."""
    route = find_route(runtime, model, key)
    if route is None:
        raise GatewayError(
            "caller_unknown_model",
            f"The model {model[:200]!r} does not exist here. GET /v1/models lists the models that your key may use.",
            param="model",
        )
    if not (key.may_use(route.name) or key.may_use(model)):
        raise GatewayError(
            "policy_access",
            f"The API key {key.name!r} may not use the model {model[:200]!r}. Ask your administrator to grant it.",
            param="model",
        )
    return route
