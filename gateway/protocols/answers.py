"""Reads members of an upstream's answer: what is not of the expected kind counts as absent, or is a BadReply."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocols.base import BadReply
from gateway.protocols.canonical import Document
from gateway.protocols.sse import event_data

MOST_PARTS = 100_000
"""Parts of one answer: an index beyond is nonsense, and must not make lists of its length."""


def event_object(event: bytes) -> Document | None:
    """The JSON object that a server-sent event holds; None if it is a comment or the mark of the end."""
    data = event_data(event)
    return parsed(data) if data and data != b"[DONE]" else None


def parsed(data: bytes) -> Document:
    """A JSON object. Raises BadReply."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise BadReply("holds an event that is not JSON") from exc
    if not isinstance(value, dict):
        raise BadReply("holds an event that is no object")
    return value


def text(document: Document, name: str) -> str:
    """A string; empty if there is none."""
    value = document.get(name)
    return value if isinstance(value, str) else ""


def said(document: Document, name: str) -> str | None:
    """A string that says something, or None."""
    return text(document, name) or None


def mapping(value: Any) -> Document:
    """An object; empty if it is none."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[Document]:
    """The objects of a list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def count(value: Any) -> int | None:
    """A count of tokens, or None where the vendor sent none (zero is a count)."""
    return value if type(value) is int and value >= 0 else None


def logprobs(value: Any) -> Document | None:
    """Log probabilities in OpenAI's form: of each token, and of the likeliest in its place; None if there are none."""
    members = {name: _tokens(mapping(value).get(name)) for name in ("content", "refusal")}
    return {"content": members["content"] or [], "refusal": members["refusal"]} if any(members.values()) else None


def _tokens(value: Any) -> list[Document] | None:
    return [{**one, "top_logprobs": objects(one.get("top_logprobs"))} for one in objects(value)] or None


def index(document: Document, name: str) -> int:
    """The place of a part; 0 if it is not said. Raises BadReply."""
    value = document.get(name, 0)
    if type(value) is not int or not 0 <= value < MOST_PARTS:
        raise BadReply(f"holds an impossible {name}")
    return value
