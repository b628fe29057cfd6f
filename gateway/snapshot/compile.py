"""Wire snapshot -> Runtime: cross-checks every reference, resolves secrets, builds the indexes.

All mistakes are collected and raised together as one ConfigError; nothing half-built ever leaves this module.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import orjson
from pydantic import ValidationError

from gateway.contract import session, snapshot as wire
from gateway.contract.headers import wrong_headers
from gateway.contract.providers import KINDS
from gateway.errors import ConfigError, Place
from gateway.guarded import Guard
from gateway.providers.auth import proxy_lines, secret_parts
from gateway.providers.operations import FORMS, METHODS
from gateway.providers.registry import PROVIDERS
from gateway.redact import Redactor
from gateway.runtime import Endpoint, LogRule, Prices, Route, Runtime, ShadowRule, Target, Watched
from gateway.snapshot.cacherule import cache_rule
from gateway.snapshot.keytable import KeyTable, Problems, collector_at_rest, duplicates, nano, scope_of
from gateway.snapshot.secrets import Credential, plain_credential, secret


def compile_snapshot(snapshot: wire.Snapshot) -> Runtime:
    """Build the Runtime of one snapshot, or raise ConfigError with every mistake in it."""
    with collector_at_rest():
        table = KeyTable(snapshot.teams)
        table.add(snapshot.keys)
        return assemble(snapshot, table)


def assemble(
    snapshot: wire.Snapshot,
    table: KeyTable,
    credential: Credential = plain_credential,
    *,
    shared: bool = False,
    session_key: str | None = None,
) -> Runtime:
    """Build the Runtime of a snapshot whose keys are in the table already; ConfigError as above.

    `shared`: other gateways have the same configuration. What is wrong with this machine alone, such as a file that
    is missing here, then makes its endpoint unusable instead of being a mistake. `session_key`: as in `SnapshotHead`.
    """
    problems: Problems = []
    endpoints = _endpoints(snapshot, credential, problems, shared)
    routes = _routes(snapshot, endpoints, problems)
    runtime = Runtime(
        version=snapshot.version,
        keys=table.records,
        routes=_index(routes, problems),
        wildcards=tuple(sorted((r for r in routes if r.prefix is not None), key=lambda r: -len(r.prefix or ""))),
        endpoints=endpoints,
        session_key=session.public_key(session_key) if session_key is not None else None,
    )
    _check_fallbacks(snapshot, runtime, problems)
    if not shared:
        _check_moderation(snapshot, runtime, problems)
    problems += table.problems
    if problems:
        raise ConfigError(problems)
    return runtime


def ca_trouble(spec: wire.Endpoint) -> str | None:
    """Why the endpoint's bundle of authorities cannot be used on this machine, or None."""
    if not spec.ca_file:
        return None
    path = Path(spec.ca_file)
    try:
        if not path.is_file():
            return f"the file {spec.ca_file} does not exist"
        found = path.stat()
    except OSError as exc:
        return f"the file {spec.ca_file} cannot be read ({exc.strerror})"
    return _bundle_trouble(spec.ca_file, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=256)  # of every version of a file: a bundle of all public authorities takes 10 ms to parse
def _bundle_trouble(path: str, _changed: int, _size: int) -> str | None:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:  # which is an OSError
        return f"the file {path} is no PEM bundle of certificates"
    except OSError as exc:
        return f"the file {path} cannot be read ({exc.strerror})"
    return None


