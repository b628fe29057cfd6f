"""Adapters: listed, uploaded, read."""

from __future__ import annotations

import json
import struct
import tarfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql import Select

from control.adapters import schemas
from control.errors import Problem, duplicate, not_found
from control.kit.audit import note
from control.kit.files import Files, reading
from control.kit.membership import teams_of
from control.kit.ownership import find_to_change, owner_of, visible_to
from control.kit.pages import contains
from control.kit.permissions import Person
from control.models import Adapter, AdapterVersion, Route
from control.models.base import new_id, now
from trainer.contract.servable import refusals

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_ENDINGS = (".json", ".safetensors", ".jinja", ".txt", ".md", ".model")
"""Files of a PEFT folder that hold data only: nothing that is unpickled."""
_HEADER = 16_777_216
"""Longest header of a safetensors file that is read."""


async def listed(session: AsyncSession, person: Person, search: str | None) -> Select[Any]:
    """Query of the adapters that a person sees, by name."""
    query = select(Adapter).where(visible_to(Adapter, person, await teams_of(session, person.id)))
    if search:
        query = query.where(contains(search, [Adapter.name, Adapter.description]))
    return query.order_by(Adapter.name)


async def create(session: AsyncSession, person: Person, body: schemas.AdapterCreate) -> Adapter:
    """A new adapter without versions. A route of its name must not lead elsewhere already."""
    if await session.scalar(select(Adapter.id).where(Adapter.name == body.name)):
        raise duplicate("adapter", body.name)
    if await session.scalar(select(Route.id).where(Route.name == body.name)):
        raise duplicate("route", body.name)
    kind, owner = await owner_of(session, person, body.team)
    row = Adapter(name=body.name, description=body.description, owner_kind=kind, owner=owner)
    session.add(row)
    await session.flush()
    note(session, person.actor, "create", "adapter", row.name, after={"owner": owner, "description": row.description})
    return row


async def update(session: AsyncSession, person: Person, name: str, body: schemas.AdapterUpdate) -> Adapter:
    """Change the description."""
    row = await find_to_change(session, person, Adapter, name, row_version=body.row_version)
    if row.description != body.description:
        after = {"description": body.description}
        note(session, person.actor, "update", "adapter", name, {"description": row.description}, after)
        row.description = body.description
        row.row_version += 1
        await session.flush()
    return row


async def versions_of(session: AsyncSession, adapter: Adapter) -> Sequence[AdapterVersion]:
    """All versions, the newest first."""
    query = select(AdapterVersion).where(AdapterVersion.adapter_id == adapter.id)
    return (await session.scalars(query.order_by(AdapterVersion.number.desc()))).all()


async def version_of(session: AsyncSession, adapter: Adapter, number: int) -> AdapterVersion:
    """One version of an adapter."""
    query = select(AdapterVersion).where(AdapterVersion.adapter_id == adapter.id, AdapterVersion.number == number)
    found: AdapterVersion | None = await session.scalar(query)
    if found is None:
        raise not_found("version", f"{adapter.name}@v{number}")
    return found


async def begin_upload(
    session: AsyncSession, person: Person, name: str, body: schemas.AdapterVersionCreate
) -> AdapterVersion:
    """The next version, which waits for its files."""
    adapter = await find_to_change(session, person, Adapter, name)
    waiting = select(func.count()).where(AdapterVersion.adapter_id == adapter.id, AdapterVersion.state == "uploading")
    if (await session.scalar(waiting) or 0) >= 3:
        raise Problem(409, "busy", f"three versions of {name!r} wait for their files: finish or archive one first")
    adapter.latest += 1
    adapter.row_version += 1
    id = new_id()
    version = AdapterVersion(
        id=id, adapter_id=adapter.id, number=adapter.latest, state="uploading", source="upload", kind="lora",
        folder=f"adapters/{id}", files={}, base=body.base.model_dump(mode="json"), created_at=now(),
        created_by=person.username,
    )  # fmt: skip
    session.add(version)
    await session.flush()
    note(session, person.actor, "begin_version", "adapter", f"{name}@v{version.number}")
    return version


def file_name(path: str) -> str:
    """A path that a file of an adapter may have.

    Raises:
        Problem: 422 `bad_file` for one that could hold a program.
    """
    if not path.endswith(_ENDINGS):
        raise Problem(422, "bad_file", f"{path[-100:]!r}: an adapter has {', '.join(_ENDINGS)} only; never a pickle")
    return path


def complete(files: Files, version: AdapterVersion, max_rank: int) -> None:
    """Take an uploaded version as it is, if it is an adapter: read its settings and the list of its weights.

    Raises:
        Problem: 422 `not_an_adapter` with what is missing or wrong.
    """
    if version.state != "uploading":
        return
    config = _config(files, version)
    rank = config.get("r")
    if not isinstance(rank, int) or rank < 1:
        raise Problem(422, "not_an_adapter", f"{CONFIG}: `r` is {rank!r}, not a rank")
    _check_weights(file_of(files, version, WEIGHTS))
    version.rank, version.problems = rank, list(refusals(config, max_rank))
    version.details = {key: config[key] for key in ("lora_alpha", "target_modules", "peft_type") if key in config}
    version.size = sum(one["size"] for one in version.files.values())
    version.state = "ready"


def _config(files: Files, version: AdapterVersion) -> dict[str, Any]:
    missing = [name for name in (CONFIG, WEIGHTS) if name not in version.files]
    if missing:
        raise Problem(422, "not_an_adapter", f"these files are missing: {', '.join(missing)}")
    path = file_of(files, version, CONFIG)
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size < 1_000_000 else None
    except ValueError:
        config = None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise Problem(422, "not_an_adapter", f"{CONFIG} is no JSON object with peft_type LORA")
    return config


def _check_weights(path: Path) -> None:
    with path.open("rb") as file:
        size = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))[0]
        try:
            header = json.loads(file.read(size)) if size <= _HEADER else None
        except ValueError:
            header = None
    if not isinstance(header, dict) or not any("lora_" in name for name in header):
        raise Problem(422, "not_an_adapter", f"{WEIGHTS} is no safetensors file with LoRA weights")
    ends = [one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"]
    if 8 + size + max(ends, default=0) != path.stat().st_size:
        raise Problem(422, "not_an_adapter", f"{WEIGHTS} is not whole")


def file_of(files: Files, version: AdapterVersion, path: str) -> Path:
    """Where a file of a version is."""
    if path not in version.files:
        raise not_found("file", path[:200])
    return files.path(version.folder, path)


async def archive(files: Files, name: str, version: AdapterVersion) -> AsyncIterator[bytes]:
    """All files of a version as a tar archive, made as it is read."""
    for path, held in sorted(version.files.items()):
        info = tarfile.TarInfo(f"{name}-v{version.number}/{path}")
        info.size, info.mtime = held["size"], int(version.created_at.timestamp())
        yield info.tobuf(tarfile.PAX_FORMAT)
        async for piece in reading(file_of(files, version, path), 0, held["size"]):
            yield piece
        yield b"\0" * (-held["size"] % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)
