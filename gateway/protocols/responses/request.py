"""Requests of OpenAI's Responses API.

https://platform.openai.com/docs/api-reference/responses/create (read 2026-11) and the types of the `openai` package.
`previous_response_id` and `conversation` stand for earlier turns: who keeps those puts them into `input` before.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import GatewayError
from gateway.protocols import fields
from gateway.protocols.base import bad
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
    ToolChoice,
    ToolResult,
)  # fmt: skip
from gateway.protocols.chat.request import signature_of

_ROLES = ("system", "developer", "user", "assistant")
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_READ = frozenset({
    "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens", "temperature",
    "top_p", "top_logprobs", "include", "text", "reasoning", "service_tier", "user", "stream", "stream_options",
    "previous_response_id",
})  # fmt: skip
_NEUTRAL: Document = {"truncation": "disabled", "background": False}
"""Members that ask for nothing with these values."""
LOGPROBS = "message.output_text.logprobs"


def untranslated(param: str, why: str) -> GatewayError:
    """The refusal of what only OpenAI's own servers can do."""
    return GatewayError("caller_unsupported", f"`{param}` cannot be translated for this model: {why}", param=param)


def read_request(document: Document) -> Request:
    """See `Inbound.read_request`."""
    form = fields.mapping(document.get("text"), "text")
    top_logprobs = fields.whole(document, "top_logprobs")
    asked = LOGPROBS in fields.strings(document.get("include"), "include")
    extra = {
        name: value
        for name, value in document.items()
        if name not in _READ and value is not None and not (name in _NEUTRAL and value == _NEUTRAL[name])
    }
    if form.get("verbosity") is not None:
        extra["verbosity"] = form["verbosity"]
    tools = [_tool(one, f"tools[{at}]") for at, one in enumerate(fields.objects(document.get("tools"), "tools"))]
    choice, tools = _tool_choice(document.get("tool_choice"), tools)
    return Request(
        messages=_messages(document),
        tools=tools,
        tool_choice=choice,
        parallel_tools=fields.flag(document, "parallel_tool_calls"),
        max_tokens=fields.whole(document, "max_output_tokens"),
        temperature=fields.number(document, "temperature"),
        top_p=fields.number(document, "top_p"),
        logprobs=True if asked or top_logprobs else None,
        top_logprobs=top_logprobs,
        format=_format(fields.mapping(form.get("format"), "text.format")),
        reasoning=_reasoning(fields.mapping(document.get("reasoning"), "reasoning")),
        service_tier=fields.text(document, "service_tier"),
        user=fields.text(document, "user"),
        stream=document.get("stream") is True,
        include_usage=True,
        extra=extra,
    )


def _messages(document: Document) -> list[Message]:
    messages: list[Message] = []
    instructions = fields.text(document, "instructions")
    if instructions:
        messages.append(Message("system", [Text(instructions)]))
    given = document.get("input")
    if isinstance(given, str):
        return [*messages, Message("user", [Text(given)])]
    for at, item in enumerate(fields.objects(given, "input")):
        message = _item(item, f"input[{at}]")
        if message.role == "assistant" and messages and messages[-1].role == "assistant":
            messages[-1].blocks += message.blocks  # reasoning, text and calls of one turn are items of their own
        else:
            messages.append(message)
    return messages


def _item(item: Document, where: str) -> Message:
    kind = item.get("type", "message")
    if kind == "message":
        return _message(item, where)
    if kind == "function_call":
        call = ToolCall(
            fields.needed(item, "call_id", f"{where}."),
            fields.needed(item, "name", f"{where}."),
            fields.text(item, "arguments", f"{where}.") or "{}",
            signature_of(item),
        )
        return Message("assistant", [call])
    if kind == "function_call_output":
        parts = _parts(item.get("output"), f"{where}.output")
        blocks = [part for part in parts if isinstance(part, Text | Media)]
        name = fields.text(item, "name", f"{where}.")
        return Message("tool", [ToolResult(fields.needed(item, "call_id", f"{where}."), blocks, name)])
    if kind == "reasoning":
        return Message("assistant", _thinking(item, where))
    if kind == "item_reference":
        raise bad(where, "refers to an item that is not kept here: send the item itself.")
    raise untranslated(f"{where}.type", f"items of type {kind} belong to tools that run at OpenAI.")


def _message(item: Document, where: str) -> Message:
    role = item.get("role")
    if role not in _ROLES:
        raise bad(f"{where}.role", f"must be one of {', '.join(_ROLES)}.")
    return Message(role, _parts(item.get("content"), f"{where}.content"))