def _endpoints(
    snapshot: wire.Snapshot, credential: Credential, problems: Problems, shared: bool
) -> dict[str, Endpoint]:
    duplicates((e.name for e in snapshot.endpoints), "endpoint", problems)
    built: dict[str, Endpoint] = {}
    for i, spec in enumerate(snapshot.endpoints):
        place: Place = ("endpoint", i)
        provider = PROVIDERS.get(spec.provider)
        if provider is None:
            known = ", ".join(PROVIDERS)
            problems.append(((*place, "provider"), f"no provider is called {spec.provider!r}; there are {known}"))
            continue
        if not spec.base_url and provider.kind != "dummy":
            problems.append(((*place, "base_url"), "base_url is missing, such as https://api.example.com/v1"))
            continue
        if wrong := _options(spec):
            problems += [((*place, "options", name), text) for name, text in wrong]
            continue
        problems += [((*place, *at), text) for at, text in wrong_headers(spec.headers, spec.forward_headers)]
        unusable = ca_trouble(spec)
        if unusable is not None and not shared:
            problems.append(((*place, "ca_file"), unusable))
            continue
        try:
            built[spec.name] = _endpoint(spec, credential(spec), unusable)
        except ValueError as exc:
            problems.append(((*place, "api_key"), str(exc)))
    return built


def _options(spec: wire.Endpoint) -> list[tuple[str, str]]:
    """What is wrong with the settings of the provider kind: the name of each, and why."""
    try:
        KINDS[spec.provider].options.model_validate(spec.options)
    except ValidationError as exc:
        known = ", ".join(KINDS[spec.provider].options.model_fields) or "none"
        return [
            (str(error["loc"][0]), f"{error['msg']}; options of {spec.provider}: {known}")
            for error in exc.errors(include_url=False, include_input=False)
        ]
    return []


def _endpoint(spec: wire.Endpoint, api_key: str | None, unusable: str | None) -> Endpoint:
    provider = PROVIDERS[spec.provider].at(spec.base_url, spec.options)
    url = urlsplit(spec.base_url or "http://dummy.invalid")
    tls = url.scheme == "https"
    host, port = url.hostname or "", url.port or (443 if tls else 80)
    constant = [(b"host", url.netloc.rpartition("@")[2].encode()), *provider.headers(api_key)]
    constant += [(name.lower().encode(), value.encode()) for name, value in spec.headers.items()]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in constant)
    prefix = url.path.rstrip("/").encode()
    if spec.proxy and not tls:
        prefix = f"http://{url.netloc.rpartition('@')[2]}".encode() + prefix  # a plain proxy wants the absolute form
        lines += proxy_lines(spec.proxy)
    heads, stream_heads = (
        {op: _head(op, prefix + provider.path(op, stream), lines) for op in provider.operations}
        for stream in (False, True)
    )
    identity = (spec.name, spec.base_url, spec.ca_file, unusable, spec.proxy, spec.max_connections, spec.max_queue)
    return Endpoint(
        name=spec.name,
        provider=provider,
        spec=spec,
        pool_key=hashlib.sha256("\0".join(map(str, identity)).encode()).hexdigest()[:16],
        host=host,
        port=port,
        tls=tls,
        heads=heads,
        stream_heads=stream_heads,
        wires={operation: wire for operation in provider.operations if (wire := provider.wire(operation))},
        dialect=provider.dialect.operation,
        model_in_path=any(b"{model}" in provider.path(op, False) for op in provider.operations),
        forward_headers=provider.forward_headers | {h.lower().encode() for h in spec.forward_headers},
        max_response_bytes=spec.max_response_bytes,
        proxy=spec.proxy,
        secrets=tuple(v.encode() for v in (*secret_parts(api_key or ""), *spec.headers.values()) if len(v) >= 8),
        options=dict(spec.options),
        auth=provider.auth(api_key, url.netloc.rpartition("@")[2], spec.options),
        unusable=unusable,
    )


def _head(operation: str, target: bytes, lines: bytes) -> bytes:
    """Request line and constant headers; a form's content-type is the client's, since it holds the boundary."""
    method = METHODS.get(operation, b"POST")
    json = method == b"POST" and operation not in FORMS
    kind = b"content-type: application/json\r\n" if json else b""
    return b"%b %b HTTP/1.1\r\n%b%b" % (method, target, lines, kind)


