"""What is wrong with a route: by itself, and among the routes and endpoints that there are.

One route that the gateway cannot compile would stop the whole snapshot, so everything is refused here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.errors import FieldError, fields
from control.models import Endpoint, KnowledgeBase, Route
from control.routes.schemas import RouteName
from gateway.contract import snapshot as wire

AT = "body.spec"
MOST = 100
LONGEST_PROMPT = 200_000
_NAME: TypeAdapter[str] = TypeAdapter(RouteName)
Found = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Known:
    """The other routes, endpoints and knowledge bases. Loaded under the `config` lock when something is to be saved."""

    routes: Mapping[str, Route]
    endpoints: Mapping[str, bool]
    """Name -> whether it is enabled."""
    bases: frozenset[str]
    """Names of knowledge bases."""

    @classmethod
    async def load(cls, session: AsyncSession) -> Known:
        """Read them."""
        routes = {row.name: row for row in await session.scalars(select(Route))}
        endpoints = {row.name: row.enabled for row in await session.scalars(select(Endpoint))}
        bases = await session.scalars(select(KnowledgeBase.name).where(~KnowledgeBase.deleting))
        return cls(routes, endpoints, frozenset(bases))

    def fallback_of(self, name: str) -> str | None:
        """Where a route's requests go when its targets have failed."""
        return self.routes[name].spec.get("fallback") if name in self.routes else None

    def falling_back_to(self, name: str) -> list[str]:
        """Routes that need this one."""
        return sorted(row.name for row in self.routes.values() if row.spec.get("fallback") == name and row.name != name)


def problems(name: str, spec: Mapping[str, Any], known: Known) -> list[FieldError]:
    """Every wrong value; `spec` is the wire form without the name."""
    found: list[FieldError] = []
    try:
        _NAME.validate_python(name)
    except ValidationError as exc:
        found += fields(exc, "body.name")
    try:
        route = wire.Route.model_validate({**spec, "name": "route"})
    except ValidationError as exc:
        return found + fields(exc, AT)
    found += [
        FieldError(at=f"{AT}.{field}", message=f"the {field} stands beside the spec, not in it")
        for field in ("name", "draft")
        if field in spec
    ]
    if taken := _taken(name, known).get(name):
        found.append(FieldError(at="body.name", message=f"{name!r} is an alias of the route {taken!r}"))
    parts = (_targets, _shadow, _knowledge, _cache, _aliases, _fallback)
    beyond = [problem for part in parts for problem in part(name, route, known)]
    if route.system_prompt is not None and len(route.system_prompt) > LONGEST_PROMPT:
        beyond.append(("system_prompt", f"is longer than {LONGEST_PROMPT} characters"))
    return found + [FieldError(at=f"{AT}.{at}", message=message) for at, message in beyond]


def _taken(name: str, known: Known) -> dict[str, str]:
    """Alias -> route, of the other routes."""
    return {
        alias: row.name for row in known.routes.values() if row.name != name for alias in row.spec.get("aliases", ())
    }


def _targets(name: str, route: wire.Route, known: Known) -> Found:
    if len(route.targets) > MOST:
        yield "target", f"a route has at most {MOST} targets"
    if not any(target.weight for target in route.targets):
        yield "target", "every target has weight 0: none would be used"
    for number, target in enumerate(route.targets):
        yield from _place(f"target.{number}", name, target, known)


def _shadow(name: str, route: wire.Route, known: Known) -> Found:
    if route.shadow is not None:
        yield from _place("shadow", name, route.shadow, known)


def _knowledge(name: str, route: wire.Route, known: Known) -> Found:
    for number, base in enumerate(route.knowledge.bases if route.knowledge is not None else ()):
        if base not in known.bases:
            yield f"knowledge.bases.{number}", f"there is no knowledge base {base!r}"


def _cache(name: str, route: wire.Route, known: Known) -> Found:
    semantic = route.cache.semantic if route.cache is not None else None
    if semantic is None:
        return
    if semantic.route == name:
        yield "cache.semantic.route", "a route cannot embed its own questions"
    elif semantic.route not in known.routes or semantic.route.endswith("*"):
        yield "cache.semantic.route", f"there is no route {semantic.route!r}"


def _place(at: str, name: str, place: wire.Target | wire.Shadow, known: Known) -> Found:
    """An endpoint and a model there."""
    enabled = known.endpoints.get(place.endpoint)
    if enabled is None:
        yield f"{at}.endpoint", f"there is no endpoint {place.endpoint!r}"
    elif not enabled:
        yield f"{at}.endpoint", f"the endpoint {place.endpoint!r} is disabled"
    if not place.model and not name.endswith("*"):
        yield f"{at}.model", "is missing: only a route whose name ends in * may leave it out"
    if len(place.model) > 160 or not place.model.isprintable():
        yield f"{at}.model", "is too long, or not printable"


def _aliases(name: str, route: wire.Route, known: Known) -> Found:
    taken, seen = _taken(name, known), set[str]()
    if len(route.aliases) > MOST:
        yield "aliases", f"a route has at most {MOST} aliases"
    for number, alias in enumerate(route.aliases):
        at = f"aliases.{number}"
        if "*" in alias:
            yield at, f"the alias {alias!r} cannot be a wildcard: make it a route"
        elif len(alias) > 120:
            yield at, "is longer than 120 characters"
        elif alias == name or alias in seen:
            yield at, f"{alias!r} names this route already"
        elif alias in known.routes:
            yield at, f"{alias!r} is the name of another route"
        elif alias in taken:
            yield at, f"{alias!r} is an alias of the route {taken[alias]!r}"
        seen.add(alias)


def _fallback(name: str, route: wire.Route, known: Known) -> Found:
    following = route.fallback
    if following is None:
        return
    if following.endswith("*"):
        yield "fallback", "a wildcard cannot be a fallback"
        return
    if following != name and following not in known.routes:
        yield "fallback", f"there is no route {following!r} (aliases do not count)"
        return
    if following != name and known.routes[following].draft:
        yield "fallback", f"the route {following!r} is a draft: nothing may lead to it"
    if following != name and not known.routes[following].enabled:
        yield "fallback", f"the route {following!r} is disabled"
    way: list[str] = [name]
    step: str | None = following
    while step is not None:
        way.append(step)
        if step in way[:-1]:
            yield "fallback", f"the fallback comes back to where it was: {' → '.join(way)}"
            return
        step = known.fallback_of(step)
