"""Answers of Google's Gemini API, read. A whole answer is a stream of one event: one piece of code reads both.

https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse (read 2026-11)
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocols import answers
from gateway.protocols.base import BadReply, UsageOf
from gateway.protocols.canonical import (
    BlockEnd,
    Broken,
    CitationDelta,
    Delta,
    Document,
    Finish,
    Finished,
    MediaDelta,
    Reply,
    Start,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    Usage,
    UsageNow,
)  # fmt: skip
from gateway.protocols.collect import Collector
from gateway.protocols.gemini.names import media_of, unsealed
from gateway.protocols.gemini.request import blocks_of

_FILTERED = (
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "IMAGE_RECITATION",
    "IMAGE_PROHIBITED_CONTENT", "MODEL_ARMOR", "ESCALATION",
)  # fmt: skip
_FINISH: dict[str, Finish] = {
    "MAX_TOKENS": "length", "CONTINUATION": "pause", **dict.fromkeys(_FILTERED, "content_filter"),
}  # fmt: skip
_MOST_CANDIDATES = 128


def read_reply(document: Document, usage: UsageOf) -> Reply:
    """See `Outbound.read_reply`."""
    reader, collector = GeminiReader(usage), Collector()
    for delta in [*reader.take(document), *reader.end()]:
        if isinstance(delta, Broken):
            raise BadReply(f"says that it failed: {delta.message}")
        collector.add(delta)
    return collector.reply


class GeminiReader:
    """See `gateway.protocols.base.Reader`."""

    def __init__(self, usage: UsageOf) -> None:
        self._usage = usage
        self._id = ""
        self._started = False
        self._finished = False
        self._calls: dict[int, int] = {}
        """Calls of each candidate so far."""
        self._texts: dict[int, str] = {}
        """Text of each candidate so far: places of citations are counted in its bytes."""

    def read(self, event: bytes) -> list[Delta]:
        """The deltas of one event."""
        document = answers.event_object(event)
        return [] if document is None else self.take(document)

    def take(self, document: Document) -> list[Delta]:
        """The deltas of one event's object."""
        error = document.get("error")
        if isinstance(error, dict):
            code = answers.count(error.get("code")) or 0
            return [Broken(answers.text(error, "message") or "It gives no reason.", code if 400 <= code < 600 else 0)]
        deltas: list[Delta] = []
        if not self._started:
            self._started = True
            self._id = answers.text(document, "responseId")
            deltas.append(Start(self._id, answers.text(document, "modelVersion")))
        for candidate in answers.objects(document.get("candidates")):
            self._candidate(candidate, deltas)
        if answers.mapping(document.get("promptFeedback")).get("blockReason") is not None and not self._finished:
            self._finished = True
            deltas.append(Finished("content_filter"))
        usage = self._usage(answers.mapping(document.get("usageMetadata")))
        if usage is not None:
            deltas.append(UsageNow(usage))
        return deltas

    def end(self) -> list[Delta]:
        """Nothing more; the API has no mark of the end but that candidates say why they ended."""
        if not self._finished:
            raise BadReply("ended before its answer did")
        return []

    def _candidate(self, candidate: Document, deltas: list[Delta]) -> None:
        at = answers.index(candidate, "index")
        if at >= _MOST_CANDIDATES:
            raise BadReply("holds a candidate with an impossible index")
        proof: Thinking | None = None
        logprobs = _logprobs(answers.mapping(candidate.get("logprobsResult")))
        for part in answers.objects(answers.mapping(candidate.get("content")).get("parts")):
            deltas += _proven(proof, at)
            proof = None
            if isinstance(part.get("functionCall"), dict):
                self._call(part, at, deltas)
                continue
            media = media_of(part)
            if media is not None:
                deltas.append(MediaDelta(media, at))
                continue
            for block in blocks_of(
                answers.text(part, "text"), part.get("thought") is True, answers.said(part, "thoughtSignature")
            ):
                if isinstance(block, Text):
                    self._texts[at] = self._texts.get(at, "") + block.text
                    deltas.append(TextDelta(block.text, at, logprobs))
                    logprobs = None
                elif part.get("thought") is True:
                    deltas += _thought(block, at)
                else:
                    assert isinstance(block, Thinking)
                    proof = block
        deltas += [CitationDelta(one, at) for one in _citations(candidate, self._texts.get(at, ""))]
        deltas += _proven(proof, at)
        reason = answers.text(candidate, "finishReason")
        if reason and reason != "FINISH_REASON_UNSPECIFIED":
            self._finished = True
            deltas.append(Finished(_FINISH.get(reason, "tool_calls" if self._calls.get(at) else "stop"), None, at))

    def _call(self, part: Document, at: int, deltas: list[Delta]) -> None:
        """A function call is always whole. Where it has no id it gets one that no other answer's call has."""
        call = answers.mapping(part.get("functionCall"))
        name = answers.text(call, "name")
        if not name:
            raise BadReply("has a function call without a name")
        number = self._calls.get(at, 0)
        self._calls[at] = number + 1
        identity = answers.text(call, "id") or f"call_{self._id or 'answer'}_{at}_{number}"
        signature = answers.said(part, "thoughtSignature")
        proof = unsealed(signature).signature if signature is not None else None
        arguments = orjson.dumps(answers.mapping(call.get("args"))).decode()
        deltas += [ToolStart(number, identity, name, at, proof), ToolDelta(number, arguments, at), BlockEnd(at)]