def _prices(price: wire.Price) -> Prices:
    def either(own: Decimal | None, default: Decimal) -> int:
        return nano(default if own is None else own)

    return Prices(
        input=nano(price.input),
        cache_read=either(price.cached_input, price.input),
        cache_write=either(price.cache_write, price.input),
        output=nano(price.output),
        reasoning=either(price.reasoning, price.output),
    )


def _routes(snapshot: wire.Snapshot, endpoints: dict[str, Endpoint], problems: Problems) -> list[Route]:
    duplicates((r.name for r in snapshot.routes), "route", problems)
    specs = {spec.name for spec in snapshot.endpoints}
    routes: list[Route] = []
    for i, spec in enumerate(snapshot.routes):
        prefix = spec.name[:-1] if spec.name.endswith("*") else None
        targets: list[Target] = []
        for j, target in enumerate(spec.targets):
            place: Place = ("route", i, "target", j)
            endpoint = endpoints.get(target.endpoint)
            if endpoint is None:
                if target.endpoint not in specs:
                    problems.append(((*place, "endpoint"), f"no [[endpoint]] is named {target.endpoint!r}"))
                continue
            if not target.model and prefix is None:
                problems.append(((*place, "model"), "model is missing; only a wildcard route may leave it out"))
                continue
            targets.append(_target(spec, target, endpoint))
        if not any(t.weight for t in spec.targets):
            problems.append((("route", i, "target"), f"every target of {spec.name!r} has weight 0; none would be used"))
        tiers = tuple(tuple(t for t in targets if t.priority == tier) for tier in sorted({t.priority for t in targets}))
        route = _route(spec, prefix, tiers)
        shadow = _shadow(i, spec, route, endpoints, specs, problems)
        log, cache = _log(spec.log), cache_rule(i, snapshot, endpoints, problems)
        watched = Watched(log, shadow, cache) if log or shadow or cache else None
        routes.append(replace(route, watched=watched, guard=_guard(i, spec, problems)))
    return routes


def _route(spec: wire.Route, prefix: str | None, tiers: tuple[tuple[Target, ...], ...]) -> Route:
    scope = scope_of("route", spec.name, spec.limits)
    return Route(
        name=spec.name,
        aliases=spec.aliases,
        prefix=prefix,
        tiers=tiers,
        sole=tiers[0][0] if tiers and len(tiers[0]) == 1 and tiers[0][0].weight else None,
        strategy=spec.strategy,
        sticky_by=spec.sticky_by,
        fallback=spec.fallback,
        system_prompt=spec.system_prompt,
        retry=spec.retry,
        breaker=spec.breaker,
        scopes=(scope,) if scope.limited else (),
        head=b"x-tunegate-route: " + _visible(spec.name) + b"\r\n",
        facts=b'"route":' + orjson.dumps(spec.name),
        has_steps=spec.system_prompt is not None or spec.knowledge is not None or spec.guard is not None,
        knowledge=spec.knowledge,
        draft=spec.draft,
    )


def _shadow(
    number: int, spec: wire.Route, route: Route, endpoints: dict[str, Endpoint], specs: set[str], problems: Problems
) -> ShadowRule | None:
    """The shadow as a route of its own: one target, one attempt. Its names hold spaces, so no real one is called so."""
    shadow = spec.shadow
    if shadow is None:
        return None
    endpoint, place = endpoints.get(shadow.endpoint), ("route", number, "shadow")
    if shadow.endpoint not in specs:
        problems.append(((*place, "endpoint"), f"no [[endpoint]] is named {shadow.endpoint!r}"))
    if not shadow.model and route.prefix is None:
        problems.append(((*place, "model"), "model is missing; only a wildcard route may leave it out"))
    if endpoint is None or not shadow.share:
        return None
    wanted = wire.Target(endpoint=shadow.endpoint, model=shadow.model, price=shadow.price)
    made = _target(spec, wanted, endpoint)
    target = replace(made, id=f"{made.id} (shadow)")
    own = replace(
        route, name=f"{spec.name} (shadow)", tiers=((target,),), sole=target, strategy="weighted", fallback=None,
        retry=wire.Retry(max_attempts=1), scopes=(),
    )  # fmt: skip
    return ShadowRule(own, shadow.share, shadow.concurrency)


