"""Token lengths of dataset versions: asked for here, counted by a worker, which has the base model's tokenizer.

waiting → counting → done,  or after every worker has tried failed
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.datasets import schemas
from control.errors import Problem
from control.kit.audit import note
from control.kit.permissions import Person
from control.models import DatasetVersion, TokenCount, TrainerRow
from control.models.base import new_id, now
from trainer.contract.spec import BaseModelRef
from trainer.contract.worker import CountOrder, CountStatus, DataFile

RECIPE = "lora_sft"
"""A worker that has its environment has what counts."""
MOST = 20
"""Base models of one version."""


async def ask(
    session: AsyncSession, person: Person, name: str, version: DatasetVersion, base: BaseModelRef
) -> schemas.TokenCount:
    """Let it be counted, unless it is or was already.

    Raises:
        Problem: 409 if the version has no rows that are ready, or too many counts.
    """
    if version.state != "ready":
        raise Problem(409, "not_ready", f"{name}@{version.number} is {version.state}")
    digest = hashlib.sha256(base.model_dump_json().encode()).hexdigest()
    # the version's row is what two that ask at once wait for each other at
    await session.get(DatasetVersion, version.id, with_for_update=True, populate_existing=True)
    counts = await _of(session, version)
    row = next((one for one in counts if one.base_hash == digest), None)
    if row is None and len(counts) >= MOST:
        raise Problem(409, "too_many", f"{name}@{version.number} has the counts of {MOST} base models already")
    if row is None:
        row = TokenCount(
            id=new_id(), version_id=version.id, base=base.model_dump(mode="json"), base_hash=digest, state="waiting",
            created_at=now(), created_by=person.username,
        )  # fmt: skip
        session.add(row)
    elif row.state != "failed":
        return _shown(row)
    row.state, row.worker, row.tried, row.message = "waiting", "", [], ""
    await session.flush()
    note(session, person.actor, "count_tokens", "dataset", f"{name}@{version.number}", after={"base": row.base})
    return _shown(row)


async def shown(session: AsyncSession, version: DatasetVersion) -> list[schemas.TokenCount]:
    """Those of a version, the newest first."""
    return [_shown(row) for row in await _of(session, version)]


async def orders(
    session: AsyncSession, worker: TrainerRow, ended: Sequence[CountStatus], lease: timedelta
) -> tuple[CountOrder, ...]:
    """Take what a worker has counted, and say what it is to count: one at a time, so that others help."""
    query = select(TokenCount, DatasetVersion).join(DatasetVersion, DatasetVersion.id == TokenCount.version_id)
    query = query.where(TokenCount.state.in_(("waiting", "counting"))).order_by(TokenCount.created_at, TokenCount.id)
    open_ones = (await session.execute(query.with_for_update(of=TokenCount))).all()
    if not open_ones:
        return ()
    alive = await _able(session, lease)
    told = {one.count: one for one in ended}
    for row, _ in open_ones:
        if row.state == "counting" and row.worker == worker.name and row.id in told:
            _settle(row, told[row.id], alive)
        elif row.state == "counting" and row.worker not in alive:
            row.state, row.message = "waiting", f"the worker {row.worker} is silent"
    mine = [pair for pair in open_ones if pair[0].state == "counting" and pair[0].worker == worker.name]
    if not mine and worker.name in alive:
        mine = [pair for pair in open_ones if pair[0].state == "waiting" and worker.name not in pair[0].tried][:1]
    for row, _ in mine:
        row.state, row.worker = "counting", worker.name
    return tuple(
        CountOrder(
            count=row.id, base=BaseModelRef.model_validate(row.base),
            data=DataFile(version=version.id, split="train", sha256=version.sha256, rows=version.rows),
        )
        for row, version in mine
    )  # fmt: skip


def _settle(row: TokenCount, said: CountStatus, able: set[str]) -> None:
    if said.lengths is not None:
        row.state, row.lengths, row.message = "done", said.lengths.model_dump(mode="json"), ""
        return
    row.tried = [*row.tried, row.worker]
    row.state = "waiting" if able.difference(row.tried) else "failed"
    row.message = f"{row.worker}: {said.failure}"[:1000]


async def _able(session: AsyncSession, lease: timedelta) -> set[str]:
    """Workers that are heard of and can count."""
    rows = await session.scalars(select(TrainerRow).where(TrainerRow.seen_at > now() - 2 * lease))
    return {row.name for row in rows if RECIPE in row.recipes}


async def _of(session: AsyncSession, version: DatasetVersion) -> Sequence[TokenCount]:
    query = select(TokenCount).where(TokenCount.version_id == version.id)
    return (await session.scalars(query.order_by(TokenCount.created_at.desc(), TokenCount.id.desc()))).all()


def _shown(row: TokenCount) -> schemas.TokenCount:
    return schemas.TokenCount.model_validate(
        {field: getattr(row, field) for field in schemas.TokenCount.model_fields if field != "lengths"}
        | {"lengths": row.lengths or None}
    )
