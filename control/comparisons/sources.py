"""Cases from what is here: other versions, datasets, one's own chats, kept bodies of requests."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.chat import service as chats
from control.comparisons import files, schemas
from control.datasets import build, rows
from control.datasets.service import version_of
from control.errors import FieldError, Problem, invalid
from control.kit.files import Files
from control.kit.ownership import find
from control.kit.permissions import Person
from control.models import Dataset, RequestBody, Suite, SuiteCase, SuiteVersion, UsageRow
from control.security import Vault
from control.usage import bodies

SAMPLED_FROM = 100_000
"""Most requests of which some are drawn."""


class Sources:
    """Reads sources for one person."""

    def __init__(self, session: AsyncSession, store: Files, vault: Vault, person: Person, suite: Suite) -> None:
        self._session, self._files, self._vault = session, store, vault
        self._person, self._suite = person, suite
        self.skipped: Counter[str] = Counter()

    async def read(self, sources: Sequence[Any]) -> list[schemas.SuiteCase]:
        """The cases of all of them, one after another.

        Raises:
            Problem: 404, 403 or 422: one of them is not there, not the person's, or holds no cases.
        """
        found: list[schemas.SuiteCase] = []
        for number, source in enumerate(sources):
            found += await self._one(source, f"body.sources.{number}")
            if len(found) > schemas.MOST_CASES:
                raise Problem(422, "too_many_cases", f"these are more than {schemas.MOST_CASES} cases")
        if not found:
            raise Problem(422, "no_cases", f"none of this gives a case: {dict(self.skipped)}")
        return found

    async def _one(self, source: Any, at: str) -> list[schemas.SuiteCase]:
        match source.kind:
            case "cases":
                return list(source.cases)
            case "csv" | "jsonl":
                try:
                    return await asyncio.to_thread(files.read, source.kind, source.text, f"{at}.text")
                except files.Unreadable as exc:
                    raise invalid(exc.errors) from exc
            case "version":
                return await self._version(source.number, at)
            case "dataset":
                return await self._dataset(source)
            case "chats":
                return [case for one in dict.fromkeys(source.sessions) for case in await self._chat(one)]
            case _:
                return await self._requests(source)

    async def _version(self, number: int, at: str) -> list[schemas.SuiteCase]:
        version = await self._session.scalar(
            select(SuiteVersion).where(SuiteVersion.suite_id == self._suite.id, SuiteVersion.number == number)
        )
        if version is None:
            raise invalid([FieldError(at=f"{at}.number", message=f"there is no version {number}")])
        return [schemas.SuiteCase.model_validate(row) for row in await contents(self._session, version)]

    async def _dataset(self, source: schemas.DatasetCases) -> list[schemas.SuiteCase]:
        row = await find(self._session, self._person, Dataset, source.dataset)
        version = await version_of(self._session, row, source.number)
        if version.state != "ready":
            raise Problem(409, "not_ready", f"{row.name}@{source.number} is {version.state}")
        some = await asyncio.to_thread(rows.some, rows.accepted(self._files, version), 0, source.limit)
        return [case for one in some for case in self._from_dialogue(one.get("messages") or one.get("prompt"), one)]

    async def _chat(self, identity: str) -> list[schemas.SuiteCase]:
        opened = chats.opened(self._vault, await chats.find(self._session, self._person, identity))
        return self._from_dialogue(build.messages_of(opened), {})

    async def _requests(self, source: schemas.RequestCases) -> list[schemas.SuiteCase]:
        if not self._person.may("requests:bodies"):
            raise Problem(403, "forbidden", "your role may not read the bodies of requests")
        query = select(UsageRow.id).where(UsageRow.ts >= source.since, UsageRow.end == "success")
        query = query.where(UsageRow.shadow_of.is_(None))
        if source.route is not None:
            query = query.where(UsageRow.route == source.route)
        query = query.where(UsageRow.id.in_(select(RequestBody.id).where(RequestBody.erased_at.is_(None))))
        most = SAMPLED_FROM if source.sample else source.limit
        ids = list(await self._session.scalars(query.order_by(UsageRow.ts.desc()).limit(most)))
        if source.sample:
            ids = random.sample(ids, min(source.limit, len(ids)))
        found: list[schemas.SuiteCase] = []
        for start in range(0, len(ids), build.AT_ONCE):
            some = ids[start : start + build.AT_ONCE]
            held = await bodies.find(self._session, some)
            texts = await asyncio.to_thread(build.opened, self._vault, held)
            for one in some:
                reason, row = build.dialogue(held.get(one), texts.get(one))
                if row is None:
                    self.skipped[reason] += 1
                else:
                    found += self._from_dialogue(row["messages"], {})
        return found

    def _from_dialogue(self, messages: Any, row: dict[str, Any]) -> list[schemas.SuiteCase]:
        """The case of a dialogue: what comes before its last answer is asked, and that answer is expected."""
        chosen = row.get("chosen")
        if isinstance(chosen, list) and isinstance(messages, list):
            messages = [*messages, *chosen]
        if not isinstance(messages, list) or not messages or messages[-1].get("role") != "assistant":
            self.skipped["no_answer"] += 1
            return []
        expected, asked = messages[-1].get("content"), messages[:-1]
        if not asked or not isinstance(expected, str | None):
            self.skipped["no_question" if not asked else "no_text"] += 1
            return []
        try:
            return [schemas.SuiteCase.model_validate({"messages": asked, "expected": expected})]
        except ValidationError:
            self.skipped["no_dialogue"] += 1
            return []


async def contents(session: AsyncSession, version: SuiteVersion) -> list[dict[str, Any]]:
    """The cases of a version, in order."""
    query = select(SuiteCase.content).where(SuiteCase.version_id == version.id).order_by(SuiteCase.number)
    return list(await session.scalars(query))
