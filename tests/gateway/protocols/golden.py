"""The fixtures in tests/fixtures/providers/<kind>/: what goes over the wire in a vendor's own words, and what it means.

source    the page that describes it, the types that it was checked with, and when
request   a body of the vendor's; of a dialect that only upstreams speak, it is written for the chat completion `chat`
asks      the request in canonical form;  written: the body that this becomes, where it is not `request` again
reply     a whole answer;  means: the answer in canonical form
stream    the same answer as events;  streamed: members that are told differently then
broken    a stream that fails: its events, and the message and status of the failure
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.gateway.protocols import eventstream

FOLDER = Path(__file__).parents[2] / "fixtures" / "providers"
CASES = sorted(f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.json"))


def load(case: str) -> dict[str, Any]:
    """One fixture."""
    found: dict[str, Any] = orjson.loads((FOLDER / f"{case}.json").read_bytes())
    return found


def having(member: str) -> list[str]:
    """The cases that have it."""
    return [case for case in CASES if member in load(case)]


def rendered(kind: str, events: list[dict[str, Any]]) -> list[bytes]:
    """The events of a stream as the vendor sends them; `!` marks an exception of Bedrock's."""
    if kind == "bedrock":
        return [_frame(one["event"], orjson.dumps(one["data"])) for one in events]
    return [_event(one["event"], one["data"]) for one in events]


def _frame(name: str, payload: bytes) -> bytes:
    return eventstream.exception(name[1:], payload) if name[0] == "!" else eventstream.event(name, payload)


def _event(name: str | None, data: Any) -> bytes:
    head = f"event: {name}\n".encode() if name is not None else b""
    return head + b"data: %b\n\n" % (data.encode() if isinstance(data, str) else orjson.dumps(data))


def plain(value: Any) -> Any:
    """A canonical form as JSON: kinds by name, without what is not said."""
    if is_dataclass(value) and not isinstance(value, type):
        members = {f.name: plain(getattr(value, f.name)) for f in fields(value) if not _silent(value, f)}
        return {"is": type(value).__name__, **members}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: plain(one) for name, one in value._asdict().items() if one is not None}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def _silent(value: Any, field: Any) -> bool:
    found = getattr(value, field.name)
    if field.default is not MISSING:
        return bool(found == field.default)
    return bool(field.default_factory is not MISSING and found == field.default_factory())
