"""Audit entries: noted while the work is done, chained to the log in its transaction.

hash = SHA-256 over the previous row's hash and the canonical JSON of this row's facts. A row that was changed,
inserted or taken out breaks the chain from there on (`tunegate audit verify`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from control.models.base import now
from control.models.ledger import AuditRow, Counter

PENDING = "audit entries"
GENESIS = "0" * 64
_SECRET_WORDS = ("secret", "password", "api_key", "token", "sealed", "authorization", "digest")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something, and from where."""

    name: str
    address: str = ""


def note(
    session: AsyncSession,
    actor: Actor,
    action: str,
    kind: str,
    resource: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Say that `actor` did `action` (`create`, `update`, …) to a resource; secrets are masked here."""
    entry = (actor, action, kind, resource, canonical(masked(before)), canonical(masked(after)))
    session.info.setdefault(PENDING, []).append(entry)


async def chain(session: AsyncSession, head: Counter, entries: Sequence[tuple[Actor, str, str, str, str, str]]) -> None:
    """Write the entries after the head, which the caller has locked."""
    for actor, action, kind, resource, before, after in entries:
        head.value += 1
        row = AuditRow(
            seq=head.value,
            ts=now(),
            actor=actor.name,
            action=action,
            resource_kind=kind,
            resource=resource,
            before=before,
            after=after,
            address=actor.address,
            previous_hash=head.text or GENESIS,
        )
        row.hash = digest(row)
        head.text = row.hash
        session.add(row)
    await session.flush()


def digest(row: AuditRow) -> str:
    """Hash of a row's facts and of the row before."""
    facts = [
        row.previous_hash, row.seq, row.ts.isoformat(timespec="microseconds"), row.actor, row.action,
        row.resource_kind, row.resource, row.before, row.after, row.address,
    ]  # fmt: skip
    return hashlib.sha256(canonical(facts).encode()).hexdigest()


def canonical(value: object) -> str:
    """JSON with one spelling; empty for None."""
    if value is None:
        return ""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def masked(value: Any) -> Any:
    """The same with the values of secret-looking names replaced."""
    if isinstance(value, Mapping):
        return {
            key: "•••" if item and any(word in str(key).lower() for word in _SECRET_WORDS) else masked(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [masked(item) for item in value]
    return value
