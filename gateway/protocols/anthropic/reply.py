"""Whole answers and errors of Anthropic's Messages API.

https://docs.anthropic.com/en/api/messages and /en/api/errors (read 2026-11)
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.errors import GatewayError
from gateway.protocols import answers, fields
from gateway.protocols.base import BadReply, Origin, UsageOf
from gateway.protocols.canonical import (
    Block,
    Choice,
    Document,
    Finish,
    Refusal,
    Reply,
    Text,
    Thinking,
    ToolCall,
    Usage,
)  # fmt: skip

_FINISH: dict[str, Finish] = {
    "end_turn": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "stop_sequence": "stop_sequence", "tool_use": "tool_calls", "refusal": "refusal", "pause_turn": "pause",
}  # fmt: skip
_WRITTEN: dict[Finish, str] = {
    "stop": "end_turn", "length": "max_tokens", "stop_sequence": "stop_sequence", "tool_calls": "tool_use",
    "refusal": "refusal", "content_filter": "refusal", "pause": "pause_turn",
}  # fmt: skip
ERRORS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 408: "timeout_error", 413: "request_too_large", 429: "rate_limit_error",
    500: "api_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip


def usage_of(raw: dict[str, Any], before: Usage | None = None) -> Usage | None:
    """Its counts are disjoint but for the thinking in the output. In a stream the later ones replace those `before`."""
    known = before or Usage()
    thinking = raw.get("output_tokens_details")
    counts = [
        raw.get("input_tokens"),
        raw.get("cache_read_input_tokens"),
        raw.get("cache_creation_input_tokens"),
        raw.get("output_tokens"),
        thinking.get("thinking_tokens") if isinstance(thinking, dict) else None,
    ]
    if counts[0] is None and counts[3] is None:
        return None
    total = known.output + known.reasoning
    held = (known.input, known.cache_read, known.cache_write, total, known.reasoning)
    given, read, written, out, thought = (
        count if type(count) is int and count >= 0 else old for count, old in zip(counts, held, strict=True)
    )
    thought = min(thought, out)
    return Usage(given, read, written, out - thought, thought)


def written_usage(usage: Usage) -> Document:
    """Counts in its words."""
    document: Document = {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output + usage.reasoning,
    }
    if usage.reasoning:
        document["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    return document


def finish_of(reason: Any) -> Finish | None:
    """Its stop reason; a word that is not known counts as `stop`."""
    return None if reason is None else _FINISH.get(str(reason), "stop")


def written_finish(finish: Finish | None) -> str:
    """Its word."""
    return _WRITTEN[finish or "stop"]


def read_reply(document: Document, usage: UsageOf) -> Reply:
    """See `Outbound.read_reply`."""
    content = document.get("content")
    if not isinstance(content, list):
        raise BadReply("has no content")
    raw = document.get("usage")
    raw = raw if isinstance(raw, dict) else {}
    blocks = [block for one in content if isinstance(one, dict) and (block := _block(one)) is not None]
    choice = Choice(blocks, finish_of(document.get("stop_reason")), answers.said(document, "stop_sequence"))
    identity, model = answers.text(document, "id"), answers.text(document, "model")
    return Reply(identity, model, [choice], usage(raw), tier_of(raw))


def tier_of(usage: Document) -> str | None:
    """OpenAI's word for the tier that the request used."""
    tier = usage.get("service_tier")
    return "default" if tier == "standard" else tier if isinstance(tier, str) else None


def _block(block: Document) -> Block | None:
    """One block; None for what only its own tools make."""
    kind = block.get("type")
    if kind == "text":
        return Text(answers.text(block, "text"), answers.objects(block.get("citations")))
    if kind == "tool_use":
        arguments = orjson.dumps(answers.mapping(block.get("input"))).decode()
        return ToolCall(answers.text(block, "id"), answers.text(block, "name"), arguments)
    if kind == "thinking":
        return Thinking(answers.text(block, "thinking"), answers.said(block, "signature"))
    if kind == "redacted_thinking":
        return Thinking(redacted=answers.text(block, "data"))
    return None


def write_reply(reply: Reply, origin: Origin) -> bytes:
    """See `Inbound.write_reply`. There is one choice: no request of this dialect asks for more."""
    choice = reply.choices[0] if reply.choices else Choice([])
    usage = written_usage(reply.usage or Usage())
    if reply.service_tier is not None:
        usage["service_tier"] = written_tier(reply.service_tier)
    return orjson.dumps(
        {
            "id": f"msg_{origin.id}",
            "type": "message",
            "role": "assistant",
            "model": reply.model or origin.model,
            "content": [written for block in choice.blocks if (written := _written(block)) is not None],
            "stop_reason": written_finish(choice.finish),
            "stop_sequence": choice.stop_sequence,
            "usage": usage,
        }
    )


def written_tier(tier: str) -> str:
    """Its word for the tier that the request used."""
    return "standard" if tier == "default" else tier


def _written(block: Block) -> Document | None:
    if isinstance(block, Text):
        return {"type": "text", "text": block.text, "citations": block.citations or None}
    if isinstance(block, Refusal):
        return {"type": "text", "text": block.text, "citations": None}
    if isinstance(block, ToolCall):
        return {"type": "tool_use", "id": block.id, "name": block.name, "input": fields.arguments_of(block.arguments)}
    if isinstance(block, Thinking):
        if block.redacted is not None:
            return {"type": "redacted_thinking", "data": block.redacted}
        return {"type": "thinking", "thinking": block.text, "signature": block.signature or ""}
    return None


def written_error(error: GatewayError) -> bytes:
    """The body of an error: a kind by its status, and the message."""
    if error.passed is not None:
        return error.passed
    kind = ERRORS.get(error.status) or ("api_error" if error.status >= 500 else "invalid_request_error")
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": error.message}})


def written_error_event(error: GatewayError) -> bytes:
    """The same in a stream."""
    return b"event: error\ndata: %b\n\n" % written_error(error)
