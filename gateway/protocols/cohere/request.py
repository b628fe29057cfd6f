"""Requests of Cohere's Chat API, version 2, written.

https://docs.cohere.com/v2/reference/chat (read 2026-11) and the types of the `cohere` package.
"""

from __future__ import annotations

from typing import Any

from gateway.protocols import fields
from gateway.protocols.base import refuse_unknown, unsupported
from gateway.protocols.canonical import (
    Block,
    Document,
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

DIALECT = "Cohere chat"
PLAN = "tool_plan"
"""Id of the thinking that is a plan of tool calls, which the API keeps apart from other thinking."""
_KNOWN = frozenset({"documents", "citation_options", "safety_mode", "priority"})


def write_request(request: Request, model: str) -> Document:
    """See `Outbound.write_request`."""
    _refuse(request)
    more = {name: value for name, value in refuse_unknown(request, DIALECT, _KNOWN | HINTS).items() if name in _KNOWN}
    document: Document = {"model": model, "messages": [one for m in request.messages for one in _written(m)]}
    document |= fields.without_nones(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        p=request.top_p,
        k=request.top_k,
        stop_sequences=request.stop or None,
        seed=request.seed,
        frequency_penalty=request.frequency_penalty or None,
        presence_penalty=request.presence_penalty or None,
        logprobs=request.logprobs or None,
        thinking=_thinking(request.reasoning) if request.reasoning is not None else None,
    )
    if request.format is not None:
        spec = {} if request.format.schema is None else {"json_schema": request.format.schema}
        document["response_format"] = {"type": "json_object", **spec}
    if request.tools:
        document |= _tools(request)
    return document | ({"stream": True} if request.stream else {}) | more


def _refuse(request: Request) -> None:
    if request.n not in (None, 1):
        raise unsupported("n", DIALECT, "it gives one answer.")
    if request.logit_bias:
        raise unsupported("logit_bias", DIALECT)
    if request.top_logprobs:
        raise unsupported("top_logprobs", DIALECT, "it tells the probabilities of the chosen tokens only.")
    if request.parallel_tools is False and request.tools:
        raise unsupported("parallel_tool_calls", DIALECT, "its models may always call several tools.")
    if request.service_tier not in (None, "auto", "default"):
        raise unsupported("service_tier", DIALECT)


def _tools(request: Request) -> Document:
    """The tools. One that must be called is the only one given."""
    choice, tools = request.tool_choice, request.tools
    if choice is not None and choice.mode == "tool":
        tools = [tool for tool in tools if tool.name == choice.name]
    made: Document = {"tools": [_tool(tool) for tool in tools]}
    if any(tool.strict for tool in tools):
        made["strict_tools"] = True
    if choice is not None and choice.mode != "auto":
        made["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    return made


def _tool(tool: Tool) -> Document:
    schema = tool.schema or {"type": "object", "properties": {}}
    function = fields.without_nones(name=tool.name, description=tool.description, parameters=schema)
    return {"type": "function", "function": function}


def _thinking(wish: Reasoning) -> Document:
    if wish.enabled is False or wish.effort == "none":
        return {"type": "disabled"}
    return fields.without_nones(type="enabled", token_budget=wish.budget)


def _written(message: Message) -> list[Document]:
    """The messages that one becomes: each tool result is one of its own."""
    results = [block for block in message.blocks if isinstance(block, ToolResult)]
    made = [{"role": "tool", "tool_call_id": one.id, "content": _result(one)} for one in results]
    rest: list[Block] = [block for block in message.blocks if not isinstance(block, ToolResult)]
    if not rest or message.role == "tool":
        return made
    if message.role == "assistant":
        return [*made, _answer(rest)]
    role = "system" if message.role == "developer" else message.role
    return [*made, {"role": role, "content": _content(rest)}]


def _answer(blocks: list[Block]) -> Document:
    """An earlier answer. Thinking that has a proof is another provider's: it is left out."""
    document: Document = {"role": "assistant"}
    content: list[Document] = []
    for block in blocks:
        if isinstance(block, Thinking):
            if block.id == PLAN:
                document["tool_plan"] = block.text
            elif block.text and block.signature is None:
                content.append({"type": "thinking", "thinking": block.text})
        elif isinstance(block, Text | Refusal):
            content.append({"type": "text", "text": block.text})
        elif not isinstance(block, ToolCall):
            raise unsupported("messages", DIALECT, "an answer of the assistant holds text only.")
    calls = [block for block in blocks if isinstance(block, ToolCall)]
    if content:
        document["content"] = content
    if calls:
        document["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return document


def _result(result: ToolResult) -> str:
    if any(isinstance(block, Media) for block in result.blocks):
        raise unsupported("messages", DIALECT, "a tool's result holds text only.")
    return "".join(block.text for block in result.blocks if isinstance(block, Text))


def _content(blocks: list[Block]) -> Any:
    """A string if there is one text, else parts."""
    if len(blocks) == 1 and isinstance(blocks[0], Text):
        return blocks[0].text
    return [_part(block) for block in blocks]


def _part(block: Block) -> Document:
    if isinstance(block, Text):
        return {"type": "text", "text": block.text}
    url = fields.url_of_media(block) if isinstance(block, Media) and block.kind == "image" else None
    if url is None:
        raise unsupported("messages", DIALECT, "it takes text, and images inline or by URL.")
    return {"type": "image_url", "image_url": fields.without_nones(url=url, detail=getattr(block, "detail", None))}
