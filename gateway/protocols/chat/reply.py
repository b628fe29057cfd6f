"""Whole answers of OpenAI's Chat Completions API.

https://platform.openai.com/docs/api-reference/chat/object (read 2026-11); reasoning as DeepSeek (`reasoning_content`)
and OpenRouter (`reasoning_details`, which has the proofs) tell it.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocols import answers
from gateway.protocols.base import BadReply, Origin, UsageOf
from gateway.protocols.canonical import (
    Block,
    Choice,
    Document,
    Finish,
    Refusal,
    Reply,
    Request,
    Text,
    Thinking,
    ToolCall,
    Usage,
)  # fmt: skip
from gateway.protocols.chat.request import read_detail, signature_of, written_call, written_detail

FINISH: dict[str, Finish] = {
    "stop": "stop", "length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls",
    "content_filter": "content_filter",
}  # fmt: skip
_WRITTEN: dict[Finish, str] = {
    "stop": "stop", "stop_sequence": "stop", "length": "length", "tool_calls": "tool_calls",
    "content_filter": "content_filter", "refusal": "content_filter", "pause": "stop",
}  # fmt: skip


def read_reply(document: Document, usage: UsageOf) -> Reply:
    """See `Outbound.read_reply`."""
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        raise BadReply("has no choices")
    raw = document.get("usage")
    return Reply(
        answers.text(document, "id"),
        answers.text(document, "model"),
        [_choice(choice) for choice in choices],
        usage(raw) if isinstance(raw, dict) else None,
        answers.said(document, "service_tier"),
    )


def _choice(choice: Any) -> Choice:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise BadReply("has a choice without a message")
    blocks: list[Block] = []
    details = message.get("reasoning_details")
    said = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(details, list) and details:
        blocks += [read_detail(one) for one in details if isinstance(one, dict)]
    elif isinstance(said, str):
        blocks.append(Thinking(said))
    content = message.get("content")
    if isinstance(content, str) and content:
        blocks.append(Text(content, read_annotations(message.get("annotations"))))
    if isinstance(message.get("refusal"), str):
        blocks.append(Refusal(message["refusal"]))
    blocks += [read_call(call) for call in answers.objects(message.get("tool_calls"))]
    return Choice(blocks, finish_of(choice.get("finish_reason")), None, answers.logprobs(choice.get("logprobs")))


def finish_of(word: Any) -> Finish | None:
    """OpenAI's finish reason; a word that is not known counts as `stop`."""
    return None if word is None else FINISH.get(str(word), "stop")


def read_call(call: Document) -> ToolCall:
    """A tool call of an answer."""
    function = answers.mapping(call.get("function"))
    if not isinstance(function.get("name"), str):
        raise BadReply("has a tool call without a function")
    return ToolCall(answers.text(call, "id"), function["name"], arguments_of(function) or "{}", signature_of(call))


def arguments_of(function: Document) -> str:
    """The arguments of a call: JSON as text, or what some upstreams send instead, the object itself."""
    value = function.get("arguments")
    return orjson.dumps(value).decode() if isinstance(value, dict) else answers.text(function, "arguments")


def read_annotations(annotations: Any) -> list[Document]:
    """`annotations` as citations."""
    return [read_annotation(one) for one in answers.objects(annotations)]


def read_annotation(annotation: Document) -> Document:
    """A URL citation in Anthropic's form; other kinds as they came."""
    url = annotation.get("url_citation")
    if not isinstance(url, dict):
        return annotation
    return {"type": "web_search_result_location", "cited_text": "", **url}


def written_annotation(citation: Document) -> Document:
    """A citation as OpenAI's annotation; one of a document keeps its own form under `document_citation`."""
    if citation.get("url"):
        members = ("url", "title", "start_index", "end_index")
        return {"type": "url_citation", "url_citation": {n: citation[n] for n in members if n in citation}}
    return {"type": "document_citation", "document_citation": citation}


def write_reply(reply: Reply, request: Request, origin: Origin) -> bytes:
    """See `Inbound.write_reply`."""
    document: Document = {
        "id": f"chatcmpl-{origin.id}",
        "object": "chat.completion",
        "created": origin.created,
        "model": reply.model or origin.model,
        "choices": [
            {
                "index": at,
                "message": _message(choice),
                "logprobs": choice.logprobs,
                "finish_reason": _WRITTEN[choice.finish or "stop"],
            }
            for at, choice in enumerate(reply.choices)
        ],
    }
    if reply.usage is not None:
        document["usage"] = written_usage(reply.usage)
    if reply.service_tier is not None:
        document["service_tier"] = reply.service_tier
    return orjson.dumps(document)


def _message(choice: Choice) -> Document:
    texts = [block for block in choice.blocks if isinstance(block, Text)]
    refusal = "".join(block.text for block in choice.blocks if isinstance(block, Refusal))
    message: Document = {
        "role": "assistant",
        "content": "".join(block.text for block in texts) if texts else None,
        "refusal": refusal or None,
    }
    thinking = [block for block in choice.blocks if isinstance(block, Thinking)]
    if thinking:
        message["reasoning_content"] = "".join(block.text for block in thinking)
        message["reasoning_details"] = [written_detail(block, at) for at, block in enumerate(thinking)]
    citations = [written_annotation(one) for block in texts for one in block.citations]
    if citations:
        message["annotations"] = citations
    calls = [written_call(block) for block in choice.blocks if isinstance(block, ToolCall)]
    if calls:
        message["tool_calls"] = calls
    return message


def written_finish(finish: Finish) -> str:
    """OpenAI's word for it."""
    return _WRITTEN[finish]


def written_usage(usage: Usage) -> Document:
    """OpenAI's usage: details are parts of the counts that they detail."""
    prompt = usage.input + usage.cache_read + usage.cache_write
    details = {"cached_tokens": usage.cache_read}
    if usage.cache_write:
        details["cache_write_tokens"] = usage.cache_write
    return {
        "prompt_tokens": prompt,
        "completion_tokens": usage.output + usage.reasoning,
        "total_tokens": usage.total,
        "prompt_tokens_details": details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }
