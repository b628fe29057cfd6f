"""Versions that are built here: from another one, from kept bodies of requests, from one's own chats, from votes.

Each is written as a JSONL source in the canonical form and then checked like any other. Where a row came from, and
what allowed it to be kept, is remembered by its line.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.chat import service as chats
from control.chat.schemas import ChatSession
from control.datasets import rows, schemas, service
from control.errors import FieldError, Problem, invalid
from control.kit.files import Files
from control.kit.permissions import Person
from control.models import ComparisonVote, Dataset, DatasetOrigin, DatasetVersion, RequestBody, UsageRow
from control.models.base import now
from control.security import Vault
from control.usage import bodies

AT_ONCE = 200
"""Sealed bodies that are opened between two looks at other work."""


class Built(NamedTuple):
    """A row for a new source."""

    row: dict[str, Any]
    kind: str
    """Of its origin: request, chat, vote, or empty."""
    origin: str
    consent: str


async def edited(
    session: AsyncSession, files: Files, person: Person, row: Dataset, body: schemas.DatasetEdit
) -> DatasetVersion:
    """The next version of a dataset: another one's rows without some, and with some repaired."""
    parent = await service.version_of(session, row, body.version)
    if parent.state not in ("ready", "rejected"):
        raise Problem(409, "not_ready", f"{row.name}@{body.version} is {parent.state}")
    rejected = {one["line"] for one in rows.some(rows.rejected(files, parent), 0, parent.report.get("rejected", 0))}
    there = rows.accepted(files, parent)
    kept = [] if not there.exists() else list(await asyncio.to_thread(lambda: list(rows.without(there, ()))))
    errors = [
        FieldError(at=f"body.delete.{number}", message=f"no accepted row is from line {line}")
        for number, line in enumerate(body.delete)
        if line not in {known for known, _ in kept}
    ]
    errors += [
        FieldError(at=f"body.repair.{number}.line", message=f"line {repair.line} was not rejected")
        for number, repair in enumerate(body.repair)
        if repair.line not in rejected
    ]
    if errors:
        raise invalid(errors)
    origins = {one.line: one for one in await session.scalars(_origins(parent))}
    leave_out = set(body.delete)
    lines = [(line, row) for line, row in kept if line not in leave_out] + [(one.line, one.row) for one in body.repair]
    made = []
    for line, one in sorted(lines, key=lambda pair: pair[0]):
        origin = origins.get(line)
        made.append(Built(dict(one), *((origin.kind, origin.origin, origin.consent) if origin else ("", "", ""))))
    return await _written(session, files, person, row, "edit", made, parent.number)


async def from_requests(
    session: AsyncSession, files: Files, vault: Vault, person: Person, row: Dataset, body: schemas.FromRequests
) -> tuple[DatasetVersion, dict[str, int]]:
    """A version from requests whose bodies are kept: both are there, and the answer was whole."""
    query = select(UsageRow).where(UsageRow.ts >= body.since, UsageRow.ts < (body.until or now()))
    query = query.where(UsageRow.end == "success", UsageRow.shadow_of.is_(None))
    if body.route is not None:
        query = query.where(UsageRow.route == body.route)
    if body.key is not None:
        query = query.where(UsageRow.key == body.key)
    query = query.where(UsageRow.id.in_(select(RequestBody.id).where(RequestBody.erased_at.is_(None))))
    found = (await session.scalars(query.order_by(UsageRow.ts.desc()).limit(body.limit))).all()
    skipped: Counter[str] = Counter()
    made: list[Built] = []
    for start in range(0, len(found), AT_ONCE):
        some = found[start : start + AT_ONCE]
        held = await bodies.find(session, [one.id for one in some])
        texts = await asyncio.to_thread(opened, vault, held)
        for one in some:
            reason, kept = dialogue(held.get(one.id), texts.get(one.id))
            if kept is None:
                skipped[reason] += 1
            else:
                made.append(Built(kept, "request", one.id, f"key {one.key} keeps bodies"))
    if not made:
        raise Problem(422, "no_rows", f"no request of these has a dialogue that was kept whole: {dict(skipped)}")
    return await _written(session, files, person, row, "requests", made), dict(skipped)


