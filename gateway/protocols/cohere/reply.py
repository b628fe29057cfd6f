"""Answers of Cohere's Chat API, version 2, read.

https://docs.cohere.com/v2/reference/chat-stream (read 2026-11) and the types of the `cohere` package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from gateway.protocols import answers
from gateway.protocols.base import BadReply, UsageOf
from gateway.protocols.canonical import (
    Block,
    BlockEnd,
    Broken,
    Choice,
    CitationDelta,
    Delta,
    Document,
    Finish,
    Finished,
    Reply,
    Start,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolDelta,
    ToolStart,
    Usage,
    UsageNow,
)  # fmt: skip
from gateway.protocols.cohere.request import PLAN

_FINISH: dict[str, Finish] = {
    "COMPLETE": "stop", "STOP_SEQUENCE": "stop_sequence", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls",
}  # fmt: skip
_FAILURES = {"ERROR": 500, "TIMEOUT": 504}


def read_reply(document: Document, usage: UsageOf) -> Reply:
    """See `Outbound.read_reply`. The API does not tell the name of the model."""
    message, reason = document.get("message"), answers.text(document, "finish_reason")
    if not isinstance(message, dict):
        raise BadReply("has no message")
    if reason in _FAILURES:
        raise BadReply(f"says that it failed: {reason}")
    blocks: list[Block] = [Thinking(message[PLAN], id=PLAN)] if answers.said(message, PLAN) else []
    citations = answers.objects(message.get("citations"))
    for at, part in enumerate(answers.objects(message.get("content"))):
        if part.get("type") == "thinking":
            blocks.append(Thinking(answers.text(part, "thinking")))
        else:
            blocks.append(Text(answers.text(part, "text"), [c for one in citations for c in _cited(one, at)]))
    blocks += [ToolCall(*call_of(one), _arguments(one) or "{}") for one in answers.objects(message.get("tool_calls"))]
    choice = Choice(blocks, _FINISH.get(reason, "stop"), None, _logprobs(answers.objects(document.get("logprobs"))))
    return Reply(answers.text(document, "id"), "", [choice], usage(answers.mapping(document.get("usage"))))


def call_of(call: Document) -> tuple[str, str]:
    """(id, name) of a tool call."""
    name = answers.text(answers.mapping(call.get("function")), "name")
    if not name:
        raise BadReply("has a tool call without a name")
    return answers.text(call, "id"), name


def _arguments(call: Document) -> str:
    return answers.text(answers.mapping(call.get("function")), "arguments")


def _cited(citation: Document, content: int) -> list[Document]:
    """The citations of one content: a source each. Those of thinking and plans are left out."""
    if answers.index(citation, "content_index") != content or citation.get("type", "TEXT_CONTENT") != "TEXT_CONTENT":
        return []
    return [_citation(citation, source) for source in answers.objects(citation.get("sources"))]


def _citation(citation: Document, source: Document) -> Document:
    """In Anthropic's form, with the place in the answer."""
    document = answers.mapping(source.get("document") or source.get("tool_output"))
    url, title = answers.text(document, "url"), answers.text(document, "title")
    cited = answers.text(document, "snippet") or answers.text(document, "text")
    span = {"start_index": citation.get("start"), "end_index": citation.get("end")}
    if url:
        return {"type": "web_search_result_location", "cited_text": cited, "url": url, "title": title, **span}
    named = {"source": answers.text(source, "id"), "title": title}
    return {"type": "search_result_location", "cited_text": cited, **named, **span}


def _logprobs(items: list[Document]) -> Document | None:
    """OpenAI's `logprobs` object: the probability of each piece of text, whose tokens the API does not tell apart."""
    content = []
    for item in items:
        values, text = item.get("logprobs"), answers.text(item, "text")
        if isinstance(values, list) and all(isinstance(value, int | float) for value in values):
            content.append({"token": text, "logprob": sum(values), "bytes": list(text.encode()), "top_logprobs": []})
    return {"content": content, "refusal": None} if content else None


def read_usage(raw: Document) -> Usage | None:
    """A `UsageOf`: what is billed, else what was counted; cached tokens are part of the input."""
    for name in ("billed_units", "tokens"):
        counts = answers.mapping(raw.get(name))
        given, made = _count(counts.get("input_tokens")), _count(counts.get("output_tokens"))
        if given is not None:
            cached = min(_count(raw.get("cached_tokens")) or 0, given)
            return Usage(given - cached, cached, 0, made or 0, 0)
    return None


