"""The states of a job: no illegal move, whatever is tried, on every database; of two who move it, one does."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import select

from control.datasets.service import OVER
from control.db import Database
from control.errors import Problem
from control.jobs import retry, states
from control.migrations.run import migrate
from control.models import DeviceClaim, JobEvent, TrainingAttempt, TrainingJob
from control.models.base import new_id, now
from trainer.contract.spec import JobSpec

SPEC: dict[str, Any] = {"name": "j", "base": {"id": "/m"}, "data": {"train": "d@1"}}


def fresh(name: str = "j", state: str = "draft") -> TrainingJob:
    return TrainingJob(
        name=name, owner_kind="user", owner="alice", spec=SPEC, data={}, state=state, devices=1, created_by="alice"
    )


def test_every_state_is_reached_and_only_ends_lead_nowhere() -> None:
    reached = {"draft"}
    while more := {to for state in reached for to in states.MOVES[state]} - reached:  # type: ignore[index]
        reached |= more
    assert reached == set(states.STATES) == set(states.MOVES)
    assert {state for state, to in states.MOVES.items() if not to} == states.OVER == set(OVER)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wishes=st.lists(st.sampled_from(states.STATES), max_size=25))
def test_no_illegal_move_is_made_whatever_is_tried(tmp_path_factory: pytest.TempPathFactory, wishes: list[Any]) -> None:
    async def main() -> None:
        db = Database(f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('states')}/t.db")
        await migrate(db.engine)
        async with db.write() as session:
            session.add(job := fresh())
        before: Any = "draft"
        for wish in wishes:
            async with db.write() as session:
                row = await session.get(TrainingJob, job.id)
                assert row is not None
                legal = wish in states.MOVES[before]
                if legal:
                    await states.move(session, row, wish, "test")
                    before = wish
                else:
                    with pytest.raises(Problem, match="cannot become"):
                        await states.move(session, row, wish, "test")
        async with db.read() as session:
            events = (await session.scalars(select(JobEvent).order_by(JobEvent.id))).all()
            held = (await session.scalars(select(TrainingJob.state))).one()
        await db.close()
        way = ["draft", *(event.state for event in events)]
        assert way[-1] == held == before
        assert all(to in states.MOVES[at] for at, to in pairwise(way))  # type: ignore[index]

    asyncio.run(main())


def test_of_two_who_move_a_job_at_once_one_does(database_url: str) -> None:
    async def attempt(db: Database, ready: asyncio.Barrier) -> str:
        try:
            async with db.write() as session:
                row = (await session.scalars(select(TrainingJob))).one()
                if not db.is_sqlite:  # there a writer waits before it reads
                    await ready.wait()
                await states.move(session, row, "queued", "test")
        except Problem as exc:
            return exc.code
        return "moved"

    async def main() -> None:
        db = Database(database_url)
        try:
            await migrate(db.engine)
            async with db.write() as session:
                session.add(fresh(state="validating"))
            ready = asyncio.Barrier(2)
            ends = sorted(await asyncio.gather(attempt(db, ready), attempt(db, ready)))
            assert ends in (["busy", "moved"], ["illegal_state", "moved"])
            async with db.read() as session:
                assert len((await session.scalars(select(JobEvent))).all()) == 1
        finally:
            await db.close()

    asyncio.run(main())


def test_two_attempts_never_claim_one_device(database_url: str) -> None:
    async def claim(db: Database, name: str) -> str:
        try:
            async with db.write() as session:
                session.add(job := fresh(name, "queued"))
                await session.flush()
                attempt = TrainingAttempt(
                    id=new_id(), job_id=job.id, number=1, worker="w", state="ordered", devices=["g"], spec=SPEC,
                    resume=False, lease_until=now(), created_at=now(),
                )  # fmt: skip
                session.add(attempt)
                await session.flush()
                session.add(DeviceClaim(worker="w", uuid="g", attempt_id=attempt.id))
        except Exception as exc:  # noqa: BLE001 - whichever its driver raises
            return type(exc).__name__
        return "claimed"

    async def main() -> None:
        db = Database(database_url)
        try:
            await migrate(db.engine)
            ends = await asyncio.gather(*(claim(db, f"j{n}") for n in range(4)))
            assert ends.count("claimed") == 1, ends
            assert set(ends) == {"claimed", "IntegrityError"}
        finally:
            await db.close()

    asyncio.run(main())


@given(micro=st.integers(1, 512), accumulation=st.integers(1, 512))
def test_plans_after_out_of_memory_keep_the_batch_and_end(micro: int, accumulation: int) -> None:
    spec = JobSpec.model_validate({**SPEC, "training": {"micro_batch": micro, "accumulation": accumulation}})
    plan: dict[str, Any] = {}
    sizes = [micro]
    for _ in range(20):
        smaller = retry.after_oom(spec, plan)
        if smaller is None:
            break
        plan = smaller
        assert retry.planned(spec, plan).effective_batch == spec.effective_batch
        sizes.append(retry.planned(spec, plan).training.micro_batch)
    else:
        raise AssertionError("it never ends")
    assert sizes == sorted(sizes, reverse=True)
    assert retry.planned(spec, plan).training.micro_batch == 1
    assert retry.planned(spec, plan).training.gradient_checkpointing
