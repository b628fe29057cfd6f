"""Answers of AWS Bedrock's Converse and ConverseStream APIs, read.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html (read 2026-11)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import orjson

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
    Media,
    MediaDelta,
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
from gateway.protocols.converse.frames import read_frame

_FINISH: dict[str, Finish] = {
    "end_turn": "stop", "tool_use": "tool_calls", "max_tokens": "length", "stop_sequence": "stop_sequence",
    "guardrail_intervened": "content_filter", "content_filtered": "content_filter",
    "model_context_window_exceeded": "length",
}  # fmt: skip
_FAILURES = {
    "internalServerException": 500, "modelStreamErrorException": 424, "validationException": 400,
    "throttlingException": 429, "serviceUnavailableException": 503,
}  # fmt: skip
_PLACES = {
    "documentChar": ("char_location", "start_char_index", "end_char_index", "document_index", "documentIndex"),
    "documentPage": ("page_location", "start_page_number", "end_page_number", "document_index", "documentIndex"),
    "documentChunk": ("content_block_location", "start_block_index", "end_block_index", "document_index",
                      "documentIndex"),
    "searchResultLocation": ("search_result_location", "start_block_index", "end_block_index", "search_result_index",
                             "searchResultIndex"),
}  # fmt: skip
"""Location of a citation -> what Anthropic calls it, its start, its end and what it is a place of."""


def read_reply(document: Document, usage: UsageOf) -> Reply:
    """See `Outbound.read_reply`. The API gives answers neither an id nor the name of their model."""
    message = answers.mapping(document.get("output")).get("message")
    if not isinstance(message, dict):
        raise BadReply("has no message")
    blocks = [block for part in answers.objects(message.get("content")) if (block := _block(part)) is not None]
    sequence = _sequence(document)
    choice = Choice(blocks, finish_of(document), sequence)
    tier = answers.said(answers.mapping(document.get("serviceTier")), "type")
    return Reply("", "", [choice], usage(answers.mapping(document.get("usage"))), tier)


def _block(part: Document) -> Block | None:
    if isinstance(part.get("text"), str):
        return Text(part["text"])
    if isinstance(part.get("toolUse"), dict):
        identity, name = _tool(part["toolUse"])
        return ToolCall(identity, name, orjson.dumps(answers.mapping(part["toolUse"].get("input"))).decode())
    if isinstance(part.get("reasoningContent"), dict):
        thought = part["reasoningContent"]
        if isinstance(thought.get("redactedContent"), str):
            return Thinking(redacted=thought["redactedContent"])
        said = answers.mapping(thought.get("reasoningText"))
        return Thinking(answers.text(said, "text"), answers.said(said, "signature"))
    if isinstance(part.get("citationsContent"), dict):
        cited = part["citationsContent"]
        text = "".join(answers.text(one, "text") for one in answers.objects(cited.get("content")))
        return Text(text, [read_citation(one) for one in answers.objects(cited.get("citations"))])
    if isinstance(part.get("image"), dict):
        return _image(answers.text(part["image"], "format"), part["image"])
    return None


def _tool(use: Document) -> tuple[str, str]:
    name = answers.text(use, "name")
    if not name:
        raise BadReply("has a tool call without a name")
    return answers.text(use, "toolUseId"), name


def _image(form: str, image: Document) -> Media | None:
    data = answers.mapping(image.get("source")).get("bytes")
    return Media("image", media_type=f"image/{form or 'png'}", data=data) if isinstance(data, str) else None


def finish_of(document: Document) -> Finish:
    """`stopReason`; one that is not known counts as `stop`."""
    return _FINISH.get(answers.text(document, "stopReason"), "stop")


def _sequence(document: Document) -> str | None:
    """Which stop sequence it was, if the client had it asked for by `additionalModelResponseFieldPaths`."""
    return answers.said(answers.mapping(document.get("additionalModelResponseFields")), "stop_sequence")


def read_citation(citation: Document) -> Document:
    """A citation in Anthropic's form."""
    cited = "".join(answers.text(one, "text") for one in answers.objects(citation.get("sourceContent")))
    title, location = answers.text(citation, "title"), answers.mapping(citation.get("location"))
    web = location.get("web")
    if isinstance(web, dict):
        url = answers.text(web, "url")
        return {"type": "web_search_result_location", "cited_text": cited, "url": url, "title": title}
    for name, (kind, start, end, index, theirs) in _PLACES.items():
        place = location.get(name)
        if isinstance(place, dict):
            about = {"source": answers.text(citation, "source"), "title": title}
            about = about if kind == "search_result_location" else {"document_title": title}
            span = {index: place.get(theirs), start: place.get("start"), end: place.get("end")}
            return {"type": kind, "cited_text": cited, **about, **span}
    return {"type": "char_location", "cited_text": cited, "document_title": title}


