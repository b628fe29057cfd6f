"""OpenAI, and every upstream that speaks its dialect: bytes pass through, usage and errors are read on the side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import orjson

from gateway.errors import Header
from gateway.protocols.base import Outbound
from gateway.protocols.canonical import Usage
from gateway.protocols.chat import Chat
from gateway.protocols.counted import CountedWire, UncountedWire
from gateway.protocols.responses import Responses
from gateway.protocols.responses.wire import ResponsesWire
from gateway.protocols.sse import EventKind, event_data
from gateway.protocols.tasks.base import TaskOut
from gateway.protocols.tasks.embeddings import ToOpenAI
from gateway.protocols.wire import Content
from gateway.providers.base import Provider, Wire
from gateway.providers.operations import AUDIO, BATCHES, FILES, IMAGES, PATHS, RERANK, RESPONSES, TEXT

_COUNTED, _MEDIA = CountedWire(), CountedWire(content="media")
_STORED, _CONTENT = UncountedWire(), UncountedWire(content="bytes")
_RESPONSES = ResponsesWire()
_NONE: dict[str, Any] = {}
_TEXT_FIELDS = ("content", "reasoning_content", "reasoning", "refusal")


class OpenAI(Provider):
    """See `gateway.providers.base.Provider`; of its own dialect it is the `Wire` too."""

    kind = "openai"
    operations: tuple[str, ...] = (*TEXT, *RERANK, "moderations", *IMAGES, *AUDIO, *FILES, *BATCHES)
    dialect: Outbound = Chat()
    tasks: Mapping[str, TaskOut] = MappingProxyType({"embeddings": ToOpenAI()})
    usage_key = b'"usage"'
    end_mark = b"data: [DONE]"
    forward_headers = frozenset({b"openai-beta", b"openai-organization", b"openai-project", b"idempotency-key"})
    include_usage = True
    content: Content = "object"
    instead_of_model: bytes | None = None

    def at(self, base_url: str, options: dict[str, Any]) -> Provider:
        """Whether it has the Responses API, and whether that is what conversations are translated into."""
        api = options.get("api", "auto")
        if api == "auto":
            api = "both" if urlsplit(base_url).hostname == "api.openai.com" else "chat"
        return self if api == "chat" else WithResponses(self, only=api == "responses")

    def path(self, operation: str, stream: bool) -> bytes:
        """Path below the base URL."""
        return PATHS[operation]

    def wire(self, operation: str) -> Wire:
        """Itself for texts; what is no text says less of itself."""
        if operation in TEXT:
            return self
        if operation in (*FILES, *BATCHES):
            return _CONTENT if operation == "file_content" else _STORED
        return _MEDIA if operation in AUDIO else _COUNTED

    def headers(self, api_key: str | None) -> tuple[Header, ...]:
        """Bearer authentication."""
        return ((b"authorization", b"Bearer " + api_key.encode()),) if api_key else ()

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """Split prompt into cached, stored and neither, completion into reasoning and not; details may be absent."""
        prompt = count(raw.get("prompt_tokens"))
        if prompt is None:
            return None
        completion = count(raw.get("completion_tokens")) or 0
        details, spent = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
        details = details if type(details) is dict else _NONE
        cached = self.cached(raw, details)
        stored = count(details.get("cache_write_tokens")) or 0
        reasoning = (count(spent.get("reasoning_tokens")) or 0) if type(spent) is dict else 0
        if cached + stored > prompt or reasoning > completion:  # parts cannot be more than the whole
            cached, reasoning = min(cached, prompt), min(reasoning, completion)
            stored = min(stored, prompt - cached)
        return Usage(prompt - cached - stored, cached, stored, completion - reasoning, reasoning)

    def cached(self, raw: dict[str, Any], details: dict[str, Any]) -> int:
        """Prompt tokens that were read from a cache."""
        return count(details.get("cached_tokens")) or 0

    def event_kind(self, event: bytes) -> int:
        """Content is anything that a delta says beyond its role, and any finish reason."""
        data = event_data(event)
        if not data:
            return EventKind.PREAMBLE
        if data == b"[DONE]":
            return EventKind.DONE
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            return EventKind.ERROR
        if not isinstance(chunk, dict) or chunk.get("error"):
            return EventKind.ERROR
        return EventKind.CONTENT if any(map(_says_something, _choices(chunk))) else EventKind.PREAMBLE

    def content_bytes(self, event: bytes) -> int:
        """Length of the text in all choices of one event, or of a whole reply."""
        try:
            chunk = orjson.loads(event if event.startswith(b"{") else event_data(event))
        except orjson.JSONDecodeError:
            return 0
        return sum(map(_text_bytes, _choices(chunk))) if isinstance(chunk, dict) else 0


class WithResponses(Provider):
    """An OpenAI that speaks the Responses API too, or `only` that where conversations go. See `Provider`."""

    forward_headers = OpenAI.forward_headers

    def __init__(self, chat: OpenAI, only: bool) -> None:
        self._chat = chat
        self.kind = chat.kind
        self.tasks = chat.tasks
        spoken = [one for one in chat.operations if not only or one not in ("chat", "completions")]
        self.operations: tuple[str, ...] = (*spoken, *RESPONSES)
        self.dialect: Outbound = Responses() if only else chat.dialect

    def path(self, operation: str, stream: bool) -> bytes:
        """Path below the base URL."""
        return self._chat.path(operation, stream)

    def headers(self, api_key: str | None) -> tuple[Header, ...]:
        """Bearer authentication."""
        return self._chat.headers(api_key)

    def wire(self, operation: str) -> Wire:
        """One for each API."""
        if operation in RESPONSES:
            known: dict[str, Wire] = {"responses": _RESPONSES, "response_delete": _STORED}
            return known.get(operation, _CONTENT)
        return self._chat.wire(operation)

    def usage(self, raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
        """Of the API that conversations are translated into."""
        return _RESPONSES.usage(raw) if self.dialect.operation == "responses" else self._chat.usage(raw)


def count(value: Any) -> int | None:
    """A token count, or None where the vendor sent none (zero is a count)."""
    return value if type(value) is int and value >= 0 else None


def _choices(chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
    choices = chunk.get("choices")
    return (c for c in choices if isinstance(c, dict)) if isinstance(choices, list) else iter(())


def _says_something(choice: dict[str, Any]) -> bool:
    if choice.get("finish_reason") or choice.get("text"):
        return True
    delta = choice.get("delta")
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role")


def _text_bytes(choice: dict[str, Any]) -> int:
    delta = choice.get("delta") or choice.get("message")
    if not isinstance(delta, dict):
        delta = {"content": choice.get("text")}
    size = sum(len(text.encode()) for name in _TEXT_FIELDS if isinstance(text := delta.get(name), str))
    calls = delta.get("tool_calls")
    return size + (len(orjson.dumps(calls)) if calls else 0)
