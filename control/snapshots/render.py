"""Tables → `gateway.contract`: the head with endpoints, routes and teams, and the keys in pages.

Key pages are rendered again only when one of their keys changed, or when grants, teams or routes did. What the
contract refuses is left out and logged with its reason: one bad row must not stop the rest from being published.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.kit.access import Access
from control.models import ApiKey, Credential, Endpoint, Route, Team
from control.models.base import now
from control.security import Sealed, Vault
from control.snapshots.book import Book
from gateway.contract import snapshot as wire
from gateway.contract.internal import KEYS_PER_PAGE, KeyPage, SnapshotHead
from gateway.contract.seal import seal

log = logging.getLogger("tunegate.control.snapshots")
NUMBERED = "+"
"""Between an endpoint's name and the number of its credential, where it has several."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A credential in clear, on its way to a gateway; and what it is bound to."""

    text: str
    base_url: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """One version of the configuration, ready to be sent."""

    number: int
    etag: str
    head: Mapping[str, Any]
    """`SnapshotHead` as JSON, endpoints without their credentials."""
    secrets: Mapping[str, Secret]
    """Endpoint name -> credential."""
    pages: Mapping[str, bytes]
    """SHA-256 -> bytes of a `KeyPage`."""
    next_price: datetime | None
    """When a price of the book takes effect that is not in this version."""

    def head_for(self, token: str) -> bytes:
        """The head, with the credentials sealed for the gateway that holds this service token."""
        endpoints = [
            endpoint | {"api_key": seal(secret.text, token, endpoint["name"], secret.base_url)}
            if (secret := self.secrets.get(endpoint["name"])) is not None
            else endpoint
            for endpoint in self.head["endpoint"]
        ]
        return json.dumps({**self.head, "endpoint": endpoints}, ensure_ascii=False).encode()


class Renderer:
    """Renders snapshots; remembers the pages of the last one."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def render(self, session: AsyncSession, number: int) -> Rendered:
        """Read everything that gateways need, as of the session's transaction."""
        secrets: dict[str, Secret] = {}
        endpoints = await self._endpoints(session, secrets)
        names = {endpoint["name"] for endpoint in endpoints}
        copies = _copies(names)
        rows = (await session.scalars(select(Route).where(Route.enabled).order_by(Route.name))).all()
        book = await Book.load(session)
        providers = {endpoint["name"].partition(NUMBERED)[0]: endpoint["provider"] for endpoint in endpoints}
        priced = [(row, list(book.priced(row.spec, providers))) for row in rows]
        wired = (_route(row, targets, names, copies) for row, targets in priced)
        routes = _mended([route for route in wired if route is not None], rows)
        teams = (await session.scalars(select(Team).order_by(Team.name))).all()
        access = await Access.load(session, {row.name: row for row in rows}, teams)
        keys = (await session.scalars(select(ApiKey).order_by(ApiKey.seq))).all()
        pages = await asyncio.to_thread(_pages, keys, access)
        head = SnapshotHead.model_validate(
            {
                "version": f"c{number}",
                "endpoint": endpoints,
                "route": routes,
                "team": [{"name": team.name, "limits": team.limits, "budget": team.budgets} for team in teams],
                "key_pages": [digest for digest, _ in pages],
                "session_key": self._vault.session_key,
            }
        )
        content = head.model_dump(mode="json", by_alias=True)
        fingerprint = hashlib.sha256(json.dumps([content, [s.text for s in secrets.values()]]).encode()).hexdigest()
        return Rendered(number, f'"c{number}-{fingerprint[:16]}"', content, secrets, dict(pages), book.next_change)

    async def _endpoints(self, session: AsyncSession, secrets: dict[str, Secret]) -> list[dict[str, Any]]:
        credentials: dict[str, list[Credential]] = {}
        for credential in await session.scalars(
            select(Credential).where(Credential.enabled).order_by(Credential.created_at, Credential.id)
        ):
            credentials.setdefault(credential.endpoint_id, []).append(credential)
        rendered: list[dict[str, Any]] = []
        for row in await session.scalars(select(Endpoint).where(Endpoint.enabled).order_by(Endpoint.name)):
            held = credentials.get(row.id, [])
            for number, credential_row in enumerate(held or [None], 1):
                name = row.name if number == 1 else f"{row.name}{NUMBERED}{number}"
                endpoint = _valid(wire.Endpoint, {**row.spec, "name": row.name, "provider": row.provider})
                if endpoint is None:
                    continue
                entry = endpoint.model_dump(mode="json", by_alias=True) | {"name": name}
                if credential_row is not None:
                    text = self._open(credential_row, row.name)
                    if text is None:
                        continue
                    secrets[name] = Secret(text, entry["base_url"])
                rendered.append(entry)
        return rendered

    def _open(self, row: Credential, endpoint: str) -> str | None:
        try:
            return self._vault.open(Sealed(row.sealed, row.wrapped_key, row.kek_id), row.id)
        except ValueError as exc:
            log.error("credential %r of endpoint %r is left out: %s", row.name, endpoint, exc)
            return None


