"""Writes answers of Google's Gemini API. A whole answer is made of what its stream would have said.

https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse (read 2026-11)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from gateway.protocols import answers, fields
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
    Start,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolDelta,
    ToolStart,
    Usage,
    UsageNow,
)  # fmt: skip
from gateway.protocols.collect import deltas_of
from gateway.protocols.gemini.names import sealed, written_media

_WRITTEN: dict[Finish, str] = {"length": "MAX_TOKENS", "content_filter": "SAFETY", "refusal": "SAFETY"}


def write_reply(reply: Reply, origin: Origin) -> bytes:
    """See `Inbound.write_reply`: the parts of all events, those of text that follow one another joined."""
    writer = GeminiWriter(origin)
    parts: dict[int, list[Document]] = {}
    for delta in deltas_of(reply):
        at, added = writer.parts(delta)
        parts.setdefault(at, [])
        for part in added:
            _join(parts[at], part)
    return orjson.dumps(writer.last(parts))


def _join(parts: list[Document], part: Document) -> None:
    last = parts[-1] if parts else {}
    if "text" in part and "text" in last and "thoughtSignature" not in last and _thinks(last) == _thinks(part):
        last["text"] += part["text"]
        last |= {name: value for name, value in part.items() if name != "text"}
    else:
        parts.append(dict(part))


def _thinks(part: Document) -> bool:
    return part.get("thought") is True


@dataclass(slots=True)
class _Candidate:
    """What is known of one candidate."""

    calls: dict[int, ToolCall] = field(default_factory=dict)
    """Those that are not written yet: the API has no words for half of one."""
    last: int = -1
    thinking: bool = False
    """A thought that is shown is being written: a signature is its."""
    text: str = ""
    start: int = 0
    """Where in `text` the block begins that is being written."""
    citations: list[Document] = field(default_factory=list)
    logprobs: Document | None = None
    finish: Finish | None = None


class GeminiWriter:
    """See `gateway.protocols.base.Writer`."""

    def __init__(self, origin: Origin) -> None:
        self._head: Document = {"modelVersion": origin.model, "responseId": origin.id}
        self._candidates: dict[int, _Candidate] = {}
        self._usage: Usage | None = None

    def write(self, delta: Delta) -> bytes:
        """One event for each delta that says something."""
        at, parts = self.parts(delta)
        if not parts:
            return b""
        candidate = {"content": {"parts": parts, "role": "model"}, "index": at}
        logprobs = self._candidates[at].logprobs
        if logprobs is not None:
            candidate["logprobsResult"] = _logprobs(logprobs)
            self._candidates[at].logprobs = None
        return _event({"candidates": [candidate], **self._head})

    def end(self) -> bytes:
        """One event more that says how each candidate ended, what it cites, and the usage."""
        return _event(self.last({}))

    def last(self, parts: dict[int, list[Document]]) -> Document:
        """The answer's end, with these parts of each candidate in it."""
        candidates = []
        for at, known in sorted(self._candidates.items()):
            content = [*parts.get(at, ()), *self._whole(known, *known.calls)]
            candidate: Document = {"content": {"parts": content, "role": "model"}} if content else {}
            candidate |= {"finishReason": _WRITTEN.get(known.finish or "stop", "STOP"), "index": at}
            if known.logprobs is not None:
                candidate["logprobsResult"] = _logprobs(known.logprobs)
            if known.citations:
                candidate["groundingMetadata"] = _grounding(known.citations, known.text)
            candidates.append(candidate)
        usage = {} if self._usage is None else {"usageMetadata": written_usage(self._usage)}
        return {"candidates": candidates, **usage, **self._head}

    def parts(self, delta: Delta) -> tuple[int, list[Document]]:
        """(candidate, parts that can be written now)."""
        if isinstance(delta, Start):
            self._head["modelVersion"] = delta.model or self._head["modelVersion"]
            self._usage = delta.usage
            return 0, []
        if isinstance(delta, UsageNow):
            self._usage = delta.usage
            return 0, []
        at: int = getattr(delta, "choice", 0)  # a Broken is told by `error_event`
        known = self._candidates.setdefault(at, _Candidate())
        if isinstance(delta, ToolStart):
            known.calls[delta.call] = ToolCall(delta.id, delta.name, "", delta.signature)
            known.last, known.thinking = delta.call, False
        elif isinstance(delta, ToolDelta):
            call = known.calls.get(delta.call)
            if call is not None:  # else its object was complete: nothing that follows is part of it
                call.arguments += delta.arguments
                known.last = delta.call
        elif isinstance(delta, BlockEnd):
            known.thinking, known.start = False, len(known.text)
            return at, self._whole(known, known.last)
        elif isinstance(delta, Finished):
            known.finish = delta.reason
            return at, self._whole(known, *known.calls)
        elif isinstance(delta, CitationDelta):
            span = {"start_index": known.start, "end_index": len(known.text)}
            known.citations.append(span | delta.citation)
        else:
            known.last = -1
            return at, [*self._whole(known), *_said(delta, known)]
        return at, []

    def _whole(self, known: _Candidate, *ended: int) -> list[Document]:
        """The calls that have ended, or are complete, in their order."""
        found = [at for at, call in known.calls.items() if at in ended or fields.is_object(call.arguments)]
        return [_call(known.calls.pop(at)) for at in found]