def read_usage(raw: Document) -> Usage | None:
    """A `UsageOf`: the counts of cached tokens are not part of `inputTokens`; reasoning is part of the output."""
    given, made = answers.count(raw.get("inputTokens")), answers.count(raw.get("outputTokens"))
    if given is None:
        return None
    read, written = (answers.count(raw.get(f"cache{kind}InputTokens")) or 0 for kind in ("Read", "Write"))
    return Usage(given, read, written, made or 0, 0)


class ConverseReader:
    """See `gateway.protocols.base.Reader`."""

    def __init__(self, usage: UsageOf) -> None:
        self._usage = usage
        self._finished = False
        self._count = 0
        self._calls: dict[int, int] = {}
        """contentBlockIndex -> number of the call, for those that are being written."""
        self._current = 0
        """contentBlockIndex of what is being written: the end of another is none of it."""
        self._images: dict[int, str] = {}
        """contentBlockIndex -> format of the image that is being written."""

    def read(self, event: bytes) -> list[Delta]:
        """The deltas of one frame."""
        headers, payload = read_frame(event)
        if headers.get(":message-type") == "error":
            return [Broken(headers.get(":error-message") or headers.get(":error-code") or "It gives no reason.")]
        document = answers.parsed(payload) if payload else {}
        if headers.get(":message-type") == "exception":
            kind = headers.get(":exception-type", "")
            return [Broken(answers.text(document, "message") or kind or "It gives no reason.", _FAILURES.get(kind, 0))]
        kind = headers.get(":event-type", "")
        take = self._takes.get(kind)
        deltas = take(self, document) if take is not None else []
        if deltas and kind in ("contentBlockStart", "contentBlockDelta"):
            self._current = answers.index(document, "contentBlockIndex")
        return deltas

    def end(self) -> list[Delta]:
        """Nothing more; a stream without its messageStop is broken."""
        if not self._finished:
            raise BadReply("ended before its answer did")
        return []

    def _message_start(self, event: Document) -> list[Delta]:
        return [Start("", "")]

    def _start(self, event: Document) -> list[Delta]:
        at, start = answers.index(event, "contentBlockIndex"), answers.mapping(event.get("start"))
        if isinstance(start.get("toolUse"), dict):
            self._calls[at] = self._count
            self._count += 1
            return [ToolStart(self._calls[at], *_tool(start["toolUse"]))]
        if isinstance(start.get("image"), dict):
            self._images[at] = answers.text(start["image"], "format")
        return []

    def _delta(self, event: Document) -> list[Delta]:
        at, delta = answers.index(event, "contentBlockIndex"), answers.mapping(event.get("delta"))
        if isinstance(delta.get("text"), str):
            return [TextDelta(delta["text"])]
        if isinstance(delta.get("toolUse"), dict):
            call = self._calls.get(at)
            if call is None:
                raise BadReply("has arguments of a tool call that is not being written")
            return [ToolDelta(call, answers.text(delta["toolUse"], "input"))]
        if isinstance(delta.get("reasoningContent"), dict):
            thought = delta["reasoningContent"]
            redacted = answers.said(thought, "redactedContent")
            return [ThinkingDelta(answers.text(thought, "text"), answers.said(thought, "signature"), redacted)]
        if isinstance(delta.get("citation"), dict):
            return [CitationDelta(read_citation(delta["citation"]))]
        media = _image(self._images.get(at, ""), answers.mapping(delta.get("image")))
        return [MediaDelta(media)] if media is not None else []

    def _stop(self, event: Document) -> list[Delta]:
        at = answers.index(event, "contentBlockIndex")
        self._calls.pop(at, None)
        return [BlockEnd()] if at == self._current else []

    def _message_stop(self, event: Document) -> list[Delta]:
        self._finished = True
        return [Finished(finish_of(event), _sequence(event))]

    def _metadata(self, event: Document) -> list[Delta]:
        usage = self._usage(answers.mapping(event.get("usage")))
        return [UsageNow(usage)] if usage is not None else []

    _takes: ClassVar[dict[str, Callable[[ConverseReader, Any], list[Delta]]]] = {
        "messageStart": _message_start,
        "contentBlockStart": _start,
        "contentBlockDelta": _delta,
        "contentBlockStop": _stop,
        "messageStop": _message_stop,
        "metadata": _metadata,
    }
