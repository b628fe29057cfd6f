"""Requests of Anthropic's Messages API, as upstreams get them.

https://docs.anthropic.com/en/api/messages (read 2026-11)
"""

from __future__ import annotations

from gateway.protocols import fields
from gateway.protocols.base import unsupported
from gateway.protocols.canonical import (
    Block,
    Document,
    Format,
    Media,
    Message,
    Reasoning,
    Refusal,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)  # fmt: skip
from gateway.protocols.hints import HINTS

NAME = "Anthropic Messages"
DEFAULT_MAX_TOKENS = 8192
"""The API wants a limit: this one is within what every Claude model since 3.5 can write."""
EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
"""Words for the effort -> its own."""
_KNOWN = frozenset(
    {"cache_control", "container", "context_management", "diagnostics", "inference_geo", "mcp_servers", "speed"}
)
ORDERS = ("system", "developer")
_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}


def write_request(request: Request, model: str) -> Document:
    """See `Outbound.write_request`."""
    _refuse(request)
    document: Document = {"model": model, "max_tokens": request.max_tokens or DEFAULT_MAX_TOKENS}
    system = [block for message in request.messages if message.role in ORDERS for block in message.blocks]
    if system:
        document["system"] = _system(system)
    document["messages"] = _turns(
        [message for message in request.messages if message.role not in ("system", "developer")]
    )
    if request.tools:
        document["tools"] = [_tool(tool) for tool in request.tools]
        choice = _choice(request)
        if choice is not None:
            document["tool_choice"] = choice
    document |= fields.without_nones(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        stop_sequences=request.stop or None,
        metadata={"user_id": request.user} if request.user else None,
        service_tier=_TIERS[request.service_tier] if request.service_tier is not None else None,
    )
    if request.format is not None:
        document["output_config"] = {"format": _format(request.format)}
    if request.reasoning is not None:
        _think(document, request.reasoning)
    if request.stream:
        document["stream"] = True
    return document | {name: value for name, value in request.extra.items() if name in _KNOWN}


def _refuse(request: Request) -> None:
    """What it cannot say, by name; values that change nothing are no matter."""
    wishes = {
        "n": request.n not in (None, 1),
        "seed": request.seed is not None,
        "frequency_penalty": bool(request.frequency_penalty),
        "presence_penalty": bool(request.presence_penalty),
        "logit_bias": bool(request.logit_bias),
        "logprobs": bool(request.logprobs),
        "service_tier": request.service_tier is not None and request.service_tier not in _TIERS,
    }
    for name, wished in wishes.items():
        if wished:
            raise unsupported(name, NAME)
    if request.temperature is not None and request.temperature > 1:
        raise unsupported("temperature", NAME, "it goes from 0 to 1 there")
    for name in request.extra:
        if name not in _KNOWN and name not in HINTS:
            raise unsupported(name, NAME)


def _system(blocks: list[Block]) -> str | list[Document]:
    texts = [block for block in blocks if isinstance(block, Text) and block.text]
    if len(texts) == 1 and texts[0].cache is None:
        return texts[0].text
    return [_text(text) for text in texts]


def _turns(messages: list[Message]) -> list[Document]:
    """User and assistant by turns: tool results are the user's, and come first in their turn."""
    turns: list[Document] = []
    for message in messages:
        role = "assistant" if message.role == "assistant" else "user"
        blocks = [written for block in message.blocks if (written := _block(block)) is not None]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
        only = turn["content"][0] if len(turn["content"]) == 1 else {}
        if only.keys() == {"type", "text"}:
            turn["content"] = only["text"]
    return turns


def _block(block: Block) -> Document | None:
    """One block; None for what it would not take back: an empty text, reasoning without the provider's own proof."""
    if isinstance(block, Text):
        return _text(block) if block.text else None
    if isinstance(block, Media):
        return _media(block)
    if isinstance(block, ToolCall):
        call = {"type": "tool_use", "id": block.id, "name": block.name, "input": fields.arguments_of(block.arguments)}
        return call | _cache(block.cache)
    if isinstance(block, ToolResult):
        return _result(block)
    if isinstance(block, Refusal):
        return {"type": "text", "text": block.text} if block.text else None
    if block.redacted is not None:
        return {"type": "redacted_thinking", "data": block.redacted}
    return _thinking(block)


def _thinking(block: Thinking) -> Document | None:
    if not block.signature:
        return None
    return {"type": "thinking", "thinking": block.text, "signature": block.signature}


def _text(block: Text) -> Document:
    citations = {"citations": block.citations} if block.citations else {}
    return {"type": "text", "text": block.text, **citations, **_cache(block.cache)}


def _result(result: ToolResult) -> Document:
    document: Document = {"type": "tool_result", "tool_use_id": result.id}
    content = [written for block in result.blocks if (written := _block(block)) is not None]
    if len(content) == 1 and content[0].keys() == {"type", "text"}:
        document["content"] = content[0]["text"]
    elif content:
        document["content"] = content
    if result.failed:
        document["is_error"] = True
    return document | _cache(result.cache)


def _media(media: Media) -> Document:
    if media.kind == "audio":
        raise unsupported("input_audio", NAME)
    document: Document = {"type": "image" if media.kind == "image" else "document"}
    if media.file_id is not None:
        document["source"] = {"type": "file", "file_id": media.file_id}
    elif media.data is None:
        document["source"] = {"type": "url", "url": media.url}
    elif media.media_type == "text/plain":
        document["source"] = {"type": "text", "media_type": "text/plain", "data": fields.text_of_base64(media.data)}
    else:
        document["source"] = {"type": "base64", "media_type": media.media_type, "data": media.data}
    if media.kind == "file" and media.name is not None:
        document["title"] = media.name
    return document | _cache(media.cache)


def _tool(tool: Tool) -> Document:
    schema = tool.schema or {"type": "object", "properties": {}}
    document = fields.without_nones(
        name=tool.name, description=tool.description, input_schema=schema, strict=tool.strict or None
    )
    return document | _cache(tool.cache)


def _choice(request: Request) -> Document | None:
    choice = request.tool_choice
    alone = {"disable_parallel_tool_use": True} if request.parallel_tools is False else {}
    if choice is None:
        return {"type": "auto", **alone} if alone else None
    if choice.mode == "none":
        return {"type": "none"}
    return {"type": choice.mode, **({"name": choice.name} if choice.mode == "tool" else {}), **alone}


def _format(form: Format) -> Document:
    if form.kind == "json":
        raise unsupported("response_format", NAME, "JSON without a schema is not offered there; send a json_schema")
    return {"type": "json_schema", "schema": form.schema}


def _think(document: Document, wish: Reasoning) -> None:
    """A budget of tokens, which counts towards the limit of the answer, or an effort that is the model's to spend."""
    if wish.enabled is False:
        document["thinking"] = {"type": "disabled"}
        return
    if wish.budget is not None:
        document["thinking"] = {"type": "enabled", "budget_tokens": wish.budget}
        if document["max_tokens"] <= wish.budget:
            document["max_tokens"] += wish.budget
    elif wish.enabled or wish.effort is not None:
        document["thinking"] = {"type": "adaptive"}
    if wish.effort is not None:
        if wish.effort not in EFFORTS:
            raise unsupported("reasoning_effort", NAME, f"it is one of {', '.join(EFFORTS)}")
        document.setdefault("output_config", {})["effort"] = EFFORTS[wish.effort]


def _cache(cache: Document | None) -> Document:
    return {"cache_control": cache} if cache is not None else {}
