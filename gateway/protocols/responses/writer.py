"""Writes answers of OpenAI's Responses API, streamed and whole: a whole one is what its stream ends with.

https://platform.openai.com/docs/api-reference/responses-streaming (read 2026-11)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import orjson

from gateway.protocols.base import Origin
from gateway.protocols.canonical import (
    BlockEnd,
    CitationDelta,
    Delta,
    Document,
    Finish,
    Finished,
    MediaDelta,
    RefusalDelta,
    Reply,
    Request,
    Start,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    UsageNow,
)  # fmt: skip
from gateway.protocols.collect import deltas_of
from gateway.protocols.responses.reply import incomplete_reason, written_annotation, written_usage
from gateway.protocols.responses.written import written_choice, written_format, written_tool


def write_reply(reply: Reply, request: Request, origin: Origin) -> bytes:
    """See `Inbound.write_reply`."""
    writer = ResponsesWriter(request, origin)
    for delta in deltas_of(reply):
        writer.write(delta)
    writer.end()
    return orjson.dumps(writer.response)


class ResponsesWriter:
    """See `gateway.protocols.base.Writer`. `response` is the answer so far."""

    def __init__(self, request: Request, origin: Origin) -> None:
        self._origin = origin
        self._summary = request.reasoning is not None and request.reasoning.summary is not None
        """Reasoning is told as the summary that the client asked for, else as the reasoning itself."""
        self.response = _envelope(request, origin)
        self._items: list[Document] = self.response["output"]
        self._message: int | None = None
        """Place of the message that is being written, whose last part is, if `_part`."""
        self._part = False
        self._thinking: int | None = None
        self._calls: dict[int, int] = {}
        """Number of the call -> its place, for those that are being written."""
        self._last_call: int | None = None
        """The call that a BlockEnd would end."""
        self._finish: Finish = "stop"
        self._number = 0

    def write(self, delta: Delta) -> bytes:
        """The events of one more delta."""
        take = self._takes.get(type(delta))
        return b"" if take is None else take(self, delta)  # a Broken is told by `error_event`

    def end(self) -> bytes:
        """What is still open, and the response as a whole."""
        reason = incomplete_reason(self._finish)
        status = "completed" if reason is None else "incomplete"
        ended = self._end_thinking() + self._end_message(status)
        for call in list(self._calls):
            ended += self._end_call(call, status)
        self.response["status"] = status
        if reason is None:
            self.response["completed_at"] = self.response["created_at"]
        else:
            self.response["incomplete_details"] = {"reason": reason}
        return ended + self._event(f"response.{status}", response=self.response)

    def _block_end(self, delta: BlockEnd) -> bytes:
        ended = self._end_part() + self._end_thinking()
        if self._last_call in self._calls:
            ended += self._end_call(self._last_call)
        return ended

    def _finished(self, delta: Finished) -> bytes:
        self._finish = delta.reason
        return b""

    def _count(self, delta: UsageNow) -> bytes:
        self.response["usage"] = written_usage(delta.usage)
        return b""

    def _event(self, kind: str, **members: Any) -> bytes:
        body = orjson.dumps({"type": kind, "sequence_number": self._number, **members})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), body)

    def _begin(self, start: Start) -> bytes:
        self.response["model"] = start.model or self._origin.model
        if start.service_tier is not None:
            self.response["service_tier"] = start.service_tier
        if start.usage is not None:
            self.response["usage"] = written_usage(start.usage)
        early = {**self.response, "usage": None}
        return self._event("response.created", response=early) + self._event("response.in_progress", response=early)

    # --- items

    def _open(self, item: Document) -> tuple[int, bytes]:
        at = len(self._items)
        self._items.append(item)
        return at, self._event("response.output_item.added", output_index=at, item=item)

    def _close(self, at: int, status: str = "completed") -> bytes:
        item = self._items[at]
        item["status"] = status
        return self._event("response.output_item.done", output_index=at, item=item)

    def _identity(self, prefix: str) -> str:
        return f"{prefix}_{self._origin.id}_{len(self._items)}"

    # --- messages

    def _open_part(self, part: Document) -> bytes:
        """Events that lead to an open part of this type."""
        opened = self._end_thinking()
        self._last_call = None
        if self._part and self._content()[-1]["type"] != part["type"]:
            opened += self._end_part()
        if self._part:
            return opened
        if self._message is None:
            empty: Document = {"id": self._identity("msg"), "type": "message", "role": "assistant"}
            self._message, added = self._open({**empty, "status": "in_progress", "content": []})
            opened += added
        self._part = True
        self._content().append(part)
        return opened + self._event("response.content_part.added", **self._place(), part=part)

    def _content(self) -> list[Document]:
        assert self._message is not None
        content: list[Document] = self._items[self._message]["content"]
        return content

    def _place(self) -> Document:
        at = self._message
        assert at is not None
        return {"item_id": self._items[at]["id"], "output_index": at, "content_index": len(self._content()) - 1}

    def _text(self, delta: TextDelta) -> bytes:
        opened = self._open_part({"type": "output_text", "annotations": [], "logprobs": [], "text": ""})
        part = self._content()[-1]
        part["text"] += delta.text
        logprobs = (delta.logprobs or {}).get("content") or []
        part["logprobs"] += logprobs
        said = self._event("response.output_text.delta", **self._place(), delta=delta.text, logprobs=logprobs)
        return opened + said

    def _cite(self, delta: CitationDelta) -> bytes:
        opened = self._open_part({"type": "output_text", "annotations": [], "logprobs": [], "text": ""})
        part = self._content()[-1]
        annotation = written_annotation(delta.citation, len(part["text"]))
        part["annotations"].append(annotation)
        at = len(part["annotations"]) - 1
        event = "response.output_text.annotation.added"
        return opened + self._event(event, **self._place(), annotation_index=at, annotation=annotation)

    def _refuse(self, delta: RefusalDelta) -> bytes:
        opened = self._open_part({"type": "refusal", "refusal": ""})
        self._content()[-1]["refusal"] += delta.text
        return opened + self._event("response.refusal.delta", **self._place(), delta=delta.text)

    def _end_part(self) -> bytes:
        if not self._part:
            return b""
        self._part = False
        part, place = self._content()[-1], self._place()
        if part["type"] == "refusal":
            done = self._event("response.refusal.done", **place, refusal=part["refusal"])
        else:
            done = self._event("response.output_text.done", **place, text=part["text"], logprobs=part["logprobs"])
        return done + self._event("response.content_part.done", **place, part=part)

    def _end_message(self, status: str = "completed") -> bytes:
        if self._message is None:
            return b""
        ended = self._end_part()
        at, self._message = self._message, None
        return ended + self._close(at, status)

    # --- reasoning

    def _think(self, delta: ThinkingDelta) -> bytes:
        if delta.redacted is not None:
            opened = self._end_thinking() + self._end_message()
            item: Document = {"id": self._thought(delta), "type": "reasoning", "summary": []}
            at, added = self._open({**item, "encrypted_content": delta.redacted})
            self._last_call = None
            return opened + added + self._close(at)
        opened = self._open_thinking(delta)
        assert self._thinking is not None
        item = self._items[self._thinking]
        if delta.signature is not None:
            item["encrypted_content"] = item.get("encrypted_content", "") + delta.signature
        if not delta.text:
            return opened
        member, event, place = self._thinking_part()
        item[member][0]["text"] += delta.text
        return opened + self._event(f"response.{event}.delta", **place, delta=delta.text)

    def _thinking_part(self) -> tuple[str, str, Document]:
        """(member of the item, name in events, place) of the only part of the reasoning that is being written."""
        at = self._thinking
        assert at is not None
        place = {"item_id": self._items[at]["id"], "output_index": at}
        if self._summary:
            return "summary", "reasoning_summary_text", {**place, "summary_index": 0}
        return "content", "reasoning_text", {**place, "content_index": 0}

    def _open_thinking(self, delta: ThinkingDelta) -> bytes:
        if self._thinking is not None:
            return b""
        opened = self._end_thinking() + self._end_message()
        self._last_call = None
        item: Document = {"id": self._thought(delta), "type": "reasoning", "summary": []}
        self._thinking, added = self._open(item)
        member, _, place = self._thinking_part()
        part = {"type": "summary_text" if self._summary else "reasoning_text", "text": ""}
        item[member] = [part]
        event = "response.reasoning_summary_part.added" if self._summary else "response.content_part.added"
        return opened + added + self._event(event, **place, part=part)

    def _thought(self, delta: ThinkingDelta) -> str:
        """The provider's own id belongs to the proof; only one item may have it."""
        if delta.id and all(item.get("id") != delta.id for item in self._items):
            return delta.id
        return self._identity("rs")

    def _end_thinking(self) -> bytes:
        if self._thinking is None:
            return b""
        member, event, place = self._thinking_part()
        at, self._thinking = self._thinking, None
        part = self._items[at][member][0]
        done = "response.reasoning_summary_part.done" if self._summary else "response.content_part.done"
        ended = self._event(f"response.{event}.done", **place, text=part["text"])
        return ended + self._event(done, **place, part=part) + self._close(at)

    # --- tool calls and images

    def _call(self, delta: ToolStart) -> bytes:
        opened = self._end_thinking() + self._end_message()
        item: Document = {
            "id": self._identity("fc"),
            "type": "function_call",
            "status": "in_progress",
            "call_id": delta.id or self._identity("call"),
            "name": delta.name,
            "arguments": "",
        }
        if delta.signature is not None:
            item["extra_content"] = {"google": {"thought_signature": delta.signature}}
        self._calls[delta.call], added = self._open(item)
        self._last_call = delta.call
        return opened + added

    def _arguments(self, delta: ToolDelta) -> bytes:
        at = self._calls[delta.call]
        self._last_call = delta.call
        item = self._items[at]
        item["arguments"] += delta.arguments
        event = "response.function_call_arguments.delta"
        return self._event(event, item_id=item["id"], output_index=at, delta=delta.arguments)

    def _end_call(self, call: int, status: str = "completed") -> bytes:
        at = self._calls.pop(call)
        item = self._items[at]
        item["arguments"] = item["arguments"] or "{}"
        event = "response.function_call_arguments.done"
        place = {"item_id": item["id"], "output_index": at, "name": item["name"]}
        return self._event(event, **place, arguments=item["arguments"]) + self._close(at, status)

    def _image(self, delta: MediaDelta) -> bytes:
        """An image that the model made; the dialect has no word for a sound or a file."""
        media = delta.media
        if media.kind != "image" or media.data is None:
            return b""
        opened = self._end_thinking() + self._end_message()
        form = (media.media_type or "image/png").partition("/")[2]
        image: Document = {
            "id": self._identity("ig"),
            "type": "image_generation_call",
            "status": "in_progress",
            "result": None,
        }
        at, added = self._open({**image, "status": "in_progress"})
        self._items[at] |= {"result": media.data, "output_format": form}
        self._last_call = None
        return opened + added + self._close(at)

    _takes: ClassVar[dict[type, Callable[[ResponsesWriter, Any], bytes]]] = {
        Start: _begin,
        TextDelta: _text,
        ThinkingDelta: _think,
        RefusalDelta: _refuse,
        CitationDelta: _cite,
        MediaDelta: _image,
        ToolStart: _call,
        ToolDelta: _arguments,
        BlockEnd: _block_end,
        Finished: _finished,
        UsageNow: _count,
    }


def _envelope(request: Request, origin: Origin) -> Document:
    """The response before anything was said."""
    wish = request.reasoning
    return {
        "id": f"resp_{origin.id}",
        "object": "response",
        "created_at": origin.created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": request.max_tokens,
        "metadata": request.extra.get("metadata") or {},
        "model": origin.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tools is not False,
        "previous_response_id": None,
        "reasoning": {"effort": wish and wish.effort, "summary": wish and wish.summary},
        "service_tier": request.service_tier or "default",
        "store": request.extra.get("store", True),
        "temperature": request.temperature,
        "text": {"format": written_format(request.format) or {"type": "text"}},
        "tool_choice": written_choice(request.tool_choice) or "auto",
        "tools": [written_tool(tool) for tool in request.tools],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": request.top_p,
        "truncation": request.extra.get("truncation", "disabled"),
        "usage": None,
        "user": request.user,
    }
