"""What a scrape looks up: gauges of the database, which every process tells alike, and of this machine's disk."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import get_args

from sqlalchemy import func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from control.deployments.engines import HEARD
from control.deps import Control
from control.jobs.states import STATES
from control.kit.metrics import Samples
from control.kit.permissions import Person
from control.models import (
    Deployment,
    DeviceClaim,
    GatewayRow,
    KnowledgeDocument,
    KnowledgeEntry,
    TrainerRow,
    TrainingAttempt,
    TrainingJob,
    UsageRow,
)
from control.models.base import now
from control.settings import Settings
from control.usage.budgets import nearly_spent
from trainer.contract.worker import Device, EngineStatus

log = logging.getLogger("tunegate.control.monitoring")

PATIENCE = 5.0
"""Seconds that a scrape waits for the database."""
BUDGETS = 60.0
"""Seconds between looks at all budgets: of a hundred thousand keys, that is work."""
NEARLY = 0.9
"""Part of a budget from which it counts as nearly spent."""
ATTEMPTS = ("ordered", "preparing", "running", "finalizing", "ended", "lost")
DEPLOYMENTS = ("placing", "live", "degraded", "draining", "retired", "failed")
ENTRIES = ("waiting", "parsing", "embedding", "ready", "failed")
USES = ("free", "job", "engine")
ENGINES = get_args(EngineStatus.model_fields["state"].annotation)
_EVERYBODY = Person("", "metrics", "admin", "")
"""Who sees every budget."""
Figures = dict[str, Samples]


class Look:
    """Looks; one for a process."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._budgets: tuple[float, int] | None = None
        """When budgets were looked at, in monotonic seconds, and how many are nearly spent."""

    async def figures(self) -> Figures:
        """All figures; without those of the database when it does not answer, which is a figure, too."""
        found: Figures = {}
        try:
            async with asyncio.timeout(PATIENCE), self._control.db.read() as session:
                for part in (_usage, _jobs, _workers, _knowledge):
                    found |= await part(session, now())
                found["tunegate_budgets_nearly_spent"] = [((), await self._nearly_spent(session))]
            found["tunegate_database_up"] = [((), 1.0)]
        except (SQLAlchemyError, OSError, TimeoutError) as exc:
            log.warning("a scrape goes without the figures of the database: %s: %s", type(exc).__name__, exc)
            found = {"tunegate_database_up": [((), 0.0)]}
        found["tunegate_snapshot_failing"] = [((), float(self._control.publisher.failing))]
        return found | await asyncio.to_thread(_disks, self._control.settings)

    async def _nearly_spent(self, session: AsyncSession) -> int:
        moment = time.monotonic()
        if self._budgets is None or moment - self._budgets[0] >= BUDGETS:
            self._budgets = moment, len(await nearly_spent(session, _EVERYBODY, (), NEARLY))
        return self._budgets[1]


async def _usage(session: AsyncSession, moment: datetime) -> Figures:
    newest = (await session.execute(select(UsageRow).order_by(UsageRow.ts.desc()).limit(1))).scalar()
    reports = await session.execute(select(GatewayRow.gateway, GatewayRow.reported_at))
    found: Figures = {"tunegate_gateway_silent_seconds": [((name,), _age(moment, at)) for name, at in reports]}
    if newest is not None:
        lag = _age(newest.received_at, newest.ts) - newest.duration_ms / 1000
        found["tunegate_ledger_lag_seconds"] = [((), max(0.0, lag))]
    return found


async def _jobs(session: AsyncSession, moment: datetime) -> Figures:
    may_run = or_(TrainingJob.not_before.is_(None), TrainingJob.not_before <= moment)
    first = select(func.min(TrainingJob.queued_at)).where(TrainingJob.state == "queued", may_run)
    queued = await session.scalar(first)
    return {
        "tunegate_jobs": await _by_state(session, TrainingJob.state, STATES),
        "tunegate_job_attempts": await _by_state(session, TrainingAttempt.state, ATTEMPTS),
        "tunegate_deployments": await _by_state(session, Deployment.state, DEPLOYMENTS),
        "tunegate_job_queue_age_seconds": [((), _age(moment, queued) if queued else 0.0)],
    }


async def _workers(session: AsyncSession, moment: datetime) -> Figures:
    claims = {(row[0], row[1]) for row in await session.execute(select(DeviceClaim.worker, DeviceClaim.uuid))}
    rows = (await session.scalars(select(TrainerRow).order_by(TrainerRow.name))).all()
    heard = [row for row in rows if row.seen_at > moment - HEARD]
    devices = [(row.name, Device.model_validate(one)) for row in heard for one in row.devices]
    engines = [(row.name, EngineStatus.model_validate(one)) for row in heard for one in row.engines]
    uses = Counter(
        (worker, "engine" if one.held_by else "job" if (worker, one.uuid) in claims else "free")
        for worker, one in devices
    )
    named = [((worker, one.uuid), one) for worker, one in devices]
    return {
        "tunegate_worker_silent_seconds": [((row.name,), _age(moment, row.seen_at)) for row in rows],
        "tunegate_devices": [((row.name, use), uses[row.name, use]) for row in heard for use in USES],
        "tunegate_device_busy_ratio": [(labels, one.percent / 100) for labels, one in named],
        "tunegate_device_memory_used_bytes": [(labels, one.used_mib * 2**20) for labels, one in named],
        "tunegate_device_memory_bytes": [(labels, one.memory_mib * 2**20) for labels, one in named],
        "tunegate_engine_state": [
            ((worker, one.name, state), float(one.state == state)) for worker, one in engines for state in ENGINES
        ],
    }


async def _knowledge(session: AsyncSession, moment: datetime) -> Figures:
    oldest = await session.scalar(
        select(func.min(KnowledgeDocument.created_at))
        .join(KnowledgeEntry, KnowledgeEntry.document_id == KnowledgeDocument.id)
        .where(KnowledgeEntry.state.not_in(("ready", "failed")), KnowledgeDocument.deleting.is_(False))
    )
    return {
        "tunegate_knowledge_documents": await _by_state(session, KnowledgeEntry.state, ENTRIES),
        "tunegate_knowledge_queue_age_seconds": [((), _age(moment, oldest) if oldest else 0.0)],
    }


async def _by_state(session: AsyncSession, column: InstrumentedAttribute[str], states: Sequence[str]) -> Samples:
    """How many rows are in each state; 0 where there is none, so that a first one is seen as a change."""
    rows = await session.execute(select(column, func.count()).group_by(column))
    counts: dict[str, int] = {row[0]: row[1] for row in rows}
    return [((state,), counts.get(state, 0)) for state in states]


def _age(moment: datetime, since: datetime) -> float:
    return max(0.0, (moment - since).total_seconds())


def _disks(settings: Settings) -> Figures:
    """In a thread: a network file system may take its time. A folder that nobody has needed yet is left out."""
    folders: dict[str, Path] = {
        "data": settings.console.data_dir, "training": settings.training_dir, "knowledge": settings.knowledge_dir,
    }  # fmt: skip
    used = {name: shutil.disk_usage(folder) for name, folder in folders.items() if folder.is_dir()}
    return {
        "tunegate_disk_free_bytes": [((name,), usage.free) for name, usage in used.items()],
        "tunegate_disk_bytes": [((name,), usage.total) for name, usage in used.items()],
    }
