"""Whether a key may use a route and where its requests would go: read from the snapshot that gateways get.

The tables only say why: a key that is not in the snapshot may have been revoked, or its owner disabled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.kit.access import Access, common, for_comparisons, principals
from control.models import ApiKey, Route, Team
from control.models.base import now
from control.routes.schemas import (
    Check,
    ExplainedRoute,
    ExplainedScope,
    ExplainedTarget,
    Explanation,
)
from control.snapshots.render import NUMBERED, Rendered
from control.usage.budgets import spending
from gateway.contract.internal import KeyPage
from gateway.contract.snapshot import Key

Wired = Mapping[str, Any]
"""Part of the snapshot as JSON."""


async def explain(session: AsyncSession, rendered: Rendered, route: Route, key: ApiKey) -> Explanation:
    """What a gateway that has this snapshot would do."""
    routes: dict[str, Wired] = {one["name"]: one for one in rendered.head["route"]}
    served = await asyncio.to_thread(_served, rendered, key)
    scopes = await _scopes(session, rendered.head["team"], routes.get(route.name), key)
    spent = [
        f"{scope.kind}:{scope.name} {budget.window}"
        for scope in scopes
        for budget in scope.budgets
        if budget.spent_nano >= budget.amount_nano
    ]
    names = [route.name, *route.spec.get("aliases", ())]
    ready = served is not None and served.enabled and any(_overlap(one, names) for one in served.models)
    checks = [
        Check(name="route_live", ok=route.name in routes, because=[]),
        *await _reasons(session, route, names, key),
        Check(name="served", ok=ready, because=[]),
        Check(name="budget_left", ok=not spent, because=spent),
    ]
    return Explanation(
        route=route.name,
        key=key.public_name,
        snapshot=rendered.head["version"],
        allowed=all(check.ok for check in checks),
        checks=checks,
        networks=[str(cidr) for cidr in key.cidrs],
        scopes=scopes,
        way=list(_way(routes, route.name)),
    )


def _served(rendered: Rendered, key: ApiKey) -> Key | None:
    """The key as gateways get it."""
    mark = b'"name":' + json.dumps(key.public_name, ensure_ascii=False).encode()
    for page in rendered.pages.values():
        if mark in page:
            for one in KeyPage.model_validate_json(page).keys:
                if one.name == key.public_name and one.sha256 == key.digest:
                    return one
    return None


async def _reasons(session: AsyncSession, route: Route, names: Iterable[str], key: ApiKey) -> list[Check]:
    """Why the snapshot has the key and the route for it, or has not."""
    teams = (await session.scalars(select(Team).where(Team.name == key.owner))).all()
    access = await Access.load(session, {route.name: route}, teams)
    caller = principals((key.owner_kind, key.owner), access.teams_of.get(key.owner, ()), [key.public_name])
    grants = sorted(one for one in caller if route.name in access.by_principal.get(one, ()))
    if route.draft and not for_comparisons(key):
        grants = []
    patterns = [str(pattern) for pattern in key.models]
    listed = [pattern for pattern in patterns if _overlap(pattern, names)]
    revoked = [key.revoked_at.isoformat()] if key.revoked_at else []
    expires = [key.expires_at.isoformat()] if key.expires_at else []
    return [
        Check(name="key_active", ok=key.enabled and not revoked, because=revoked),
        Check(
            name="owner_active",
            ok=(key.owner_kind, key.owner) not in access.disabled,
            because=[f"{key.owner_kind}:{key.owner}"],
        ),
        Check(name="not_expired", ok=key.expires_at is None or key.expires_at > now(), because=expires),
        Check(name="granted", ok=bool(grants), because=[f"{kind}:{name}".rstrip(":") for kind, name in grants]),
        Check(name="listed", ok=bool(listed), because=listed or patterns),
    ]


def _overlap(pattern: str, names: Iterable[str]) -> bool:
    return any(common(pattern, names))


async def _scopes(
    session: AsyncSession, teams: Iterable[Wired], route: Wired | None, key: ApiKey
) -> list[ExplainedScope]:
    found = [await _scope(session, "key", key.public_name, {"limits": key.limits, "budget": key.budgets})]
    if key.owner_kind == "team":
        found += [await _scope(session, "team", team["name"], team) for team in teams if team["name"] == key.owner]
    if route is not None:
        found.append(await _scope(session, "route", route["name"], route))
    return found


async def _scope(
    session: AsyncSession, kind: Literal["key", "team", "route"], name: str, wired: Wired
) -> ExplainedScope:
    return ExplainedScope(
        kind=kind,
        name=name,
        **{limit: wired["limits"].get(limit) for limit in ("rpm", "tpm", "concurrency")},
        budgets=(await spending(session, kind, {name: wired["budget"]}))[name] if kind != "route" else [],
    )


def _way(routes: Mapping[str, Wired], name: str | None) -> Iterator[ExplainedRoute]:
    """The snapshot has no loops of fallbacks: gateways would refuse it."""
    while name is not None and (route := routes.get(name)) is not None:
        yield ExplainedRoute(
            name=name,
            strategy=route["strategy"],
            max_attempts=route["retry"]["max_attempts"],
            system_prompt=bool(route["system_prompt"]),
            targets=_targets(route["target"]),
        )
        name = route["fallback"]


def _targets(wired: Iterable[Wired]) -> list[ExplainedTarget]:
    """By tier; the copies of a target that several credentials make are one again."""
    found: dict[tuple[int, str, str], list[int]] = {}
    whole: dict[int, int] = {}
    for target in wired:
        tier, weight = target["priority"], target["weight"]
        found.setdefault((tier, target["endpoint"].partition(NUMBERED)[0], target["model"]), []).append(weight)
        whole[tier] = whole.get(tier, 0) + weight
    return [
        ExplainedTarget(
            endpoint=endpoint,
            model=model,
            tier=tier,
            weight=sum(weights),
            share=sum(weights) / whole[tier] if whole[tier] else 0.0,
            credentials=len(weights),
        )
        for (tier, endpoint, model), weights in sorted(found.items(), key=lambda item: item[0][0])
    ]
