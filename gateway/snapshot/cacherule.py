"""How a route keeps answers, compiled. Its version is a digest of all that an answer, or its price, may depend on: the
route as the configuration says it, the endpoints of its targets, and the same of the routes that it falls back to. So
no change of the configuration ever leaves an old answer in use; a wrong one is forgotten by changing anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import orjson

from gateway.contract import snapshot as wire
from gateway.runtime import CacheRule, Endpoint
from gateway.snapshot.keytable import Problems

_NEUTRAL = frozenset(
    {
        b"idempotency-key", b"x-goog-api-client", b"x-data-parallel-rank", b"http-referer", b"x-title",
        b"x-client-name", b"traceparent", b"tracestate",
    }
)  # fmt: skip
"""Client headers that are handed on to some upstreams, and change no answer."""


def cache_rule(
    number: int, snapshot: wire.Snapshot, endpoints: Mapping[str, Endpoint], problems: Problems
) -> CacheRule | None:
    """The rule of route `number` of the snapshot; None if it keeps nothing."""
    spec = snapshot.routes[number].cache
    if spec is None:
        return None
    if spec.semantic is not None:
        _check_embedder(number, spec.semantic.route, snapshot, problems)
    places = {place.name: place for place in snapshot.endpoints}
    chain = list(_chain(snapshot, snapshot.routes[number]))
    if spec.semantic is not None:  # vectors of another model are of another space
        chain += [route for route in snapshot.routes if route.name == spec.semantic.route]
    names = sorted({target.endpoint for route in chain for target in route.targets} & endpoints.keys())
    told = [route.model_dump(mode="json") for route in chain]
    told += [places[name].model_dump(mode="json", exclude={"api_key"}) for name in names]
    headers = {header for name in names for header in endpoints[name].forward_headers}
    version = hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).digest()
    return CacheRule(spec, version, tuple(sorted(headers - _NEUTRAL)))


def _check_embedder(number: int, name: str, snapshot: wire.Snapshot, problems: Problems) -> None:
    place = ("route", number, "cache", "semantic", "route")
    found = next((route for route in snapshot.routes if route.name == name and not name.endswith("*")), None)
    if found is None:
        problems.append((place, f"no route is named {name!r} (aliases and wildcards do not count)"))
    elif found is snapshot.routes[number]:
        problems.append((place, "a route cannot embed its own questions"))


def _chain(snapshot: wire.Snapshot, first: wire.Route) -> Iterator[wire.Route]:
    """The route, the one that it falls back to, and so on; a loop is reported elsewhere."""
    routes = {route.name: route for route in snapshot.routes}
    seen: set[str] = set()
    route: wire.Route | None = first
    while route is not None and route.name not in seen:
        seen.add(route.name)
        yield route
        route = routes.get(route.fallback or "")
