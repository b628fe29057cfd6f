"""What makes two requests equal: the caller, the route with all its settings, and everything in the request that an
answer may depend on. docs/cache.md says the same in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

import orjson

from gateway.context import Context
from gateway.copies.watch import OPT_OUT
from gateway.protocols.anthropic import Anthropic
from gateway.protocols.base import Inbound, Outbound
from gateway.protocols.chat import Chat
from gateway.protocols.gemini import Gemini
from gateway.protocols.responses import Responses
from gateway.runtime import CacheRule

Document = dict[str, Any]
FORMAT = b"1"
"""Of entries; gateways of another version, which share a Redis, find none of these if it differs."""
IGNORED = frozenset(
    {
        "model", "stream", "stream_options", "user", "metadata", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention",
    }
)  # fmt: skip
"""Members of a body that change no answer. The model is in the key by itself, since some URLs hold it."""


class Dialect(Inbound, Outbound, Protocol):
    """A dialect whose answers can be read, too."""


CONVERSATIONS: Mapping[str, Dialect] = {
    "chat": Chat(), "messages": Anthropic(), "responses": Responses(), "gemini": Gemini()
}  # fmt: skip
"""Operations whose answers can be told as a stream or as a whole, whichever they were; and the dialect of each."""
_KEPT = frozenset({*CONVERSATIONS, "completions", "embeddings", "gemini_embed", "rerank", "rerank_v2", "moderations"})
LONGEST_BODY = 1_048_576
"""Bytes: a digest of more would hold up other requests, and pictures are rarely sent twice."""
_MAX_AGE = re.compile(r"max-age=(\d{1,9})")


class Wishes(NamedTuple):
    """What a client says in `cache-control`."""

    store: bool
    """The answer may be kept."""
    max_age: float
    """Seconds: an older answer is not wanted; 0: none is."""


def wishes(headers: Mapping[bytes, bytes]) -> Wishes:
    """Of a request with these headers: `no-store`, `no-cache` and `max-age`. What is not understood is left out."""
    said = headers.get(b"cache-control")
    store, max_age = OPT_OUT not in headers, float("inf")
    for word in said.decode("latin-1").lower().split(",") if said is not None else ():
        word = word.strip()  # noqa: PLW2901
        if word == "no-store":
            store, max_age = False, 0.0
        elif word == "no-cache":
            max_age = 0.0
        elif (found := _MAX_AGE.fullmatch(word)) is not None:
            max_age = min(max_age, float(found[1]))
    return Wishes(store, max_age)


def cacheable(ctx: Context, body: bytes) -> bool:
    """Whether the answer to a body could be given twice. Not one that its upstream or this gateway keeps under its id,
    and not where the model searches knowledge bases itself: what it may find is not known before.
    """
    call = ctx.call
    stored = call.kept or bool(call.document.get("store")) or bool(call.document.get("background"))
    known = ctx.operation.name in _KEPT and len(body) <= LONGEST_BODY
    return known and not stored and ctx.consultation is None


def digest(ctx: Context, rule: CacheRule, headers: Mapping[bytes, bytes]) -> bytes | None:
    """Of a request after its route's steps, 32 bytes; None if it is nested too deeply to be written down again."""
    try:
        return _sha(*common(ctx, rule, headers), *(canonical(one) for one in _documents(ctx)))
    except orjson.JSONEncodeError:
        return None


def common(ctx: Context, rule: CacheRule, headers: Mapping[bytes, bytes]) -> list[bytes]:
    """All of it but the body."""
    key, operation, call = ctx.key, ctx.operation, ctx.call
    team = key.team if rule.spec.scope == "team" else None
    parts = [FORMAT, b"key", key.name.encode()] if team is None else [FORMAT, b"team", team.encode()]
    parts += [ctx.route.name.encode(), rule.version, operation.name.encode(), call.model.encode()]
    if operation.name == "gemini_embed":  # one text or a list of them: only the URL says
        parts.append(operation.path.partition(b"?")[0].rpartition(b":")[2])
    if operation.name not in CONVERSATIONS:  # there is no way between its streams and its whole answers
        parts.append(b"stream=%d usage=%d" % (call.stream, call.stream and call.wants_usage))
    for name in rule.headers:
        parts.append(name)
        parts.append(headers.get(name, b""))
    return parts


def _documents(ctx: Context) -> list[Document]:
    """What the client sent, and what the steps made of it: passages of other documents make another request, and two
    texts that look the same to the model after a step stay two.
    """
    return [ctx.call.document] if ctx.document is None else [ctx.call.document, ctx.document]


def canonical(document: Document) -> bytes:
    """A body without what changes no answer, its members sorted."""
    told = {name: value for name, value in document.items() if name not in IGNORED}
    return orjson.dumps(told, option=orjson.OPT_SORT_KEYS)


def _sha(*parts: bytes) -> bytes:
    """A digest from which no other parts could be made by moving a border."""
    digest = sha256()
    for part in parts:
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return digest.digest()


def partition(parts: list[bytes], rest: bytes) -> bytes:
    """What questions that are compared by their meaning have in common: 32 bytes."""
    return _sha(b"semantic", *parts, rest)