def _count(value: Any) -> int | None:
    """Counts are written as floating-point numbers."""
    return answers.count(int(value) if isinstance(value, float) and value.is_integer() else value)


class CohereReader:
    """See `gateway.protocols.base.Reader`."""

    def __init__(self, usage: UsageOf) -> None:
        self._usage = usage
        self._finished = False
        self._calls: dict[int, int] = {}
        """index -> number of the call, for those that are being written."""
        self._count = 0
        self._current: int | None = None
        """index of the call that is being written, if one is: the end of another is none of it."""

    def read(self, event: bytes) -> list[Delta]:
        """The deltas of one event."""
        document = answers.event_object(event)
        if document is None:
            return []
        delta = answers.mapping(document.get("delta"))
        take = self._takes.get(answers.text(document, "type"))
        return take(self, document, answers.mapping(delta.get("message"))) if take is not None else []

    def end(self) -> list[Delta]:
        """Nothing more; a stream without its message-end is broken."""
        if not self._finished:
            raise BadReply("ended before its answer did")
        return []

    def _message_start(self, event: Document, message: Document) -> list[Delta]:
        return [Start(answers.text(event, "id"), "")]

    def _content(self, event: Document, message: Document) -> list[Delta]:
        content = answers.mapping(message.get("content"))
        deltas: list[Delta] = []
        if answers.said(content, "thinking"):
            deltas.append(ThinkingDelta(answers.text(content, "thinking")))
        if answers.said(content, "text"):
            logprobs = _logprobs([answers.mapping(event.get("logprobs"))])
            deltas.append(TextDelta(answers.text(content, "text"), 0, logprobs))
        self._current = None if deltas else self._current
        return deltas

    def _plan(self, event: Document, message: Document) -> list[Delta]:
        self._current = None
        return [ThinkingDelta(answers.text(message, PLAN), id=PLAN)]

    def _call_start(self, event: Document, message: Document) -> list[Delta]:
        at, call = answers.index(event, "index"), answers.mapping(message.get("tool_calls"))
        number = self._calls[at] = self._count
        self._current = at
        self._count += 1
        start = ToolStart(number, *call_of(call))
        return [start, ToolDelta(number, _arguments(call))] if _arguments(call) else [start]

    def _call_delta(self, event: Document, message: Document) -> list[Delta]:
        at = self._current = answers.index(event, "index")
        call = self._calls.get(at)
        if call is None:
            raise BadReply("has arguments of a tool call that is not being written")
        return [ToolDelta(call, _arguments(answers.mapping(message.get("tool_calls"))))]

    def _call_end(self, event: Document, message: Document) -> list[Delta]:
        at = answers.index(event, "index")
        self._calls.pop(at, None)
        return [BlockEnd()] if at == self._current else []

    def _content_end(self, event: Document, message: Document) -> list[Delta]:
        return [BlockEnd()] if self._current is None else []

    def _cite(self, event: Document, message: Document) -> list[Delta]:
        citation = answers.mapping(message.get("citations"))
        return [CitationDelta(one) for one in _cited(citation, answers.index(citation, "content_index"))]

    def _message_end(self, event: Document, message: Document) -> list[Delta]:
        delta = answers.mapping(event.get("delta"))
        reason = answers.text(delta, "finish_reason")
        if reason in _FAILURES or answers.said(delta, "error"):
            return [Broken(answers.text(delta, "error") or reason, _FAILURES.get(reason, 500))]
        self._finished = True
        deltas: list[Delta] = [Finished(_FINISH.get(reason, "stop"))]
        usage = self._usage(answers.mapping(delta.get("usage")))
        return [*deltas, UsageNow(usage)] if usage is not None else deltas

    _takes: ClassVar[dict[str, Callable[[CohereReader, Document, Document], list[Delta]]]] = {
        "message-start": _message_start,
        "content-start": _content,
        "content-delta": _content,
        "content-end": _content_end,
        "tool-plan-delta": _plan,
        "tool-call-start": _call_start,
        "tool-call-delta": _call_delta,
        "tool-call-end": _call_end,
        "citation-start": _cite,
        "message-end": _message_end,
    }
