"""What would happen to a request for a model, and why: told by the same code that does it."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.errors import GatewayError
from gateway.limits.gate import NANO
from gateway.routing.balancer import choose
from gateway.routing.health import HealthBook
from gateway.routing.resolver import find_route, resolve
from gateway.runtime import KeyRecord, Route, Runtime, Scope, Watched


def explain(runtime: Runtime, model: str, key: KeyRecord | None, now: float) -> Iterator[str]:
    """Lines of text. `now` is Unix seconds. A fresh process knows no breaker states: all targets count as healthy."""
    if key is not None:
        yield from _about_key(key, now)
        try:
            route = resolve(runtime, key, model)
        except GatewayError as error:
            yield f"answer     {error.status} {error.code}: {error.message}"
            return
    else:
        found = find_route(runtime, model)
        if found is None:
            yield f"answer     404 caller_unknown_model: no route, alias or wildcard matches {model!r}"
            return
        route = found
    yield f"model      {model!r} → route {route.name!r}" + _how(route, model)
    for scope in (*(key.scopes if key else ()), *route.scopes):
        yield f"limit      {_scope(scope)}"
    visited: Route | None = route
    while visited is not None:
        yield from _about_route(visited, key.name if key is not None and visited.sticky_by == "key" else model)
        visited = runtime.routes.get(visited.fallback) if visited.fallback else None


def _about_key(key: KeyRecord, now: float) -> Iterator[str]:
    state = "enabled" if key.enabled else "DISABLED: 401"
    if key.expires_at is not None and now >= key.expires_at:
        state = "EXPIRED: 401"
    where = ", ".join(map(str, key.networks)) or "any address"
    yield f"key        {key.name!r}, team {key.team or '-'}, {state}, from {where}"


def _how(route: Route, model: str) -> str:
    if route.prefix is not None:
        return f" (wildcard {route.prefix}*)"
    return "" if route.name == model else " (alias)"


def _scope(scope: Scope) -> str:
    parts = [
        f"{value:g} {unit}"
        for value, unit in ((scope.rpm, "requests/min"), (scope.tpm, "tokens/min"), (scope.concurrency, "concurrent"))
        if value is not None
    ]
    parts += [f"budget {b.amount / NANO:g} per {b.window} ({b.zone.key})" for b in scope.budgets]
    return f"{scope.id}: " + ", ".join(parts)


def _about_route(route: Route, sticky: str) -> Iterator[str]:
    retry = route.retry
    yield (
        f"route      {route.name!r}: strategy {route.strategy}, at most {retry.max_attempts} attempts, "
        f"system prompt {'yes' if route.system_prompt else 'no'}, fallback {route.fallback or '-'}"
    )
    health, tried = HealthBook(), set[str]()
    while (target := choose(route, health, tried, 0.0, sticky=sticky, roll=lambda: 0.0)) is not None:
        tier = next(t for t in route.tiers if target in t)
        share = target.weight / sum(t.weight for t in tier)
        spec = target.endpoint.spec
        upstream = target.model or "the name asked for" + (f", less {route.prefix!r}" if route.prefix else "")
        yield (
            f"  target   {target.id}: tier {target.priority}, weight {target.weight} ({share:.0%} of its tier), "
            f"{spec.provider} at {spec.base_url or 'no URL'}, model {upstream}, first byte within "
            f"{target.timeouts.first_byte:g} s"
        )
        tried.add(target.id)
    for tier in route.tiers:
        for target in tier:
            if target.id not in tried:
                yield f"  target   {target.id}: weight 0, never used"
    if route.watched is not None:
        yield from _about_watched(route.watched)


def _about_watched(watched: Watched) -> Iterator[str]:
    if (shadow := watched.shadow) is not None:
        (target,) = shadow.route.tiers[0]
        yield (
            f"  shadow   {target.id.removesuffix(' (shadow)')}: {shadow.share:.2%} of the requests are copied to "
            f"{target.endpoint.spec.provider} at {target.endpoint.spec.base_url or 'no URL'}, at most "
            f"{shadow.concurrency} at a time for each worker"
        )
    if (cache := watched.cache) is not None:
        kept = cache.spec
        meaning = f"{kept.semantic.threshold:g} by {kept.semantic.route!r}" if kept.semantic is not None else "no"
        yield (
            f"  cache    answers up to {kept.max_bytes} bytes for {kept.ttl:g} s, for each {kept.scope}, at "
            f"{kept.billing:.0%} of their price; by meaning: {meaning}"
        )
    if (log := watched.log) is not None:
        spec = log.spec
        yield (
            f"  log      {spec.bodies}: {spec.share:.2%} of the requests, {spec.max_bytes} bytes a body, "
            f"{spec.keep_days} days, without {', '.join(spec.redact) or '-'} and {len(spec.redact_patterns)} patterns"
        )