def _proven(proof: Thinking | None, at: int) -> list[Delta]:
    """The signature of ordinary text, behind it and behind what cites it."""
    if proof is None:
        return []
    return [BlockEnd(at), ThinkingDelta("", proof.signature, proof.redacted, at), BlockEnd(at)]


def _thought(block: Any, at: int) -> list[Delta]:
    """A piece of thought; its signature ends it."""
    delta = ThinkingDelta(block.text, block.signature, block.redacted, at)
    return [delta, BlockEnd(at)] if block.signature is not None else [delta]


def _logprobs(result: Document) -> Document | None:
    """OpenAI's `logprobs` object of a `logprobsResult`."""
    tops = answers.objects(result.get("topCandidates"))
    content = []
    for at, chosen in enumerate(answers.objects(result.get("chosenCandidates"))):
        others = answers.objects(tops[at].get("candidates")) if at < len(tops) else []
        content.append({**_token(chosen), "top_logprobs": [_token(one) for one in others]})
    return {"content": content, "refusal": None} if content else None


def _token(candidate: Document) -> Document:
    token, logprob = answers.text(candidate, "token"), candidate.get("logProbability")
    return {
        "token": token,
        "logprob": logprob if isinstance(logprob, int | float) else 0.0,
        "bytes": list(token.encode()),
    }


def _citations(candidate: Document, text: str) -> list[Document]:
    """Sources of the text so far: where something supports a piece of it, that piece's place in characters."""
    grounding = answers.mapping(candidate.get("groundingMetadata"))
    sources = [_source(chunk) for chunk in answers.objects(grounding.get("groundingChunks"))]
    supports = answers.objects(grounding.get("groundingSupports"))
    found: list[Document] = []
    for support in supports:
        indices = support.get("groundingChunkIndices")
        for index in indices if isinstance(indices, list) else []:
            if type(index) is int and 0 <= index < len(sources) and len(found) < answers.MOST_PARTS:
                found.append({**sources[index], **_span(answers.mapping(support.get("segment")), text)})
    if not supports:
        found += sources
    for one in answers.objects(answers.mapping(candidate.get("citationMetadata")).get("citations")):
        found.append({**_source({"web": one}), **_span(one, text)})
    return [one for one in found if one["url"] or one["cited_text"]]


def _source(chunk: Document) -> Document:
    source = answers.mapping(chunk.get("web") or chunk.get("retrievedContext") or chunk.get("maps"))
    cited = answers.text(source, "text")
    url, title = answers.text(source, "uri"), answers.text(source, "title")
    return {"type": "web_search_result_location", "cited_text": cited, "url": url, "title": title}


def _span(segment: Document, text: str) -> Document:
    start, end = answers.count(segment.get("startIndex")) or 0, answers.count(segment.get("endIndex"))
    if end is None:
        return {}
    data = text.encode()
    return {"start_index": _characters(data[:start]), "end_index": _characters(data[:end])}


def _characters(data: bytes) -> int:
    return len(data.decode("utf-8", "ignore"))


def read_usage(raw: Document) -> Usage | None:
    """A `UsageOf`: cached tokens are part of the prompt's; thoughts are not part of the candidates'."""
    prompt = answers.count(raw.get("promptTokenCount"))
    if prompt is None:
        return None
    cached = min(answers.count(raw.get("cachedContentTokenCount")) or 0, prompt)
    tools = answers.count(raw.get("toolUsePromptTokenCount")) or 0
    made, thought = answers.count(raw.get("candidatesTokenCount")), answers.count(raw.get("thoughtsTokenCount"))
    return Usage(prompt - cached + tools, cached, 0, made or 0, thought or 0)
