"""Gates: a suite that a version of an adapter is asked before requests to the adapter's name reach it.

The version's own route `name@vN` is asked, and beside it the route than which it must not be worse. What was asked for
(a share, or a rollout) waits; `gated` goes on with it. A version that has passed is not asked the same again, because
neither its weights nor the version of the suite ever change.

running → passed | failed | stopped (by a person)
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons import runs, suites
from control.comparisons.gate import Gate
from control.comparisons.run_schemas import RunCreate
from control.comparisons.statistics import FEW
from control.deployments import publish
from control.errors import FieldError, Problem, invalid, not_found
from control.kit.audit import Actor, note
from control.kit.ownership import find_to_change
from control.kit.permissions import Person
from control.models import Adapter, AdapterGate, AdapterVersion, ComparisonRun, Suite
from control.models.base import now

ROBOT = Actor("gate")


async def hold(
    session: AsyncSession, person: Person, adapter: Adapter, version: AdapterVersion, asked: Gate | None,
    goal: dict[str, Any],
) -> AdapterGate | None:  # fmt: skip
    """Ask what has to be asked first, and keep the goal for then. None: nothing has to be, or it was passed before.

    `asked` is instead of the adapter's own gate.

    Raises:
        Problem: 409 `gate_running`, or what `checked` raises.
    """
    wanted = asked if asked is not None else _own(adapter)
    if wanted is None:
        return None
    gate = await checked(session, person, adapter, wanted)
    if gate is None:
        return None
    if (other := await running(session, adapter)) is not None:
        said = f"{other.served_name} is still asked (run {other.run}): wait for it, or stop it first"
        raise Problem(409, "gate_running", said)
    kept = gate.model_dump(mode="json", exclude={"key", "budget_nano"})
    query = select(AdapterGate).where(AdapterGate.adapter_id == adapter.id, AdapterGate.number == version.number)
    earlier = await session.scalars(query.where(AdapterGate.state == "passed"))
    if any({key: one.gate.get(key) for key in kept} == kept for one in earlier):
        return None
    served = publish.served_name(adapter, version)
    candidates = [{"route": served}, *([{"route": gate.not_worse_than}] if gate.not_worse_than else [])]
    body = {
        "candidates": candidates, "note": f"gate of {served}",
        **gate.model_dump(include={"version", "key", "repeats", "budget_nano"}),
    }  # fmt: skip
    run = await runs.create(session, person, gate.suite, RunCreate.model_validate(body))
    row = AdapterGate(
        adapter_id=adapter.id, number=version.number, served_name=served, gate=gate.model_dump(mode="json"), goal=goal,
        run=run.id, state="running", created_by=person.username,
    )  # fmt: skip
    session.add(row)
    await session.flush()
    note(session, person.actor, "gate", "adapter", served, after={"run": run.id, "gate": kept, **goal})
    return row


def _own(adapter: Adapter) -> Gate | None:
    return Gate.model_validate(adapter.gate) if adapter.gate is not None else None


async def checked(session: AsyncSession, person: Person, adapter: Adapter, gate: Gate) -> Gate | None:
    """The gate with the number of the suite's version. None: it only wants what is published not to become worse, and
    nothing is published yet.

    Raises:
        Problem: 403 or 404 for the suite; 422 for its scorers, its cases or the other route.
    """
    suite = await find_to_change(session, person, Suite, gate.suite)
    version = await suites.version_of(session, suite, gate.version)
    scorers = [one["name"] for one in version.content.get("scorers", [])]
    errors = [
        FieldError(at=f"body.gate.thresholds.{number}.scorer", message=f"there is no scorer {one.scorer!r}")
        for number, one in enumerate(gate.thresholds)
        if one.scorer not in scorers
    ]
    other = gate.not_worse_than
    if other is not None and await publish.route_of(session, other) is None:
        if other != adapter.name:
            errors.append(FieldError(at="body.gate.not_worse_than", message=f"there is no route {other!r}"))
        other = None
    if gate.not_worse_than is not None and (version.cases < FEW or not scorers):
        message = f"{suite.name}@{version.number} needs {FEW} cases and a scorer to tell what is worse"
        errors.append(FieldError(at="body.gate.not_worse_than", message=message))
    if errors:
        raise invalid(errors)
    if other is None and not gate.thresholds:
        return None
    return gate.model_copy(update={"version": version.number, "not_worse_than": other})


async def set_own(session: AsyncSession, person: Person, adapter: Adapter, gate: Gate | None) -> None:
    """What each version has to pass from now on; None: nothing."""
    if gate is not None:
        await checked(session, person, adapter, gate)
    before, adapter.gate = adapter.gate, gate.model_dump(mode="json") if gate is not None else None
    if before != adapter.gate:
        adapter.row_version += 1
        note(session, person.actor, "update", "adapter", adapter.name, {"gate": before}, {"gate": adapter.gate})
        await session.flush()


async def running(session: AsyncSession, adapter: Adapter) -> AdapterGate | None:
    """The gate of an adapter that is under way."""
    query = select(AdapterGate).where(AdapterGate.adapter_id == adapter.id, AdapterGate.state == "running")
    found: AdapterGate | None = await session.scalar(query.with_for_update())
    return found


async def stop(session: AsyncSession, person: Person, name: str) -> None:
    """Ask no further, and forget what waits for it."""
    adapter = await find_to_change(session, person, Adapter, name)
    row = await running(session, adapter)
    if row is None:
        raise not_found("running gate", name)
    run = await session.get(ComparisonRun, row.run)
    if run is not None and run.state not in runs.OVER:
        await runs.cancel(session, person, row.run)
    end(session, row, person.actor, "stopped", f"{person.username} has stopped it")


def end(session: AsyncSession, row: AdapterGate, actor: Actor, state: str, reason: str) -> None:
    """It is over."""
    row.state, row.reason, row.ended_at = state, reason[:2000], now()
    after = {"state": state, "reason": reason, "run": row.run}
    note(session, actor, "gate", "adapter", row.served_name, {"state": "running"}, after)