def _thinking(item: Document, where: str) -> list[Block]:
    """Reasoning of an earlier answer; an item without text or proof says nothing."""
    parts = [
        *fields.objects(item.get("summary"), f"{where}.summary"),
        *fields.objects(item.get("content"), f"{where}.content"),
    ]
    text = "\n\n".join(fields.needed(part, "text", f"{where}.") for part in parts)
    proof, identity = fields.text(item, "encrypted_content", f"{where}."), fields.text(item, "id", f"{where}.")
    if parts:  # that is shown, however empty: it may be a proof of what else was said
        return [Thinking(text, proof, id=identity)] if text or proof else []
    return [Thinking(redacted=proof, id=identity)] if proof else []


def _parts(content: Any, where: str) -> list[Block]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)] if content else []
    return [_part(part, f"{where}[{at}]") for at, part in enumerate(fields.objects(content, where))]


def _part(part: Document, where: str) -> Block:
    kind = part.get("type")
    cache = _cache(fields.mapping(part.get("prompt_cache_breakpoint"), f"{where}.prompt_cache_breakpoint"))
    if kind in ("input_text", "output_text", "text"):
        return Text(fields.needed(part, "text", f"{where}."), cache=cache)
    if kind == "refusal":
        return Refusal(fields.needed(part, "refusal", f"{where}."))
    url = fields.text(part, "image_url" if kind == "input_image" else "file_url", f"{where}.")
    if kind == "input_image":
        detail = fields.text(part, "detail", f"{where}.")
        detail = None if detail == "auto" else detail
        if url is not None:
            return fields.media_of_url("image", url, detail=detail, cache=cache)
        return Media("image", file_id=fields.needed(part, "file_id", f"{where}."), detail=detail, cache=cache)
    if kind == "input_file":
        name = fields.text(part, "filename", f"{where}.")
        data = fields.text(part, "file_data", f"{where}.")
        if data is not None:
            inline = fields.data_url(data) or ("application/pdf", data)
            return Media("file", media_type=inline[0], data=inline[1], name=name, cache=cache)
        if url is not None:
            return Media("file", url=url, name=name, cache=cache)
        return Media("file", file_id=fields.needed(part, "file_id", f"{where}."), name=name, cache=cache)
    raise bad(f"{where}.type", "must be input_text, input_image, input_file, output_text or refusal.")


def _cache(border: Document) -> Document | None:
    """A breakpoint as Anthropic's `cache_control`, whose lives are shorter: the provider's own is taken."""
    return {"type": "ephemeral"} if border else None


def _tool(tool: Document, where: str) -> Tool:
    kind = tool.get("type")
    if kind != "function":
        raise untranslated(f"{where}.type", f"{kind} runs at OpenAI; another API can be given functions only.")
    schema = tool.get("parameters")
    return Tool(
        fields.needed(tool, "name", f"{where}."),
        fields.text(tool, "description", f"{where}."),
        fields.mapping(schema, f"{where}.parameters") if schema is not None else None,
        fields.flag(tool, "strict"),
    )


def _tool_choice(choice: Any, tools: list[Tool]) -> tuple[ToolChoice | None, list[Tool]]:
    """The choice, and the tools that it leaves: `allowed_tools` is another way to give fewer."""
    if choice is None:
        return None, tools
    if isinstance(choice, str) and choice in _CHOICES:
        return ToolChoice(_CHOICES[choice]), tools  # type: ignore[arg-type]
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "function":
        return ToolChoice("tool", fields.needed(choice, "name", "tool_choice.")), tools
    if kind == "allowed_tools":
        allowed = fields.objects(choice.get("tools"), "tool_choice.tools")
        names = {fields.needed(one, "name", "tool_choice.tools.") for one in allowed}
        mode = ToolChoice("any" if choice.get("mode") == "required" else "auto")
        return mode, [tool for tool in tools if tool.name in names]
    raise bad("tool_choice", "must be auto, none, required, a function or allowed_tools.")


def _format(form: Document) -> Format | None:
    kind = form.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return Format("json")
    if kind != "json_schema":
        raise bad("text.format.type", "must be text, json_object or json_schema.")
    schema = fields.mapping(form.get("schema"), "text.format.schema")
    name = fields.text(form, "name", "text.format.") or "answer"
    return Format("schema", name, schema, fields.flag(form, "strict"), fields.text(form, "description", "text.format."))


def _reasoning(wish: Document) -> Reasoning | None:
    effort = fields.text(wish, "effort", "reasoning.")
    summary = fields.text(wish, "summary", "reasoning.") or fields.text(wish, "generate_summary", "reasoning.")
    if not (effort or summary):
        return None
    return Reasoning(False if effort == "none" else None, effort, None, summary)
