"""Rollouts: a new version of an adapter takes over step by step, or goes, by what the ledger says about its answers.

Every attempt at a target is in the ledger, also one whose failure a client never saw, so a version whose failures the
other one hides is judged by its own. Each step is a version of the route and an entry in the audit log. Where the rule
has a score, the first step lasts until `canary` has decided, too.

running → promoted | rolled_back | stopped (by a person, or because somebody changed the route meanwhile)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.adapters.service import version_of
from control.db import Database
from control.deployments import canary, publish, reconcile
from control.errors import Problem, not_found
from control.kit.audit import Actor, note
from control.kit.files import Files
from control.kit.ownership import find_to_change
from control.kit.periodic import every
from control.kit.permissions import Person
from control.models import Adapter, AdapterVersion, Deployment, Rollout, UsageRow
from control.models.base import now
from control.routes import service as routes
from control.routes.schemas import RouteUpdate
from control.security import Vault

log = logging.getLogger("tunegate.control.rollouts")

EVERY = 3.0
"""Seconds between two looks at the ledger: with a bad version, this and the gateways' 2 s pass until it is out."""
READ = 5000
"""Most requests of a step that are looked at, the latest first."""
ROBOT = Actor("rollout")
NOT_ITS_FAULT = frozenset({"provider_rejected"})
"""Errors of attempts that the request is to blame for."""


