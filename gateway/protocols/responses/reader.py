"""Reads streamed answers of OpenAI's Responses API.

https://platform.openai.com/docs/api-reference/responses-streaming (read 2026-11)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from gateway.protocols import answers
from gateway.protocols.base import BadReply, UsageOf
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
    ToolDelta,
    ToolStart,
    UsageNow,
)  # fmt: skip
from gateway.protocols.chat.request import signature_of
from gateway.protocols.responses.reply import (
    call_of,
    failure,
    finish_of,
    logprobs_of,
    media_of,
    read_annotation,
    read_reasoning,
)


class ResponsesReader:
    """See `gateway.protocols.base.Reader`."""

    def __init__(self, usage: UsageOf) -> None:
        self._usage = usage
        self._started = False
        self._finished = False
        self._calls: dict[int, int] = {}
        """output_index -> number of the call, for those that are being written."""
        self._count = 0
        self._current = 0
        """output_index of the item that is being written: the end of another is none of it."""
        self._argued: set[int] = set()
        """Calls of which arguments have been seen."""
        self._thought: tuple[int, str, int] | None = None
        """The part of reasoning that is being written: (output_index, kind, index of the part)."""

    def read(self, event: bytes) -> list[Delta]:
        """The deltas of one event; kinds that say nothing new, or are not known, give none."""
        document = answers.event_object(event)
        if document is None:
            return []
        deltas: list[Delta] = []
        response = answers.mapping(document.get("response"))
        if response and not self._started:
            self._started = True
            deltas.append(
                Start(
                    answers.text(response, "id"),
                    answers.text(response, "model"),
                    None,
                    answers.said(response, "service_tier"),
                )
            )
        take = self._takes.get(answers.text(document, "type"))
        found = take(self, document) if take is not None else []
        if found and "output_index" in document:
            self._current = answers.index(document, "output_index")
        deltas += found
        return deltas

    def end(self) -> list[Delta]:
        """Nothing more; a stream without its last event is broken."""
        if not self._finished:
            raise BadReply("ended before its answer did")
        return []

    def _text(self, event: Document) -> list[Delta]:
        return [TextDelta(answers.text(event, "delta"), 0, logprobs_of(event.get("logprobs")))]

    def _annotation(self, event: Document) -> list[Delta]:
        annotation = event.get("annotation")
        return [CitationDelta(read_annotation(annotation))] if isinstance(annotation, dict) else []

    def _refusal(self, event: Document) -> list[Delta]:
        return [RefusalDelta(answers.text(event, "delta"))]

    def _thinking(self, event: Document) -> list[Delta]:
        """Parts of a summary, and of the reasoning itself, are paragraphs of one text."""
        kind = "summary_index" if "summary_index" in event else "content_index"
        part = (answers.index(event, "output_index"), kind, answers.index(event, kind))
        border = "\n\n" if self._thought is not None and self._thought != part and self._thought[0] == part[0] else ""
        self._thought = part
        return [ThinkingDelta(border + answers.text(event, "delta"), id=answers.said(event, "item_id"))]

    def _added(self, event: Document) -> list[Delta]:
        item = answers.mapping(event.get("item"))
        if item.get("type") != "function_call":
            return []
        at = answers.index(event, "output_index")
        if at in self._calls:
            raise BadReply("begins a tool call twice")
        self._calls[at] = self._count
        self._count += 1
        return [ToolStart(self._calls[at], *call_of(item), 0, signature_of(item))]

    def _arguments(self, event: Document) -> list[Delta]:
        call = self._call(event)
        self._argued.add(call)
        return [ToolDelta(call, answers.text(event, "delta"))]

    def _call(self, event: Document) -> int:
        call = self._calls.get(answers.index(event, "output_index"))
        if call is None:
            raise BadReply("has arguments of a tool call that is not being written")
        return call

    def _done(self, event: Document) -> list[Delta]:
        """The end of an item: the proof of reasoning, an image, or arguments that came in one piece, are told here."""
        item, at = answers.mapping(event.get("item")), answers.index(event, "output_index")
        deltas: list[Delta] = []
        call = self._calls.pop(at, None)
        if call is not None and call not in self._argued and answers.text(item, "arguments"):
            deltas.append(ToolDelta(call, answers.text(item, "arguments")))
        elif call is None and item.get("type") == "function_call":
            raise BadReply("ends a tool call that has not begun")
        for block in read_reasoning(item) if item.get("type") == "reasoning" else ():
            told = self._thought is not None and self._thought[0] == at
            deltas.append(ThinkingDelta("" if told else block.text, block.signature, block.redacted, 0, block.id))
        media = media_of(item)
        if media is not None:
            deltas.append(MediaDelta(media))
        return [*deltas, BlockEnd()] if deltas or at == self._current else []

    def _part_done(self, event: Document) -> list[Delta]:
        """Of a message; parts of reasoning are not blocks."""
        thought = answers.mapping(event.get("part")).get("type") == "reasoning_text"
        return [] if thought or answers.index(event, "output_index") != self._current else [BlockEnd()]

    def _ended(self, event: Document) -> list[Delta]:
        response = answers.mapping(event.get("response"))
        self._finished = True
        deltas: list[Delta] = [Finished(finish_of(response, self._count > 0))]
        usage = self._usage(answers.mapping(response.get("usage")))
        return [*deltas, UsageNow(usage)] if usage is not None else deltas

    def _failed(self, event: Document) -> list[Delta]:
        """`response.failed` holds its error in the response, `error` is one, or has one."""
        response = answers.mapping(event.get("response"))
        error = answers.mapping(response.get("error")) or answers.mapping(event.get("error")) or event
        status = 429 if answers.text(error, "code") == "rate_limit_exceeded" else 0
        return [Broken(failure(error), status)]

    _takes: ClassVar[dict[str, Callable[[ResponsesReader, Document], list[Delta]]]] = {
        "response.output_text.delta": _text,
        "response.output_text.annotation.added": _annotation,
        "response.refusal.delta": _refusal,
        "response.reasoning_summary_text.delta": _thinking,
        "response.reasoning_text.delta": _thinking,
        "response.output_item.added": _added,
        "response.function_call_arguments.delta": _arguments,
        "response.output_item.done": _done,
        "response.content_part.done": _part_done,
        "response.completed": _ended,
        "response.incomplete": _ended,
        "response.failed": _failed,
        "error": _failed,
    }
