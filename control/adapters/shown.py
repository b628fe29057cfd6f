"""Adapters as the API tells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.adapters import schemas, service
from control.comparisons.gate import Gate
from control.kit.ownership import is_theirs
from control.kit.permissions import Person
from control.models import Adapter, AdapterEvaluation, AdapterGate, AdapterVersion, Deployment, Rollout, Route

_STORED = (
    "number", "state", "source", "kind", "size", "base", "base_sha256", "rank", "problems", "metrics", "details", "job",
    "data", "card", "created_at", "created_by",
)  # fmt: skip


async def listed(session: AsyncSession, person: Person, adapters: Sequence[Adapter]) -> list[schemas.Adapter]:
    """Adapters in a list."""
    ids = [row.id for row in adapters]
    versions: dict[str, list[AdapterVersion]] = {id: [] for id in ids}
    query = select(AdapterVersion).where(AdapterVersion.adapter_id.in_(ids)).order_by(AdapterVersion.number.desc())
    for version in await session.scalars(query):
        versions[version.adapter_id].append(version)
    all_ids = [version.id for some in versions.values() for version in some]
    live = set(
        await session.scalars(
            select(Deployment.served_name).where(
                Deployment.adapter_version_id.in_(all_ids), Deployment.state.in_(("live", "degraded"))
            )
        )
    )
    routes = set(await session.scalars(select(Route.name).where(Route.name.in_([row.name for row in adapters]))))
    items = []
    for row in adapters:
        some = versions[row.id]
        names = [f"{row.name}@v{version.number}" for version in some]
        items.append(
            schemas.Adapter(
                name=row.name, description=row.description, owner_kind=row.owner_kind, owner=row.owner,  # type: ignore[arg-type]
                mine=await is_theirs(session, person, row), versions=len(some),
                latest=some[0].number if some else 0, live=[name for name in names if name in live],
                published=row.name in routes, base=some[0].base["id"] if some else "", created_at=row.created_at,
                updated_at=row.updated_at, row_version=row.row_version,
            )
        )  # fmt: skip
    return items


async def detail(session: AsyncSession, person: Person, row: Adapter) -> schemas.AdapterDetail:
    """An adapter with its versions."""
    light = (await listed(session, person, [row]))[0]
    versions = await service.versions_of(session, row)
    query = select(Deployment).where(Deployment.adapter_version_id.in_([version.id for version in versions]))
    placed: dict[str, list[Deployment]] = {}
    for one in await session.scalars(query.order_by(Deployment.worker, Deployment.engine)):
        placed.setdefault(one.adapter_version_id, []).append(one)
    asked: dict[str, list[AdapterEvaluation]] = {}
    its = select(AdapterEvaluation).where(AdapterEvaluation.adapter_version_id.in_([one.id for one in versions]))
    for found in await session.scalars(its.order_by(AdapterEvaluation.created_at.desc(), AdapterEvaluation.id)):
        asked.setdefault(found.adapter_version_id, []).append(found)
    route = await session.scalar(select(Route).where(Route.name == row.name))
    items = [
        _version(row, version, placed.get(version.id, ()), asked.get(version.id, ()), route) for version in versions
    ]
    return schemas.AdapterDetail(
        **light.model_dump(), items=items, gate=Gate.model_validate(row.gate) if row.gate is not None else None,
        gate_try=await _gate_try(session, row), rollout=await _rollout(session, row),
    )  # fmt: skip


async def _gate_try(session: AsyncSession, row: Adapter) -> schemas.GateTry | None:
    query = select(AdapterGate).where(AdapterGate.adapter_id == row.id)
    found = await session.scalar(query.order_by(AdapterGate.created_at.desc()).limit(1))
    if found is None:
        return None
    fields = {name: getattr(found, name) for name in schemas.GateTry.model_fields if name != "share"}
    return schemas.GateTry.model_validate(fields | {"share": found.goal.get("share")})


async def _rollout(session: AsyncSession, row: Adapter) -> schemas.Rollout | None:
    query = select(Rollout).where(Rollout.adapter_id == row.id).order_by(Rollout.created_at.desc()).limit(1)
    found = await session.scalar(query)
    if found is None:
        return None
    same = ("number", "served_name", "state", "reason", "rule", "since", "created_at", "ended_at", "created_by")
    fields = {name: getattr(found, name) for name in same}
    figures = {"new": found.figures.get("new", {}), "old": found.figures.get("old", {})}
    return schemas.Rollout.model_validate(fields | figures | {"step": found.step + 1, "score": _score(found)})


def _score(row: Rollout) -> dict[str, Any] | None:
    if row.score is None:
        return None
    same = ("state", "against", "suite", "run", "runs", "drawn", "left_out", "message")
    points = [dict(zip(("n", "mean", "low", "high"), one, strict=True)) for one in row.score["points"]]
    return {field: row.score[field] for field in same} | {"points": points}


def _version(
    row: Adapter,
    version: AdapterVersion,
    placed: Sequence[Deployment],
    asked: Sequence[AdapterEvaluation],
    route: Route | None,
) -> schemas.AdapterVersion:
    name = f"{row.name}@v{version.number}"
    targets = route.spec.get("target", ()) if route is not None else ()
    whole = sum(one.get("weight", 1) for one in targets)
    mine = sum(one.get("weight", 1) for one in targets if one.get("model") == name)
    files = [{"path": path, **held} for path, held in sorted(version.files.items())]
    deployments = [{field: getattr(one, field) for field in schemas.Deployment.model_fields} for one in placed]
    evaluations = [{field: getattr(one, field) for field in schemas.Evaluation.model_fields} for one in asked]
    return schemas.AdapterVersion.model_validate(
        {field: getattr(version, field) for field in _STORED}
        | {
            "served_name": name,
            "files": files,
            "deployments": deployments,
            "evaluations": evaluations,
            "share": mine / whole if whole else 0.0,
        }
    )