def _guard(number: int, spec: wire.Route, problems: Problems) -> Guard | None:
    if spec.guard is None:
        return None
    try:
        key = secret(spec.guard.webhook.secret) if spec.guard.webhook is not None else ""
    except ValueError as exc:
        problems.append((("route", number, "guard", "webhook", "secret"), str(exc)))
        return None
    return Guard(spec.guard, key.encode())


def _log(spec: wire.Log) -> LogRule | None:
    if spec.bodies == "none" or not spec.share:
        return None
    redactor = Redactor(spec.redact, spec.redact_patterns)
    return LogRule(spec, redactor, spec.bodies in ("request", "both"), spec.bodies in ("response", "both"))


def _target(route: wire.Route, target: wire.Target, endpoint: Endpoint) -> Target:
    return Target(
        id=f"{endpoint.name}/{target.model or route.name}",
        endpoint=endpoint,
        model=target.model,
        weight=target.weight,
        priority=target.priority,
        prices=_prices(target.price or route.price),
        timeouts=route.timeouts or endpoint.spec.timeouts,
        head=b"x-tunegate-target: " + _visible(f"{endpoint.name}/{target.model or route.name}") + b"\r\n",
        facts=(orjson.dumps(endpoint.name), orjson.dumps(target.model)),
    )


def _visible(name: str) -> bytes:
    """A name as a header value."""
    return name.encode("ascii", "backslashreplace")


def _index(routes: list[Route], problems: Problems) -> dict[str, Route]:
    index: dict[str, Route] = {r.name: r for r in routes if r.prefix is None}
    for i, route in enumerate(routes):
        for j, alias in enumerate(route.aliases):
            if "*" in alias:
                problems.append(
                    (("route", i, "aliases", j), f"the alias {alias!r} cannot be a wildcard; make it a route")
                )
            elif alias in index:
                text = f"{alias!r} already names the route {index[alias].name!r}"
                problems.append((("route", i, "aliases", j), text))
            else:
                index[alias] = route
    return index


def _check_fallbacks(snapshot: wire.Snapshot, runtime: Runtime, problems: Problems) -> None:
    fallback = {route.name: route.fallback for route in snapshot.routes}
    drafts = {route.name for route in snapshot.routes if route.draft}
    for i, route in enumerate(snapshot.routes):
        if route.draft and route.name.endswith("*"):
            problems.append((("route", i, "draft"), "a draft is one model: its name cannot end in *"))
        seen, name = [route.name], route.fallback
        while name is not None:
            if name not in fallback or name.endswith("*"):
                if len(seen) == 1:
                    problems.append((("route", i, "fallback"), f"no route is named {name!r} (aliases do not count)"))
                break
            if name in drafts and len(seen) == 1:
                problems.append((("route", i, "fallback"), f"the route {name!r} is a draft: nothing may lead to it"))
            if name in seen:
                loop = " → ".join([*seen, name])
                problems.append((("route", i, "fallback"), f"the fallback comes back to where it began: {loop}"))
                break
            seen.append(name)
            name = fallback[name]


def _check_moderation(snapshot: wire.Snapshot, runtime: Runtime, problems: Problems) -> None:
    """Where control says the configuration, a route may be missing for a while: then nobody can be asked."""
    for i, route in enumerate(snapshot.routes):
        moderation = route.guard.moderation if route.guard is not None else None
        if moderation is not None and moderation.route not in runtime.routes:
            place: Place = ("route", i, "guard", "moderation", "route")
            problems.append((place, f"no route is named {moderation.route!r}"))
