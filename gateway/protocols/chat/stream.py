"""Streamed answers of OpenAI's Chat Completions API: `chat.completion.chunk` events, then `[DONE]`.

https://platform.openai.com/docs/api-reference/chat-streaming (read 2026-11)
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocols import answers
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
    Request,
    Start,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    Usage,
    UsageNow,
)  # fmt: skip
from gateway.protocols.chat.reply import (
    arguments_of,
    finish_of,
    read_annotations,
    written_annotation,
    written_finish,
    written_usage,
)  # fmt: skip
from gateway.protocols.chat.request import read_detail, signature_of, written_detail
from gateway.protocols.sse import event_data


class ChatReader:
    """See `gateway.protocols.base.Reader`."""

    def __init__(self, usage: UsageOf) -> None:
        self._usage = usage
        self._started = False
        self._finished = False
        self._calls: dict[tuple[int, int], int] = {}
        """(choice, index at the upstream) -> our index, which has no holes."""

    def read(self, event: bytes) -> list[Delta]:
        """The deltas of one chunk."""
        data = event_data(event)
        if not data or data == b"[DONE]":
            return []
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError as exc:
            raise BadReply("holds an event that is not JSON") from exc
        if not isinstance(chunk, dict):
            raise BadReply("holds an event that is no object")
        if chunk.get("error"):
            return [broken(chunk["error"])]
        deltas: list[Delta] = []
        if not self._started:
            self._started = True
            identity, model = answers.text(chunk, "id"), answers.text(chunk, "model")
            deltas.append(Start(identity, model, None, answers.said(chunk, "service_tier")))
        for choice in answers.objects(chunk.get("choices")):
            self._choice(choice, deltas)
        raw = chunk.get("usage")
        usage = self._usage(raw) if isinstance(raw, dict) else None
        if usage is not None:
            deltas.append(UsageNow(usage))
        return deltas

    def end(self) -> list[Delta]:
        """Nothing more; a stream in which no choice has ended is broken."""
        if not self._finished:
            raise BadReply("ended before its answer did")
        return []

    def _choice(self, choice: Document, deltas: list[Delta]) -> None:
        at = choice.get("index") or 0
        if type(at) is not int or not 0 <= at < 128:
            raise BadReply("holds a choice with an impossible index")
        delta = choice.get("delta")
        if isinstance(delta, dict):
            self._delta(delta, at, answers.logprobs(choice.get("logprobs")), deltas)
        reason = finish_of(choice.get("finish_reason"))
        if reason is not None:
            self._finished = True
            deltas.append(Finished(reason, None, at))

    def _delta(self, delta: Document, at: int, logprobs: Document | None, deltas: list[Delta]) -> None:
        details = delta.get("reasoning_details")
        said = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(details, list) and details:
            for one in answers.objects(details):
                block = read_detail(one)
                deltas.append(ThinkingDelta(block.text, block.signature, block.redacted, at, block.id))
                if block.signature is not None:
                    deltas.append(BlockEnd(at))  # a signature is the last of its block
        elif isinstance(said, str):
            deltas.append(ThinkingDelta(said, None, None, at))
        content = delta.get("content")
        if isinstance(content, str) and content:
            deltas.append(TextDelta(content, at, logprobs))
        if isinstance(delta.get("refusal"), str) and delta["refusal"]:
            deltas.append(RefusalDelta(delta["refusal"], at))
        if delta.get("annotations"):
            deltas += [CitationDelta(one, at) for one in read_annotations(delta["annotations"])]
        for position, call in enumerate(answers.objects(delta.get("tool_calls"))):
            self._call(call, position, at, deltas)

    def _call(self, call: Document, position: int, at: int, deltas: list[Delta]) -> None:
        theirs = call.get("index")
        theirs = theirs if type(theirs) is int else position
        function = answers.mapping(call.get("function"))
        ours = self._calls.get((at, theirs))
        if ours is None:
            ours = sum(choice == at for choice, _ in self._calls)
            self._calls[at, theirs] = ours
            name, identity = answers.text(function, "name"), answers.text(call, "id")
            deltas.append(ToolStart(ours, identity, name, at, signature_of(call)))
        arguments = arguments_of(function)
        if arguments:
            deltas.append(ToolDelta(ours, arguments, at))


def broken(error: Any) -> Broken:
    """What an `error` member says."""
    code = error.get("code") if isinstance(error, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    text = message if isinstance(message, str) else "The upstream reported an error in its stream."
    return Broken(text, code if type(code) is int and 400 <= code < 600 else 0)


class ChatWriter:
    """See `gateway.protocols.base.Writer`."""

    def __init__(self, request: Request, origin: Origin) -> None:
        self._include_usage = request.include_usage
        self._origin = origin
        self._head = self._tail = b""
        self._usage: Usage | None = None
        self._roles: set[int] = set()
        self._thoughts: dict[int, int] = {}
        self._cited: dict[int, int] = {}
        """Choice -> number of its blocks of reasoning, of its citations: OpenAI's client joins pieces by `index`."""
        self._thinking_now: set[int] = set()
        """Choices whose last block of reasoning is being written."""

    def write(self, delta: Delta) -> bytes:
        """One chunk for each delta that says something."""
        if self._thinking_now and not isinstance(delta, ThinkingDelta):
            self._thinking_now.discard(getattr(delta, "choice", 0))
        if isinstance(delta, TextDelta):
            more = {"logprobs": delta.logprobs} if delta.logprobs is not None else {}
            return self._chunk(delta.choice, {"content": delta.text}, more)
        if isinstance(delta, ThinkingDelta):
            return self._thinking(delta)
        if isinstance(delta, ToolDelta):
            call = {"index": delta.call, "function": {"arguments": delta.arguments}}
            return self._chunk(delta.choice, {"tool_calls": [call]})
        if isinstance(delta, ToolStart):
            return self._call(delta)
        if isinstance(delta, Start):
            self._begin(delta)
        elif isinstance(delta, UsageNow):
            self._usage = delta.usage
        elif isinstance(delta, RefusalDelta):
            return self._chunk(delta.choice, {"refusal": delta.text})
        elif isinstance(delta, CitationDelta):
            index = self._cited[delta.choice] = self._cited.get(delta.choice, -1) + 1
            return self._chunk(delta.choice, {"annotations": [{**written_annotation(delta.citation), "index": index}]})
        elif isinstance(delta, Finished):
            return self._chunk(delta.choice, {}, {"finish_reason": written_finish(delta.reason)})
        else:
            assert isinstance(delta, BlockEnd | MediaDelta | Broken)  # the dialect has no word for these
        return b""

    def end(self) -> bytes:
        """The usage, if the client asked for it, and the mark of the end."""
        usage = b""
        if self._include_usage and self._usage is not None:
            counts = orjson.dumps(written_usage(self._usage))
            usage = b'%b[],"usage":%b}\n\n' % (self._head, counts)
        return usage + b"data: [DONE]\n\n"

    def _begin(self, start: Start) -> None:
        envelope = {
            "id": f"chatcmpl-{self._origin.id}",
            "object": "chat.completion.chunk",
            "created": self._origin.created,
            "model": start.model or self._origin.model,
        }
        if start.service_tier is not None:
            envelope["service_tier"] = start.service_tier
        self._head = b"data: " + orjson.dumps(envelope)[:-1] + b',"choices":'

    def _chunk(self, choice: int, delta: Document, more: Document | None = None) -> bytes:
        if choice not in self._roles:
            self._roles.add(choice)
            first = {"role": "assistant"} if "content" in delta else {"role": "assistant", "content": None}
            delta = {**first, **delta}
        body = {"index": choice, "delta": delta, "finish_reason": None, **(more or {})}
        return b"%b[%b]}\n\n" % (self._head, orjson.dumps(body))

    def _thinking(self, delta: ThinkingDelta) -> bytes:
        at = delta.choice
        begins = at not in self._thinking_now or delta.redacted is not None
        if begins:
            self._thoughts[at] = self._thoughts.get(at, -1) + 1
        if delta.signature is None and delta.redacted is None:
            self._thinking_now.add(at)
        else:
            self._thinking_now.discard(at)
        block = Thinking(delta.text, delta.signature, delta.redacted, delta.id if begins else None)
        said: Document = {"reasoning_content": delta.text} if delta.text else {}
        return self._chunk(at, {**said, "reasoning_details": [written_detail(block, self._thoughts[at])]})

    def _call(self, start: ToolStart) -> bytes:
        call: Document = {
            "index": start.call,
            "id": start.id,
            "type": "function",
            "function": {"name": start.name, "arguments": ""},
        }
        if start.signature is not None:
            call["extra_content"] = {"google": {"thought_signature": start.signature}}
        return self._chunk(start.choice, {"tool_calls": [call]})