async def from_chats(
    session: AsyncSession, files: Files, vault: Vault, person: Person, row: Dataset, body: schemas.FromChats
) -> tuple[DatasetVersion, dict[str, int]]:
    """A version from one's own chat sessions."""
    skipped: Counter[str] = Counter()
    made = []
    for identity in dict.fromkeys(body.sessions):
        messages = messages_of(chats.opened(vault, await chats.find(session, person, identity)))
        if not any(message["role"] == "assistant" for message in messages):
            skipped["no_answer"] += 1
            continue
        made.append(Built({"messages": messages}, "chat", identity, f"{person.username} gave their own session"))
    if not made:
        raise Problem(422, "no_rows", "none of these sessions has an answer")
    return await _written(session, files, person, row, "chats", made), dict(skipped)


async def from_votes(
    session: AsyncSession, files: Files, person: Person, row: Dataset, body: schemas.FromVotes
) -> tuple[DatasetVersion, dict[str, int]]:
    """A version from votes on answers side by side."""
    query = select(ComparisonVote).where(ComparisonVote.created_at >= body.since)
    if not person.may("comparisons:read"):
        query = query.where(ComparisonVote.voter == person.username)
    if body.blind:
        query = query.where(ComparisonVote.blind)
    skipped: Counter[str] = Counter()
    made = []
    for vote in await session.scalars(query.order_by(ComparisonVote.created_at.desc()).limit(body.limit)):
        said = _voted(vote, body.kind)
        skipped["nothing_better"] += not said
        made += [Built(one, "vote", vote.id, f"{vote.voter} voted on answers side by side") for one in said]
    if not made:
        raise Problem(422, "no_rows", "none of these votes has an answer that is better than another")
    return await _written(session, files, person, row, "votes", made), dict(+skipped)


def _voted(vote: ComparisonVote, kind: str) -> list[dict[str, Any]]:
    """Rows of a vote: the answer that was better, or how it should have been, alone or against each of the others."""
    best = vote.answers[vote.best]["text"] if vote.best is not None else ""
    good = best if vote.ideal is None else vote.ideal
    if not good.strip():
        return []
    answer = [{"role": "assistant", "content": good}]
    if kind == "sft":
        return [{"messages": [*vote.messages, *answer]}]
    others = dict.fromkeys(one["text"] for one in vote.answers if one["text"].strip() and one["text"] != good)
    rejected = [{"role": "assistant", "content": text} for text in others]
    return [{"prompt": vote.messages, "chosen": answer, "rejected": [one]} for one in rejected]


def messages_of(chat: ChatSession) -> list[dict[str, Any]]:
    """What was said in a session, without answers that failed or were stopped."""
    messages = [{"role": "system", "content": chat.settings.system}] if chat.settings.system else []
    return messages + [_said(one) for one in chat.messages if one.failure is None and not one.stopped]


def _said(message: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        said["tool_call_id"] = message.tool_call_id
    return said


def opened(vault: Vault, held: dict[str, RequestBody]) -> dict[str, tuple[str | None, str | None]]:
    """(request, response) in clear of each."""
    return {identity: bodies.opened(vault, row) for identity, row in held.items()}


def dialogue(
    held: RequestBody | None, texts: tuple[str | None, str | None] | None
) -> tuple[str, dict[str, Any] | None]:
    """(why not, row) of a request to chat completions and its answer."""
    if held is None or texts is None or texts[0] is None or texts[1] is None:
        return "not_kept", None
    if held.request_cut or held.response_cut:
        return "cut", None
    try:
        asked, answered = json.loads(texts[0]), json.loads(texts[1])
        choice = answered["choices"][0]
        answer = choice.get("message") or choice["delta"]
        row: dict[str, Any] = {"messages": [*asked["messages"], {"role": "assistant", **answer}]}
    except (ValueError, KeyError, TypeError, IndexError):
        return "no_dialogue", None
    if tools := asked.get("tools"):
        row["tools"] = tools
    return "", row


def _origins(version: DatasetVersion) -> Any:
    return select(DatasetOrigin).where(DatasetOrigin.version_id == version.id)


async def _written(
    session: AsyncSession,
    files: Files,
    person: Person,
    row: Dataset,
    source: schemas.Source,
    made: Sequence[Built],
    parent: int | None = None,
) -> DatasetVersion:
    version = await service.begin(session, person, row, source, "rows.jsonl", parent=parent)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(made), 500):
            some = [json.dumps(one.row, ensure_ascii=False) for one in made[start : start + 500]]
            yield ("\n".join(some) + "\n").encode()

    stored = await files.write(rows.source(files, version), pieces(), 1 << 40)
    session.add_all(
        DatasetOrigin(version_id=version.id, line=number, kind=one.kind, origin=one.origin, consent=one.consent)
        for number, one in enumerate(made, 1)
        if one.origin
    )
    version.size, version.state = stored.size, "checking"
    await session.flush()
    return version
