"""Requests of Anthropic's Messages API, as clients send them.

https://docs.anthropic.com/en/api/messages (read 2026-11)
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocols import fields
from gateway.protocols.base import bad
from gateway.protocols.canonical import (
    Block,
    Document,
    Format,
    Media,
    Message,
    Reasoning,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)  # fmt: skip

_READ = frozenset({
    "model", "messages", "system", "max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "tools",
    "tool_choice", "thinking", "output_config", "metadata", "service_tier", "stream",
})  # fmt: skip
_CHOICES = ("auto", "any", "tool", "none")


def read_request(document: Document) -> Request:
    """See `Inbound.read_request`."""
    choice = fields.mapping(document.get("tool_choice"), "tool_choice")
    output = fields.mapping(document.get("output_config"), "output_config")
    return Request(
        messages=[*_system(document.get("system")), *_messages(document)],
        tools=[_tool(one, f"tools[{at}]") for at, one in enumerate(fields.objects(document.get("tools"), "tools"))],
        tool_choice=_tool_choice(choice),
        parallel_tools=False if choice.get("disable_parallel_tool_use") else None,
        max_tokens=fields.whole(document, "max_tokens"),
        temperature=fields.number(document, "temperature"),
        top_p=fields.number(document, "top_p"),
        top_k=fields.whole(document, "top_k"),
        stop=fields.strings(document.get("stop_sequences"), "stop_sequences"),
        format=_format(fields.mapping(output.get("format"), "output_config.format")),
        reasoning=_reasoning(document, output),
        service_tier=_tier(fields.text(document, "service_tier")),
        user=fields.text(fields.mapping(document.get("metadata"), "metadata"), "user_id", "metadata."),
        stream=document.get("stream") is True,
        include_usage=True,
        extra={name: value for name, value in document.items() if name not in _READ and value is not None},
    )


def _system(system: Any) -> list[Message]:
    if system is None or system == "":
        return []
    if isinstance(system, str):
        return [Message("system", [Text(system)])]
    return [Message("system", [_block(b, f"system[{at}]") for at, b in enumerate(fields.objects(system, "system"))])]


def _messages(document: Document) -> list[Message]:
    messages: list[Message] = []
    for at, one in enumerate(fields.objects(document.get("messages"), "messages")):
        where, role = f"messages[{at}]", one.get("role")
        if role not in ("user", "assistant", "system"):
            raise bad(f"{where}.role", "must be user or assistant.")
        content = one.get("content")
        if isinstance(content, str):
            messages.append(Message(role, [Text(content)] if content else []))
            continue
        blocks: list[Block] = [
            _block(b, f"{where}.content[{i}]") for i, b in enumerate(fields.objects(content, f"{where}.content"))
        ]
        results: list[Block] = [block for block in blocks if isinstance(block, ToolResult)]
        rest: list[Block] = [block for block in blocks if not isinstance(block, ToolResult)]
        if results:
            messages.append(Message("tool", results))
        if rest or not results:
            messages.append(Message(role, rest))
    return messages


def _block(block: Document, where: str) -> Block:
    kind, cache = block.get("type"), fields.cache(block, where)
    if kind == "text":
        return Text(
            fields.needed(block, "text", f"{where}."),
            fields.objects(block.get("citations"), f"{where}.citations"),
            cache,
        )
    if kind == "image":
        return _media("image", block, where)
    if kind == "document":
        return _media("file", block, where)
    if kind == "tool_use":
        arguments = orjson.dumps(fields.mapping(block.get("input"), f"{where}.input")).decode()
        identity, name = fields.needed(block, "id", f"{where}."), fields.needed(block, "name", f"{where}.")
        return ToolCall(identity, name, arguments, cache=cache)
    if kind == "tool_result":
        return _result(block, where)
    if kind == "thinking":
        return Thinking(fields.needed(block, "thinking", f"{where}."), fields.text(block, "signature") or None)
    if kind == "redacted_thinking":
        return Thinking(redacted=fields.needed(block, "data", f"{where}."))
    raise bad(f"{where}.type", f"{str(kind)[:60]!r} is a kind of block that only Anthropic's own models know.")


def _result(block: Document, where: str) -> ToolResult:
    content = block.get("content")
    if content is None or isinstance(content, str):
        parts: list[Block] = [Text(content)] if content else []
    else:
        objects = fields.objects(content, f"{where}.content")
        parts = [_block(one, f"{where}.content[{at}]") for at, one in enumerate(objects)]
    return ToolResult(
        fields.needed(block, "tool_use_id", f"{where}."),
        [part for part in parts if isinstance(part, Text | Media)],
        failed=block.get("is_error") is True,
        cache=fields.cache(block, where),
    )


def _media(kind: Any, block: Document, where: str) -> Media:
    source = fields.mapping(block.get("source"), f"{where}.source")
    name, cache, inner = fields.text(block, "title", f"{where}."), fields.cache(block, where), f"{where}.source."
    form = source.get("type")
    if form == "base64":
        data, media_type = fields.needed(source, "data", inner), fields.needed(source, "media_type", inner)
        return Media(kind, media_type=media_type, data=data, name=name, cache=cache)
    if form == "url":
        return Media(kind, url=fields.needed(source, "url", inner), name=name, cache=cache)
    if form == "file":
        return Media(kind, file_id=fields.needed(source, "file_id", inner), name=name, cache=cache)
    if form == "text":
        data = fields.base64_of(fields.needed(source, "data", inner))
        return Media(kind, media_type="text/plain", data=data, name=name, cache=cache)
    raise bad(f"{inner}type", "must be base64, url, file or text.")


def _tool(tool: Document, where: str) -> Tool:
    if tool.get("type", "custom") != "custom":
        raise bad(f"{where}.type", f"{str(tool['type'])[:60]!r} is a tool that only Anthropic's own models know.")
    schema = fields.mapping(tool.get("input_schema"), f"{where}.input_schema")
    return Tool(
        fields.needed(tool, "name", f"{where}."),
        fields.text(tool, "description", f"{where}."),
        schema or None,
        fields.flag(tool, "strict"),
        fields.cache(tool, where),
    )


def _tool_choice(choice: Document) -> ToolChoice | None:
    if not choice:
        return None
    mode = choice.get("type")
    if mode not in _CHOICES:
        raise bad("tool_choice.type", f"must be one of {', '.join(_CHOICES)}.")
    return ToolChoice(mode, fields.needed(choice, "name", "tool_choice.") if mode == "tool" else None)


def _format(form: Document) -> Format | None:
    if not form:
        return None
    if form.get("type") != "json_schema":
        raise bad("output_config.format.type", "must be json_schema.")
    return Format("schema", schema=fields.mapping(form.get("schema"), "output_config.format.schema"), strict=True)


def _reasoning(document: Document, output: Document) -> Reasoning | None:
    thinking, effort = fields.mapping(document.get("thinking"), "thinking"), fields.text(output, "effort")
    kind = thinking.get("type")
    if kind is None and effort is None:
        return None
    if kind not in (None, "enabled", "disabled", "adaptive"):
        raise bad("thinking.type", "must be enabled, disabled or adaptive.")
    return Reasoning(None if kind is None else kind != "disabled", effort, fields.whole(thinking, "budget_tokens"))


def _tier(tier: str | None) -> str | None:
    return "default" if tier == "standard_only" else tier