def _copies(names: Iterable[str]) -> dict[str, list[str]]:
    copies: dict[str, list[str]] = {}
    for name in sorted(names):
        copies.setdefault(name.partition(NUMBERED)[0], []).append(name)
    return copies


def _route(
    row: Route, priced: Iterable[Mapping[str, Any]], names: set[str], copies: Mapping[str, list[str]]
) -> dict[str, Any] | None:
    """The wire form of a route; a target of an endpoint with several credentials becomes one target for each."""
    targets = [
        {**target, "endpoint": copy}
        for target in priced
        for copy in copies.get(target["endpoint"], [])
        if copy in names
    ]
    if not any(target.get("weight", 1) for target in targets):  # the gateway would refuse the whole snapshot
        log.error("route %r is left out: none of its endpoints with a weight is enabled", row.name)
        return None
    shadow = row.spec.get("shadow")
    if shadow is not None and shadow["endpoint"] not in names:
        log.error("route %r has no shadow now: its endpoint %r is not enabled", row.name, shadow["endpoint"])
        shadow = None
    route = _valid(wire.Route, {**row.spec, "name": row.name, "draft": row.draft, "target": targets, "shadow": shadow})
    return route.model_dump(mode="json", by_alias=True) if route is not None else None


def _mended(routes: list[dict[str, Any]], rows: Iterable[Route]) -> list[dict[str, Any]]:
    """A fallback that was left out is replaced by its own fallback, and a cache whose route for embeddings was goes on
    without: a dangling name would stop the whole snapshot.
    """
    kept = {route["name"] for route in routes}
    follow = {row.name: row.spec.get("fallback") for row in rows}
    for route in routes:
        fallback, seen = route.get("fallback"), {route["name"]}
        while fallback is not None and fallback not in kept and fallback not in seen:
            seen.add(fallback)
            fallback = follow.get(fallback)
        route["fallback"] = fallback if fallback in kept and fallback not in seen else None
        semantic = route["cache"]["semantic"] if route["cache"] is not None else None
        if semantic is not None and semantic["route"] not in kept:
            log.error("route %r knows no meaning now: its route %r is not enabled", route["name"], semantic["route"])
            route["cache"]["semantic"] = None
    return routes


def _pages(keys: Sequence[ApiKey], access: Access) -> list[tuple[str, bytes]]:
    pages: dict[int, list[wire.Key]] = {}
    for row in keys:
        page = pages.setdefault((row.seq - 1) // KEYS_PER_PAGE, [])
        if row.revoked_at is None and (row.owner_kind, row.owner) not in access.disabled:
            page.extend(_keys(row, access.models_of(row)))
    rendered = []
    for _, page in sorted(pages.items()):
        for start in range(0, len(page) or 1, KEYS_PER_PAGE):
            content = KeyPage(key=tuple(page[start : start + KEYS_PER_PAGE])).model_dump_json(by_alias=True).encode()
            rendered.append((hashlib.sha256(content).hexdigest(), content))
    return list(dict(rendered).items())  # two empty pages are one


def _keys(row: ApiKey, models: tuple[str, ...]) -> Iterable[wire.Key]:
    """A key, and while its rotation lasts the same key under its old secret."""
    base = {
        "name": row.public_name, "enabled": row.enabled, "models": models, "cidrs": row.cidrs,
        "team": row.owner if row.owner_kind == "team" else None, "limits": row.limits, "budget": row.budgets,
        "log_bodies": row.log_bodies,
    }  # fmt: skip
    secrets: list[tuple[str, datetime | None]] = [(row.digest, row.expires_at)]
    if row.old_digest is not None and row.old_until is not None and row.old_until > now():
        secrets.append((row.old_digest, min(filter(None, (row.old_until, row.expires_at)))))
    for digest, expires_at in secrets:
        key = _valid(wire.Key, {**base, "sha256": digest, "expires_at": expires_at})
        if key is not None:
            yield key


def _valid(model: type[Any], content: Mapping[str, Any]) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as exc:
        log.error("%s %r is left out of the snapshot: %s", model.__name__, content.get("name"), exc.errors()[0]["msg"])
        return None
