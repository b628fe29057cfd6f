"""Writes a plan in one transaction, through the services that people's changes go through."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from control.bootstrap import ADMIN
from control.db import Database
from control.errors import ConfigError, Problem, fields
from control.imports import litellm, oneapi
from control.imports.plan import Line, NewEndpoint, NewKey, NewRoute, Outcome, Plan, free
from control.keys import service as keys
from control.keys.schemas import ApiKeyCreate, ApiKeyUpdate
from control.kit.permissions import Person
from control.models import ApiKey, Endpoint, Route, User
from control.providers import secrets, service as endpoints
from control.providers.schemas import CredentialCreate, EndpointCreate
from control.routes import service as routes
from control.routes.schemas import RouteCreate
from control.security import Vault, sha256

_PERSON = Person("system", "system", "admin", "")
_ORDER: dict[Outcome, str] = {
    "imported": "imported", "already there": "already there", "by hand": "to be done by hand",
    "not mapped": "not mapped",
}  # fmt: skip


class _DryRunError(Exception):
    """Rolls the transaction back."""


def read(source: str, path: Path) -> Plan:
    """The plan of a file."""
    if source == "litellm":
        return litellm.plan(litellm.load(path), _environment)
    return oneapi.plan(oneapi.load(path))


def _environment(name: str) -> str | None:
    # a file that names them would send this installation's own secrets to an upstream
    return None if name.startswith("TUNEGATE_") else os.environ.get(name)


def text(lines: list[Line], *, dry_run: bool) -> str:
    """The report, for people."""
    counts = {outcome: sum(line.outcome == outcome for line in lines) for outcome in _ORDER}
    total = ", ".join(f"{count} {_ORDER[outcome]}" for outcome, count in counts.items())
    ordered = [str(line) for outcome in _ORDER for line in lines if line.outcome == outcome]
    return "\n".join([*ordered, total, *(["dry run: nothing was written"] if dry_run else [])])


async def apply(db: Database, vault: Vault, plan: Plan, *, dry_run: bool) -> list[Line]:
    """Make what is missing; what is there already stays as it is. A dry run does it all and takes it back."""
    work = None
    try:
        async with db.write() as session:
            if await session.scalar(select(User.id).where(User.username == ADMIN)) is None:
                raise ConfigError(f"there is no user {ADMIN!r} to own what is imported: tunegate admin create {ADMIN}")
            work = _Work(session, vault, plan)
            await work.run()
            await session.flush()
            if dry_run:
                raise _DryRunError
    except _DryRunError:
        pass
    except (DBAPIError, OSError, RuntimeError) as exc:
        hint = "is it there, and brought up to date by `tunegate migrate`?"
        raise ConfigError(f"nothing was written: the database refuses ({type(exc).__name__}); {hint}") from None
    return plan.report


class _Work:
    def __init__(self, session: AsyncSession, vault: Vault, plan: Plan) -> None:
        self.session, self.vault, self.plan = session, vault, plan
        self.usable: set[str] = set()
        """Endpoints of the plan that are there and enabled."""

    async def run(self) -> None:
        for endpoint in self.plan.endpoints:
            await self._endpoint(endpoint)
        await self._routes()
        for key in self.plan.keys:
            await self._key(key)

    async def _try(self, what: str, doing: Callable[[], Any]) -> bool:
        """Do one thing; what a service refuses is reported without the refused values."""
        try:
            await doing()
        except ValidationError as exc:
            why = "; ".join(f"{error.at}: {error.message}" for error in fields(exc, what.split(" ", maxsplit=1)[0])[:3])
        except Problem as exc:
            why = "; ".join(error.message for error in exc.errors[:3]) or exc.detail
        else:
            self.plan.say("imported", what)
            return True
        self.plan.say("not mapped", what, why)
        return False

    async def _endpoint(self, new: NewEndpoint) -> None:
        what = f"endpoint {new.name}"
        row = await self.session.scalar(select(Endpoint).where(Endpoint.name == new.name))
        if row is None:
            body = {"name": new.name, "provider": new.provider, "spec": {"base_url": new.base_url}}

            async def make() -> None:
                made = EndpointCreate.model_validate({**body, "enabled": new.enabled})
                await endpoints.create(self.session, _PERSON, made)

            if not await self._try(what, make):
                return
            row = await endpoints.find(self.session, new.name)
        elif row.provider != new.provider or row.spec.get("base_url") != new.base_url:
            return self.plan.say("not mapped", what, "another endpoint has this name: rename that, or add this by hand")
        else:
            self.plan.say("already there", what)
        if row.enabled:
            self.usable.add(new.name)
        held = await endpoints.credentials_of(self.session, [row])
        marks, fresh = {credential.masked for credential in held}, not held
        for number, secret in enumerate(new.secrets, 1):
            await self._credential(new.name, f"imported-{number}", secret, marks, fresh)
        return None

    async def _credential(self, endpoint: str, name: str, secret: str, marks: set[str], fresh: bool) -> None:
        what = f"credential {endpoint}/{name}"
        if not fresh:
            if secrets.masked(secret) in marks:
                return self.plan.say("already there", what)
            return self.plan.say("by hand", what, "the endpoint has other credentials: add this one if it is wanted")

        async def make() -> None:
            body = CredentialCreate.model_validate({"name": name, "secret": secret})
            await secrets.add(self.session, self.vault, _PERSON, endpoint, body)

        await self._try(what, make)
        return None

    async def _routes(self) -> None:
        """Fallbacks first, as a route can only name one that is there."""
        there = set(await self.session.scalars(select(Route.name)))
        planned = {route.name for route in self.plan.routes}
        left = list(self.plan.routes)
        while left:
            ready = [r for r in left if r.spec.get("fallback") in there | {None} or r.name in there]
            if not ready:
                ready = left[:1]
                why = "it leads in a circle" if ready[0].spec["fallback"] in planned else "it was not imported"
                self.plan.say("not mapped", f"fallback of route {ready[0].name}", why)
                del ready[0].spec["fallback"]
            for route in ready:
                left.remove(route)
                if route.name in there:
                    self.plan.say("already there", f"route {route.name}")
                elif await self._route(route):
                    there.add(route.name)
                else:
                    planned.discard(route.name)

    async def _route(self, new: NewRoute) -> bool:
        what = f"route {new.name}"
        targets = [target for target in new.spec["target"] if target["endpoint"] in self.usable]
        if lost := len(new.spec["target"]) - len(targets):
            self.plan.say("not mapped", f"{lost} targets of {what}", "their endpoint was not imported or is disabled")
        if not targets:
            self.plan.say("not mapped", what, "it has no target left")
            return False

        async def make() -> None:
            grants = [{"principal_kind": "user", "principal": ADMIN}]
            spec = new.spec | {"target": targets}
            body = RouteCreate.model_validate({"name": new.name, "spec": spec, "note": "import", "grants": grants})
            await routes.create(self.session, _PERSON, body)

        return await self._try(what, make)

    async def _key(self, new: NewKey) -> None:
        digest = sha256(new.secret)
        if await self.session.scalar(select(ApiKey.seq).where(ApiKey.digest == digest)):
            return self.plan.say("already there", f"key {new.name}@{ADMIN}")
        query = select(ApiKey.name).where(ApiKey.owner == ADMIN, ApiKey.name.startswith(new.name, autoescape=True))
        name = free(new.name, set(await self.session.scalars(query)))

        async def make() -> None:
            budgets = [] if new.budget is None else [{"amount": new.budget, "window": "total"}]
            body = ApiKeyCreate.model_validate({
                "name": name, "user": ADMIN, "models": new.models, "cidrs": new.cidrs, "note": new.note,
                "expires_at": new.expires_at and new.expires_at.isoformat(), "budgets": budgets,
            })  # fmt: skip
            row, _ = await keys.create(self.session, _PERSON, body, new.secret)
            if not new.enabled:
                await keys.update(self.session, _PERSON, row.public_name, ApiKeyUpdate(row_version=1, enabled=False))

        await self._try(f"key {name}@{ADMIN}" + ("" if new.enabled else " (disabled, as it was)"), make)
        return None
