"""The states of a job. Every change is one compare-and-set with an event, and only along `MOVES`.

    draft → validating → queued → allocating → preparing → running → finalizing → succeeded

Besides: stopping → stopped (with a checkpoint: can go on), failed (with a reason), lost (its worker is silent),
canceled, rejected (cannot be run as it is).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import set_committed_value

from control.errors import Problem
from control.models import JobEvent, TrainingJob
from control.models.base import now

State = Literal[
    "draft", "validating", "rejected", "queued", "allocating", "preparing", "running", "finalizing", "stopping",
    "stopped", "succeeded", "failed", "lost", "canceled",
]  # fmt: skip
STATES: tuple[State, ...] = get_args(State)

_ENDS: frozenset[State] = frozenset({"stopping", "stopped", "failed", "lost", "canceled"})
MOVES: dict[State, frozenset[State]] = {
    "draft": frozenset({"validating", "canceled"}),
    "validating": frozenset({"queued", "rejected"}),
    "rejected": frozenset(),
    "queued": frozenset({"allocating", "stopped", "canceled"}),
    "allocating": _ENDS | {"preparing"},
    "preparing": _ENDS | {"running"},
    "running": _ENDS | {"finalizing"},
    "finalizing": frozenset({"succeeded", "failed", "lost", "stopped", "canceled"}),
    "stopping": frozenset({"finalizing", "stopped", "failed", "lost", "canceled"}),
    "stopped": frozenset({"queued", "canceled"}),
    "succeeded": frozenset(),
    "failed": frozenset({"queued", "canceled"}),
    "lost": frozenset({"queued", "stopped", "canceled", "failed"}),
    "canceled": frozenset(),
}
"""From each state, where to."""

HELD: frozenset[State] = frozenset({"allocating", "preparing", "running", "finalizing", "stopping"})
"""An attempt has devices."""
OVER: frozenset[State] = frozenset({"succeeded", "canceled", "rejected"})
"""Nothing moves it any more."""
_WAY: tuple[State, ...] = ("allocating", "preparing", "running", "finalizing")


async def move(
    session: AsyncSession, job: TrainingJob, to: State, actor: str, message: str = "", **changes: Any
) -> None:
    """Put a job into another state, and say so in its history; `changes` are other columns.

    Raises:
        Problem: 409 `illegal_state` if there is no such move, 409 `busy` if somebody else moved it meanwhile.
    """
    before: State = job.state  # type: ignore[assignment]
    if to not in MOVES[before]:
        raise Problem(409, "illegal_state", f"the job {job.name!r} is {before}: it cannot become {to}")
    moment = now()
    values = changes | {"state": to, "updated_at": moment, "row_version": job.row_version + 1}
    await session.flush()
    swap = update(TrainingJob).where(TrainingJob.id == job.id, TrainingJob.state == before)
    done = await session.execute(
        swap.where(TrainingJob.row_version == job.row_version).values(**values),
        execution_options={"synchronize_session": False},
    )
    if done.rowcount != 1:  # type: ignore[attr-defined]
        raise Problem(409, "busy", f"the job {job.name!r} was changed by someone else meanwhile: load it again")
    for column, value in values.items():
        set_committed_value(job, column, value)
    session.add(
        JobEvent(
            job_id=job.id, at=moment, attempt=job.attempts, state_before=before, state=to, actor=actor[:120],
            message=message[:2000],
        )
    )  # fmt: skip


async def advance(session: AsyncSession, job: TrainingJob, to: State, actor: str) -> None:
    """Go on to a state on the way of a run, through those between; nothing if the job is there or beyond."""
    if job.state not in _WAY or to not in _WAY:
        if job.state == "stopping" and to == "finalizing":
            await move(session, job, to, actor)
        return
    for state in _WAY[_WAY.index(job.state) + 1 : _WAY.index(to) + 1]:
        await move(session, job, state, actor)


def remark(session: AsyncSession, job: TrainingJob, actor: str, message: str) -> None:
    """Write something into a job's history that is no change of its state."""
    session.add(
        JobEvent(
            job_id=job.id, at=now(), attempt=job.attempts, state_before=job.state, state=job.state, actor=actor[:120],
            message=message[:2000],
        )
    )  # fmt: skip