def _said(delta: Delta, known: _Candidate) -> list[Document]:
    """What is no tool call."""
    if isinstance(delta, TextDelta | RefusalDelta):
        known.thinking = False
        known.text += delta.text
        if isinstance(delta, TextDelta) and delta.logprobs is not None:
            before = (known.logprobs or {}).get("content") or []
            known.logprobs = {"content": before + (delta.logprobs.get("content") or [])}
        return [{"text": delta.text}] if delta.text else []
    if isinstance(delta, MediaDelta):
        known.thinking = False
        part = written_media(delta.media)
        return [part] if part is not None else []
    if not isinstance(delta, ThinkingDelta):
        return []
    if delta.redacted is not None:
        known.thinking = False
        return [{"text": "", "thoughtSignature": sealed(Thinking(redacted=delta.redacted))}]
    known.thinking = known.thinking or bool(delta.text)
    proof = {} if delta.signature is None else {"thoughtSignature": sealed(Thinking(signature=delta.signature))}
    if not (delta.text or proof):
        return []
    return [{"text": delta.text, **({"thought": True} if known.thinking else {}), **proof}]


def _call(call: ToolCall) -> Document:
    made: Document = {"id": call.id, "name": call.name, "args": fields.arguments_of(call.arguments)}
    proof = {} if call.signature is None else {"thoughtSignature": sealed(Thinking(signature=call.signature))}
    return {"functionCall": made, **proof}


def _event(document: Document) -> bytes:
    return b"data: %b\r\n\r\n" % orjson.dumps(document)


def _grounding(citations: list[Document], text: str) -> Document:
    """Each source once, and which piece of the text it supports, counted in bytes."""
    chunks: list[Document] = []
    supports: list[Document] = []
    for citation in citations:
        source = fields.without_nones(
            uri=citation.get("url"), title=citation.get("title") or citation.get("document_title")
        )
        cited = citation.get("cited_text")
        chunk = {"web": source} if "uri" in source else {"retrievedContext": {**source, "text": cited or ""}}
        if chunk not in chunks:
            chunks.append(chunk)
        start, end = (len(text[: answers.count(citation[name]) or 0].encode()) for name in ("start_index", "end_index"))
        segment = {"startIndex": start, "endIndex": end, "text": text.encode()[start:end].decode()}
        supports.append({"segment": segment, "groundingChunkIndices": [chunks.index(chunk)]})
    return {"groundingChunks": chunks, "groundingSupports": supports}


def _logprobs(logprobs: Document) -> Document:
    content = logprobs.get("content") or []
    return {
        "chosenCandidates": [_token(one) for one in content],
        "topCandidates": [{"candidates": [_token(top) for top in one.get("top_logprobs") or ()]} for one in content],
    }


def _token(one: Document) -> Document:
    return {"token": one.get("token", ""), "logProbability": one.get("logprob", 0.0)}


def written_usage(usage: Usage) -> Document:
    """The inverse of `gateway.protocols.gemini.reply.read_usage`."""
    counts = {
        "promptTokenCount": usage.input + usage.cache_read + usage.cache_write,
        "candidatesTokenCount": usage.output,
        "totalTokenCount": usage.total,
    }
    if usage.cache_read:
        counts["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning:
        counts["thoughtsTokenCount"] = usage.reasoning
    return counts
