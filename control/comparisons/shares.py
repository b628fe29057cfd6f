"""Links to a run's report, for those who are signed in and may not see the run itself."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control.comparisons import results, runs, share_schemas as schemas
from control.errors import Problem, not_found
from control.kit.audit import note
from control.kit.permissions import Person
from control.models import ComparisonRun, ComparisonShare, Suite, SuiteVersion
from control.models.base import new_id, now
from control.security import new_token, sha256

PREFIX = "sl-tg-"
MOST = 50
"""Links of a run that are good at one time."""


async def create(
    session: AsyncSession, person: Person, id: str, body: schemas.ShareCreate
) -> tuple[ComparisonShare, str]:
    """A link and its secret, of which only a digest is kept."""
    await runs.of_id(session, person, id, to_change=True)
    table = ComparisonShare
    good = (table.run_id == id, table.revoked_at.is_(None), table.expires_at > now())
    if (await session.scalar(select(func.count()).select_from(table).where(*good)) or 0) >= MOST:
        raise Problem(409, "too_many", f"the run has {MOST} links: revoke one first")
    token = new_token(PREFIX)
    row = ComparisonShare(
        id=new_id(), run_id=id, digest=sha256(token), created_by=person.username, created_at=now(),
        expires_at=now() + timedelta(days=body.days), revoked_at=None,
    )  # fmt: skip
    session.add(row)
    note(session, person.actor, "create", "share", row.id, after={"run": id, "expires_at": row.expires_at.isoformat()})
    await session.flush()
    return row, token


async def listed(session: AsyncSession, person: Person, id: str) -> list[ComparisonShare]:
    """Links of a run, the newest first."""
    await runs.of_id(session, person, id)
    table = ComparisonShare
    query = select(table).where(table.run_id == id).order_by(table.created_at.desc(), table.id.desc())
    return list(await session.scalars(query))


async def revoke(session: AsyncSession, person: Person, id: str, share: str) -> None:
    """End a link; once it is ended nothing changes."""
    await runs.of_id(session, person, id, to_change=True)
    row = await session.get(ComparisonShare, share)
    if row is None or row.run_id != id:
        raise not_found("share", share)
    if row.revoked_at is None:
        row.revoked_at = now()
        note(session, person.actor, "revoke", "share", share, after={"run": id})


async def opened(session: AsyncSession, token: str) -> schemas.SharedReport:
    """The report that a link leads to. One that has ended is as unknown as one that never was."""
    share = await session.scalar(select(ComparisonShare).where(ComparisonShare.digest == sha256(token)))
    if share is None or share.revoked_at is not None or share.expires_at <= now():
        raise Problem(404, "not_found", "this link is unknown, has expired or was revoked")
    run = await session.get(ComparisonRun, share.run_id)
    assert run is not None, "links go with their run"
    version = await session.get(SuiteVersion, run.version_id)
    suite = await session.get(Suite, run.suite_id)
    assert version is not None and suite is not None, "a run goes with its suite"  # noqa: PT018
    return schemas.SharedReport(
        suite=suite.name, version=version.number, state=run.state, created_by=run.created_by,
        created_at=run.created_at, expires_at=share.expires_at,
        report=await results.reported(session, run),
    )  # fmt: skip