@dataclass(slots=True)
class Arm:
    """What the ledger says about the answers of some versions in a step."""

    attempts: int = 0
    failed: int = 0
    times: list[float] = field(default_factory=list)
    """Milliseconds to the first content, of good answers."""

    @property
    def error_rate(self) -> float:
        """0 to 1."""
        return self.failed / self.attempts if self.attempts else 0.0

    @property
    def p95_ms(self) -> float | None:
        """Of the time to the first content."""
        return sorted(self.times)[max(0, -(-len(self.times) * 95 // 100) - 1)] if self.times else None

    def told(self) -> dict[str, Any]:
        """As the API and the audit log say it."""
        return {"attempts": self.attempts, "failed": self.failed, "p95_ms": self.p95_ms}


async def begin(session: AsyncSession, person: Person, name: str, number: int, rule: dict[str, Any]) -> Rollout:
    """Let a live version begin with the first step's share.

    Raises:
        Problem: 409 `not_live`, `nothing_before` (no other version to compare with), or `busy` (a rollout runs); or
            what `canary.checked` raises.
    """
    adapter = await find_to_change(session, person, Adapter, name)
    version = await version_of(session, adapter, number)
    before, endpoints = await ready(session, adapter, version)
    rule = await canary.checked(session, person, adapter, rule)
    served = publish.served_name(adapter, version)
    row = Rollout(
        adapter_id=adapter.id, number=number, served_name=served, state="running", step=0, rule=rule, reason="",
        before=before, endpoints=endpoints, figures={}, since=now(), created_by=person.username,
    )  # fmt: skip
    session.add(row)
    note(session, person.actor, "rollout", "adapter", served, after=rule)
    await canary.begin(session, person, adapter, row)
    await _share(session, adapter, row)
    return row


async def ready(
    session: AsyncSession, adapter: Adapter, version: AdapterVersion
) -> tuple[list[dict[str, Any]], list[str]]:
    """Targets of the adapter's route now, and the endpoints that have the version.

    Raises:
        Problem: as `begin`.
    """
    name, served = adapter.name, publish.served_name(adapter, version)
    if await running(session, adapter) is not None:
        raise Problem(409, "busy", f"a rollout of {name!r} is running: stop it first")
    route = await publish.route_of(session, name)
    before = publish.versions_in(name, route)
    if not [one for one in before if one["model"] != served]:
        raise Problem(409, "nothing_before", f"{name!r} leads to no other version: publish {served} at once")
    rows = await session.scalars(
        select(Deployment).where(Deployment.adapter_version_id == version.id, Deployment.state == "live")
    )
    endpoints = await reconcile.endpoints_of(session, list(rows))
    if not endpoints:
        raise Problem(409, "not_live", f"{served} is not live on any engine: deploy it first")
    return before, endpoints


async def stop(session: AsyncSession, person: Person, name: str) -> Rollout:
    """End the rollout where it is; the version keeps its share."""
    adapter = await find_to_change(session, person, Adapter, name)
    row = await running(session, adapter)
    if row is None:
        raise not_found("running rollout", name)
    await _end(session, row, person.actor, "stopped", f"{person.username} has stopped it")
    return row


async def running(session: AsyncSession, adapter: Adapter) -> Rollout | None:
    """The rollout of an adapter that is under way."""
    query = select(Rollout).where(Rollout.adapter_id == adapter.id, Rollout.state == "running")
    found: Rollout | None = await session.scalar(query.with_for_update())
    return found


async def run(db: Database, files: Files, vault: Vault) -> None:
    """Look at all rollouts until cancelled. Replicas may do so too: a row is locked while it is judged."""
    await every(EVERY, lambda: look(db, files, vault), "rollouts cannot be judged now")


async def look(db: Database, files: Files, vault: Vault) -> None:
    """One look at each rollout under way, and at its scores: these may wait while errors are still judged."""
    async with db.read() as session:
        ids = list(await session.scalars(select(Rollout.id).where(Rollout.state == "running")))
    for id in ids:
        try:
            async with db.write() as session:
                if (row := await _running(session, id)) is not None:
                    await judge(session, row)
        except Problem as exc:
            log.error("the rollout %s waits: %s", id, exc.detail)
        try:
            async with db.write() as session:
                if (row := await _running(session, id)) is not None:
                    await canary.look(session, files, vault, row)
        except Problem as exc:
            async with db.write() as session:
                if (row := await _running(session, id)) is not None and row.score is not None:
                    row.score = {**row.score, "message": exc.detail}


async def _running(session: AsyncSession, id: str) -> Rollout | None:
    query = select(Rollout).where(Rollout.id == id, Rollout.state == "running")
    row: Rollout | None = await session.scalar(query.with_for_update())
    return row


async def judge(session: AsyncSession, row: Rollout) -> None:
    """Go on, go back, or wait for more requests."""
    adapter = await session.get_one(Adapter, row.adapter_id)
    route = await publish.route_of(session, adapter.name)
    if route is None or not route.enabled or route.version != row.route_version:
        await _end(session, row, ROBOT, "stopped", "the route was changed by somebody else meanwhile")
        return
    new, old = await _arms(session, adapter.name, row.served_name, row.since)
    if not old.times and row.figures:  # the last step leaves the others nothing
        old.times = [row.figures["old"]["p95_ms"]] if row.figures["old"]["p95_ms"] is not None else []
    row.figures = {"new": new.told(), "old": old.told()}
    scored = row.score["state"] if row.score is not None else "not_worse"
    wrong = why_not(new, old, row.rule)
    if scored == "worse" or (scored == "undecided" and row.rule["score"]["at_max"] == "roll_back"):
        wrong = wrong or f"its scores are {scored}: {canary.told(row)}"
    if wrong:
        body = {"row_version": route.row_version, "spec": {**route.spec, "target": row.before}, "note": wrong}
        await routes.update(session, _writer(row), adapter.name, RouteUpdate.model_validate(body))
        await _end(session, row, ROBOT, "rolled_back", wrong)
    elif scored == "undecided":
        await _end(session, row, ROBOT, "stopped", f"its scores are undecided: {canary.told(row)}")
    elif new.attempts >= row.rule["min_requests"] and scored == "not_worse":
        steps: Sequence[float] = row.rule["steps"]
        if row.step + 1 < len(steps):
            row.step, row.since = row.step + 1, now()
            await _share(session, adapter, row)
        else:
            await _end(session, row, ROBOT, "promoted", f"all of {len(steps)} steps went well")


def why_not(new: Arm, old: Arm, rule: dict[str, Any]) -> str:
    """What is wrong with the new version by the rule; empty: nothing so far.

    Errors are judged before the step has all its requests: once there are more than all of them together may bring,
    it cannot pass any more. A version that fails no more often than the old one is not to blame.
    """
    allowed = rule["max_error_rate"]
    if new.failed > allowed * max(new.attempts, rule["min_requests"]) and new.error_rate > old.error_rate:
        rates = f"{new.error_rate:.1%} of its {new.attempts} attempts failed, {old.error_rate:.1%} of the others"
        return f"{rates}; {allowed:.1%} may"
    ratio = rule["max_latency_ratio"]
    if ratio is None or new.attempts < rule["min_requests"] or new.p95_ms is None or old.p95_ms is None:
        return ""
    if new.p95_ms > ratio * old.p95_ms:
        return f"its first content takes {new.p95_ms:.0f} ms (p95), the others' {old.p95_ms:.0f} ms; {ratio} times may"
    return ""


async def _arms(session: AsyncSession, route: str, served: str, since: datetime) -> tuple[Arm, Arm]:
    query = select(UsageRow.attempts, UsageRow.end).where(
        UsageRow.ts >= since, UsageRow.route == route, UsageRow.shadow_of.is_(None)
    )
    new, old = Arm(), Arm()
    for attempts, end in await session.execute(query.order_by(UsageRow.ts.desc()).limit(READ)):
        for number, attempt in enumerate(attempts, 1):
            arm = new if attempt["model"] == served else old
            if attempt["error"] in NOT_ITS_FAULT:
                continue
            broke = number == len(attempts) and end == "upstream_error_partial"
            arm.attempts += 1
            if attempt["error"] or broke:
                arm.failed += 1
            else:
                arm.times.append(attempt["ms"])
    return new, old


async def _share(session: AsyncSession, adapter: Adapter, row: Rollout) -> None:
    share = row.rule["steps"][row.step]
    route = await publish.publish(session, _writer(row), adapter, row.served_name, row.endpoints, share)
    await session.flush()
    row.route_version = route.version
    note(session, ROBOT, "rollout", "adapter", row.served_name, after={"step": row.step + 1, "share": share})


async def _end(session: AsyncSession, row: Rollout, actor: Actor, state: str, reason: str) -> None:
    await canary.drop(session, row)
    row.state, row.reason, row.ended_at = state, reason[:2000], now()
    after = {"state": state, "reason": reason}
    note(session, actor, "rollout", "adapter", row.served_name, {"state": "running"}, after)


def _writer(row: Rollout) -> Person:
    return publish.in_name_of(row.created_by)
