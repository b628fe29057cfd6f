"""Whole answers of OpenAI's Responses API, and what they share with streamed ones.

https://platform.openai.com/docs/api-reference/responses/object (read 2026-11) and the types of the `openai` package.
"""

from __future__ import annotations

from typing import Any

from gateway.protocols import answers
from gateway.protocols.base import BadReply, UsageOf
from gateway.protocols.canonical import (
    Block,
    Choice,
    Document,
    Finish,
    Media,
    Refusal,
    Reply,
    Text,
    Thinking,
    ToolCall,
    Usage,
)  # fmt: skip
from gateway.protocols.chat.request import signature_of

_INCOMPLETE: dict[str, Finish] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_WRITTEN: dict[Finish, str] = {
    "length": "max_output_tokens", "content_filter": "content_filter", "refusal": "content_filter",
}  # fmt: skip


def read_reply(document: Document, usage: UsageOf) -> Reply:
    """See `Outbound.read_reply`."""
    output = document.get("output")
    if not isinstance(output, list):
        raise BadReply("has no output")
    if document.get("status") in ("failed", "cancelled"):
        raise BadReply("says that it failed: " + failure(answers.mapping(document.get("error"))))
    blocks: list[Block] = []
    logprobs: list[Any] = []
    for item in answers.objects(output):
        blocks += _blocks(item, logprobs)
    calls = any(isinstance(block, ToolCall) for block in blocks)
    choice = Choice(blocks, finish_of(document, calls), None, logprobs_of(logprobs))
    return Reply(
        answers.text(document, "id"),
        answers.text(document, "model"),
        [choice],
        usage(answers.mapping(document.get("usage"))),
        answers.said(document, "service_tier"),
    )


def _blocks(item: Document, logprobs: list[Any]) -> list[Block]:
    """What one item says; items of tools that run at OpenAI say nothing that another dialect could."""
    kind = item.get("type")
    if kind == "message":
        return [_part(part, logprobs) for part in answers.objects(item.get("content"))]
    if kind == "reasoning":
        return [*read_reasoning(item)]
    if kind == "function_call":
        return [ToolCall(*call_of(item), answers.text(item, "arguments") or "{}", signature_of(item))]
    media = media_of(item)
    return [media] if media is not None else []


def _part(part: Document, logprobs: list[Any]) -> Block:
    if part.get("type") == "refusal":
        return Refusal(answers.text(part, "refusal"))
    found = part.get("logprobs")
    logprobs += found if isinstance(found, list) else []
    return Text(answers.text(part, "text"), [read_annotation(one) for one in answers.objects(part.get("annotations"))])


def read_reasoning(item: Document) -> list[Thinking]:
    """Reasoning that is shown has parts, however empty they are; without any it is redacted, or says nothing."""
    parts = [*answers.objects(item.get("summary")), *answers.objects(item.get("content"))]
    proof, identity = answers.said(item, "encrypted_content"), answers.said(item, "id")
    if parts:
        return [Thinking("\n\n".join(answers.text(part, "text") for part in parts), proof, id=identity)]
    return [Thinking(redacted=proof, id=identity)] if proof is not None else []


def call_of(item: Document) -> tuple[str, str]:
    """(id, name) of a `function_call`."""
    name = answers.text(item, "name")
    if not name:
        raise BadReply("has a tool call without a name")
    return answers.text(item, "call_id"), name


def media_of(item: Document) -> Media | None:
    """The image that an `image_generation_call` made."""
    if item.get("type") != "image_generation_call" or not isinstance(item.get("result"), str):
        return None
    return Media("image", media_type=f"image/{answers.text(item, 'output_format') or 'png'}", data=item["result"])


def logprobs_of(found: Any) -> Document | None:
    """A list of log probabilities as chat's `logprobs` object; None if there are none."""
    return answers.logprobs({"content": found})


def finish_of(response: Document, calls: bool) -> Finish:
    """How the answer ended."""
    if response.get("status") == "incomplete":
        return _INCOMPLETE.get(answers.text(answers.mapping(response.get("incomplete_details")), "reason"), "length")
    return "tool_calls" if calls else "stop"


def incomplete_reason(finish: Finish) -> str | None:
    """Why a response is incomplete; None if it is complete."""
    return _WRITTEN.get(finish)


def failure(error: Document) -> str:
    """What an `error` member says."""
    return answers.text(error, "message") or answers.text(error, "code") or "it gives no reason"


def read_annotation(annotation: Document) -> Document:
    """A URL citation in Anthropic's form; other kinds as they came."""
    if annotation.get("type") != "url_citation":
        return annotation
    return {**annotation, "type": "web_search_result_location", "cited_text": ""}


def written_annotation(citation: Document, length: int) -> Document:
    """A citation as an annotation. Without a span of its own it is one of the whole text, `length` long by now."""
    if not citation.get("url"):
        return citation
    span = {"start_index": 0, "end_index": length, "title": ""}
    return {"type": "url_citation", **span, **{n: citation[n] for n in ("url", *span) if citation.get(n) is not None}}


def read_usage(raw: Document) -> Usage | None:
    """A `UsageOf`: details are parts of the counts that they detail."""
    given, made = answers.count(raw.get("input_tokens")), answers.count(raw.get("output_tokens"))
    if given is None:
        return None
    details = answers.mapping(raw.get("input_tokens_details"))
    cached = min(answers.count(details.get("cached_tokens")) or 0, given)
    stored = min(answers.count(details.get("cache_write_tokens")) or 0, given - cached)
    made = made or 0
    spent = answers.mapping(raw.get("output_tokens_details"))
    reasoning = min(answers.count(spent.get("reasoning_tokens")) or 0, made)
    return Usage(given - cached - stored, cached, stored, made - reasoning, reasoning)


def written_usage(usage: Usage) -> Document:
    """The inverse of `read_usage`."""
    return {
        "input_tokens": usage.input + usage.cache_read + usage.cache_write,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output + usage.reasoning,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.total,
    }
