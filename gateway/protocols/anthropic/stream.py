"""Streamed answers of Anthropic's Messages API: blocks that start, grow and stop.

https://docs.anthropic.com/en/docs/build-with-claude/streaming (read 2026-11)
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocols import answers, fields
from gateway.protocols.anthropic.reply import (
    ERRORS,
    finish_of,
    tier_of,
    written_finish,
    written_tier,
    written_usage,
)  # fmt: skip
from gateway.protocols.base import BadReply, Origin, UsageOf
from gateway.protocols.canonical import (
    BlockEnd,
    Broken,
    CitationDelta,
    Delta,
    Document,
    Finished,
    MediaDelta,
    RefusalDelta,
    Start,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolDelta,
    ToolStart,
    Usage,
    UsageNow,
)  # fmt: skip
from gateway.protocols.sse import event_data

_STATUS = {kind: status for status, kind in ERRORS.items()} | {"timeout_error": 504}


class AnthropicReader:
    """See `gateway.protocols.base.Reader`."""

    def __init__(self, usage: UsageOf) -> None:
        self._usage_of = usage
        self._counts: Document = {}
        """Usage so far: a stream tells the input first and the output last."""
        self._calls = 0
        self._kind = ""
        """Of the block that is open."""
        self._arguments = False
        """The open tool call has got some."""
        self._finished = self._ended = False

    def read(self, event: bytes) -> list[Delta]:
        """The deltas of one event."""
        data = event_data(event)
        if not data:
            return []
        try:
            document = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise BadReply("holds an event that is not JSON") from exc
        if not isinstance(document, dict):
            raise BadReply("holds an event that is no object")
        kind = document.get("type")
        if kind == "content_block_delta":
            return self._grow(_inner(document, "delta"))
        if kind == "content_block_start":
            return self._open(_inner(document, "content_block"))
        if kind == "content_block_stop":
            return self._close()
        if kind == "message_start":
            return self._start(_inner(document, "message"))
        if kind == "message_delta":
            return self._finish(document)
        if kind == "message_stop":
            self._ended = True
        elif kind == "error":
            error = _inner(document, "error")
            return [Broken(answers.text(error, "message"), _STATUS.get(str(error.get("type")), 0))]
        return []

    def end(self) -> list[Delta]:
        """Nothing more; BadReply if the message has not been stopped."""
        if not self._ended or not self._finished:
            raise BadReply("ended before its answer did")
        return []

    def _start(self, message: Document) -> list[Delta]:
        raw = _inner(message, "usage")
        self._counts = raw
        identity, model = answers.text(message, "id"), answers.text(message, "model")
        return [Start(identity, model, self._usage_of(raw), tier_of(raw))]

    def _open(self, block: Document) -> list[Delta]:
        self._kind = kind = str(block.get("type"))
        if kind == "tool_use":
            self._arguments = False
            self._calls += 1
            return [ToolStart(self._calls - 1, answers.text(block, "id"), answers.text(block, "name"))]
        if kind == "text" and block.get("text"):
            return [TextDelta(str(block["text"]))]
        if kind == "thinking" and (block.get("thinking") or block.get("signature")):
            return [ThinkingDelta(answers.text(block, "thinking"), answers.said(block, "signature"))]
        if kind == "redacted_thinking":
            return [ThinkingDelta(redacted=answers.text(block, "data"))]
        return []

    def _grow(self, delta: Document) -> list[Delta]:
        kind = delta.get("type")
        if kind == "text_delta":
            return [TextDelta(answers.text(delta, "text"))]
        if kind == "input_json_delta":
            return self._argue(answers.text(delta, "partial_json"))
        if kind == "thinking_delta":
            return [ThinkingDelta(answers.text(delta, "thinking"))]
        if kind == "signature_delta":
            return [ThinkingDelta("", answers.text(delta, "signature"))]
        if kind == "citations_delta":
            return [CitationDelta(_inner(delta, "citation"))]
        return []

    def _argue(self, piece: str) -> list[Delta]:
        if self._kind != "tool_use" or not piece:  # of one of its own tools, which nobody here has asked for
            return []
        self._arguments = True
        return [ToolDelta(self._calls - 1, piece)]

    def _close(self) -> list[Delta]:
        kind, self._kind = self._kind, ""
        if kind == "tool_use" and not self._arguments:
            return [ToolDelta(self._calls - 1, "{}"), BlockEnd()]
        return [BlockEnd()]

    def _finish(self, document: Document) -> list[Delta]:
        deltas: list[Delta] = []
        delta = _inner(document, "delta")
        reason = finish_of(delta.get("stop_reason"))
        if reason is not None:
            self._finished = True
            deltas.append(Finished(reason, answers.said(delta, "stop_sequence")))
        raw = document.get("usage")
        if isinstance(raw, dict):
            self._counts = {**self._counts, **{name: value for name, value in raw.items() if value is not None}}
            usage = self._usage_of(self._counts)
            if usage is not None:
                deltas.append(UsageNow(usage))
        return deltas


def _inner(document: Document, name: str) -> Document:
    value = document.get(name)
    return value if isinstance(value, dict) else {}


class AnthropicWriter:
    """See `gateway.protocols.base.Writer`."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._index = -1
        """Of the last block."""
        self._open = ""
        """Kind of the block that is open; empty if none is."""
        self._calls: dict[int, ToolCall] = {}
        """Calls that have begun and not been closed. The first is the open block; others, whose pieces came between
        its own, wait for it: blocks follow one another here."""
        self._usage: Usage | None = None
        self._finish = Finished("stop")

    def write(self, delta: Delta) -> bytes:
        """Blocks open and close as the kind of what is written changes."""
        if isinstance(delta, TextDelta | RefusalDelta):
            opened = self._begin("text", {"type": "text", "text": ""})
            return opened + self._delta({"type": "text_delta", "text": delta.text})
        if isinstance(delta, ThinkingDelta):
            return self._think(delta)
        if isinstance(delta, ToolDelta):
            return self._argue(delta)
        if isinstance(delta, ToolStart):
            return self._call(delta)
        if isinstance(delta, CitationDelta):
            opened = self._begin("text", {"type": "text", "text": ""})
            return opened + self._delta({"type": "citations_delta", "citation": delta.citation})
        if isinstance(delta, BlockEnd | MediaDelta):  # it has no word for what a MediaDelta is, but that ends a block
            return b"" if len(self._calls) > 1 else self._close()  # with several open, it is not of the first
        if isinstance(delta, Start):
            return self._start(delta)
        if isinstance(delta, UsageNow):
            self._usage = delta.usage
        elif isinstance(delta, Finished):
            self._finish = delta
            return self._close()
        else:
            assert isinstance(delta, Broken)  # told by `error_event`
        return b""

    def end(self) -> bytes:
        """Why it stopped, with the whole usage, and that it did."""
        finish = self._finish
        delta = {"stop_reason": written_finish(finish.reason), "stop_sequence": finish.stop_sequence}
        usage = written_usage(self._usage or Usage())
        last = _event("message_delta", {"delta": delta, "usage": usage})
        return self._close() + last + _event("message_stop", {})

    def _start(self, start: Start) -> bytes:
        self._usage = start.usage
        usage = written_usage(start.usage or Usage())
        if start.service_tier is not None:
            usage["service_tier"] = written_tier(start.service_tier)
        message: Document = {
            "id": f"msg_{self._origin.id}",
            "type": "message",
            "role": "assistant",
            "model": start.model or self._origin.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        return _event("message_start", {"message": message})

    def _think(self, delta: ThinkingDelta) -> bytes:
        if delta.redacted is not None:
            block = {"type": "redacted_thinking", "data": delta.redacted}
            return self._close() + self._begin("redacted_thinking", block) + self._close()
        out = self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        if delta.text:
            out += self._delta({"type": "thinking_delta", "thinking": delta.text})
        if delta.signature:
            out += self._delta({"type": "signature_delta", "signature": delta.signature})
        return out

    def _call(self, delta: ToolStart) -> bytes:
        first = next(iter(self._calls.values()), None)
        closed = b"" if first is not None and not fields.is_object(first.arguments) else self._close()
        self._calls[delta.call] = ToolCall(delta.id, delta.name, "")
        return closed if len(self._calls) > 1 else closed + self._begin_call()

    def _argue(self, delta: ToolDelta) -> bytes:
        call = self._calls.get(delta.call)
        if call is None:  # its object was complete: nothing that follows is part of it
            return b""
        call.arguments += delta.arguments
        first = next(iter(self._calls))
        if delta.call != first:
            return b""
        out = self._delta({"type": "input_json_delta", "partial_json": delta.arguments})
        while len(self._calls) > 1 and fields.is_object(next(iter(self._calls.values())).arguments):
            out += self._next_call()
        return out

    def _next_call(self) -> bytes:
        """Closes the first call and opens the next, if there is one."""
        del self._calls[next(iter(self._calls))]
        self._open = ""
        closed = _event("content_block_stop", {"index": self._index})
        return closed + self._begin_call() if self._calls else closed

    def _begin_call(self) -> bytes:
        """The block of the first call, with what it has been given so far."""
        call = next(iter(self._calls.values()))
        begun = self._begin("tool_use", {"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        given = self._delta({"type": "input_json_delta", "partial_json": call.arguments}) if call.arguments else b""
        return begun + given

    def _begin(self, kind: str, block: Document) -> bytes:
        if self._open == kind and kind != "tool_use":
            return b""
        closed = b"" if kind == "tool_use" else self._close()
        self._open = kind
        self._index += 1
        return closed + _event("content_block_start", {"index": self._index, "content_block": block})

    def _delta(self, delta: Document) -> bytes:
        return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b}\n\n' % (
            self._index,
            orjson.dumps(delta),
        )

    def _close(self) -> bytes:
        if self._calls:
            return b"".join(self._next_call() for _ in list(self._calls))
        if not self._open:
            return b""
        self._open = ""
        return _event("content_block_stop", {"index": self._index})


def _event(kind: str, members: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **members}))
