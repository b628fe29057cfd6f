"""Requests of OpenAI's Chat Completions API.

https://platform.openai.com/docs/api-reference/chat/create (read 2026-11), with the members that DeepSeek, OpenRouter
and vLLM add to it: `reasoning_content`, `reasoning_details`, `thinking`, `reasoning`, `cache_control`, `top_k`.
"""

from __future__ import annotations

from typing import Any

from gateway.protocols import answers, fields
from gateway.protocols.base import bad, unsupported
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
from gateway.protocols.chat.style import Style

_ROLES = ("system", "developer", "user", "assistant", "tool")
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_READ = frozenset({
    "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "max_tokens", "max_completion_tokens",
    "temperature", "top_p", "top_k", "stop", "n", "seed", "frequency_penalty", "presence_penalty", "logit_bias",
    "logprobs", "top_logprobs", "response_format", "reasoning_effort", "thinking", "reasoning", "service_tier",
    "user", "stream", "stream_options",
})  # fmt: skip


def read_request(document: Document) -> Request:
    """See `Inbound.read_request`."""
    max_tokens = fields.whole(document, "max_completion_tokens")
    return Request(
        messages=[_message(one, f"messages[{at}]") for at, one in enumerate(_messages(document))],
        tools=[_tool(one, f"tools[{at}]") for at, one in enumerate(fields.objects(document.get("tools"), "tools"))],
        tool_choice=_tool_choice(document.get("tool_choice")),
        parallel_tools=fields.flag(document, "parallel_tool_calls"),
        max_tokens=fields.whole(document, "max_tokens") if max_tokens is None else max_tokens,
        temperature=fields.number(document, "temperature"),
        top_p=fields.number(document, "top_p"),
        top_k=fields.whole(document, "top_k"),
        stop=fields.strings(document.get("stop"), "stop"),
        n=fields.whole(document, "n"),
        seed=fields.whole(document, "seed"),
        frequency_penalty=fields.number(document, "frequency_penalty"),
        presence_penalty=fields.number(document, "presence_penalty"),
        logit_bias=fields.mapping(document.get("logit_bias"), "logit_bias") or None,
        logprobs=fields.flag(document, "logprobs"),
        top_logprobs=fields.whole(document, "top_logprobs"),
        format=_format(fields.mapping(document.get("response_format"), "response_format")),
        reasoning=_reasoning(document),
        service_tier=fields.text(document, "service_tier"),
        user=fields.text(document, "user"),
        stream=document.get("stream") is True,
        include_usage=bool(fields.mapping(document.get("stream_options"), "stream_options").get("include_usage")),
        extra={name: value for name, value in document.items() if name not in _READ and value is not None},
    )


def _messages(document: Document) -> list[Document]:
    return fields.objects(document.get("messages"), "messages")


def _message(message: Document, where: str) -> Message:
    role = message.get("role")
    if role not in _ROLES:
        raise bad(f"{where}.role", f"must be one of {', '.join(_ROLES)}.")
    if role == "tool":
        blocks = [b for b in _parts(message.get("content"), f"{where}.content") if isinstance(b, Text | Media)]
        result = ToolResult(fields.needed(message, "tool_call_id", f"{where}."), blocks)
        return Message("tool", [result])
    parts: list[Block] = []
    if role == "assistant":
        parts += _thinking(message)
    parts += _parts(message.get("content"), f"{where}.content")
    if isinstance(message.get("refusal"), str):
        parts.append(Refusal(message["refusal"]))
    for at, call in enumerate(fields.objects(message.get("tool_calls"), f"{where}.tool_calls")):
        parts.append(_call(call, f"{where}.tool_calls[{at}]"))
    return Message(role, parts, fields.text(message, "name", f"{where}."))


def _thinking(message: Document) -> list[Block]:
    """Reasoning that an earlier answer had: with its proofs where `reasoning_details` came along."""
    details = message.get("reasoning_details")
    if isinstance(details, list) and details:
        return _joined([read_detail(one) for one in details if isinstance(one, dict)])
    said = message.get("reasoning_content") or message.get("reasoning")
    return [Thinking(said)] if isinstance(said, str) else []


def _joined(details: list[Thinking]) -> list[Block]:
    """Pieces of a stream put together: a block of reasoning ends with its signature."""
    blocks: list[Block] = []
    last: Thinking | None = None
    for one in details:
        if last is None or last.signature is not None or one.redacted is not None:
            blocks.append(one)
            last = one if one.redacted is None else None
        else:
            last.text += one.text
            last.signature = one.signature
    return blocks


def read_detail(detail: Document) -> Thinking:
    """One of OpenRouter's `reasoning_details`."""
    if detail.get("type") == "reasoning.encrypted":
        return Thinking(redacted=answers.text(detail, "data"), id=answers.said(detail, "id"))
    text = answers.text(detail, "text") or answers.text(detail, "summary")
    return Thinking(text, answers.said(detail, "signature"), id=answers.said(detail, "id"))


def _parts(content: Any, where: str) -> list[Block]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)] if content else []
    return [_part(part, f"{where}[{at}]") for at, part in enumerate(fields.objects(content, where))]


def _part(part: Document, where: str) -> Block:
    kind = part.get("type")
    cache = fields.cache(part, where)
    if kind == "text":
        return Text(fields.needed(part, "text", f"{where}."), cache=cache)
    if kind == "refusal":
        return Refusal(fields.needed(part, "refusal", f"{where}."))
    if kind == "image_url":
        image = fields.mapping(part.get("image_url"), f"{where}.image_url")
        url = fields.needed(image, "url", f"{where}.image_url.")
        return fields.media_of_url("image", url, detail=fields.text(image, "detail"), cache=cache)
    if kind == "input_audio":
        audio = fields.mapping(part.get("input_audio"), f"{where}.input_audio")
        form = fields.needed(audio, "format", f"{where}.input_audio.")
        return Media("audio", media_type=f"audio/{form}", data=fields.needed(audio, "data", f"{where}.input_audio."))
    if kind == "file":
        file = fields.mapping(part.get("file"), f"{where}.file")
        if isinstance(file.get("file_data"), str):
            return fields.media_of_url("file", file["file_data"], name=fields.text(file, "filename"), cache=cache)
        return Media("file", file_id=fields.needed(file, "file_id", f"{where}.file."), cache=cache)
    raise bad(f"{where}.type", "must be text, image_url, input_audio, file or refusal.")


def _call(call: Document, where: str) -> ToolCall:
    function = fields.mapping(call.get("function"), f"{where}.function")
    return ToolCall(
        fields.needed(call, "id", f"{where}."),
        fields.needed(function, "name", f"{where}.function."),
        fields.text(function, "arguments", f"{where}.function.") or "{}",
        signature_of(call),
    )


def signature_of(call: Document) -> str | None:
    """Gemini's proof of thought, where its OpenAI-compatible interface puts it."""
    google = answers.mapping(answers.mapping(call.get("extra_content")).get("google"))
    return answers.said(google, "thought_signature")


def _tool(tool: Document, where: str) -> Tool:
    if tool.get("type") != "function":
        raise bad(f"{where}.type", "must be function: other kinds of tools are not translated.")
    function = fields.mapping(tool.get("function"), f"{where}.function")
    schema = function.get("parameters")
    return Tool(
        fields.needed(function, "name", f"{where}.function."),
        fields.text(function, "description", f"{where}.function."),
        fields.mapping(schema, f"{where}.function.parameters") if schema is not None else None,
        fields.flag(function, "strict"),
        fields.cache(tool, where) or fields.cache(function, f"{where}.function"),
    )


def _tool_choice(choice: Any) -> ToolChoice | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in _CHOICES:
        return ToolChoice(_CHOICES[choice])  # type: ignore[arg-type]
    if isinstance(choice, dict) and choice.get("type") == "function":
        return ToolChoice("tool", fields.needed(fields.mapping(choice.get("function"), "tool_choice.function"), "name"))
    raise bad("tool_choice", "must be auto, none, required or a function.")


def _format(form: Document) -> Format | None:
    kind = form.get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return Format("json")
    if kind != "json_schema":
        raise bad("response_format.type", "must be text, json_object or json_schema.")
    spec = fields.mapping(form.get("json_schema"), "response_format.json_schema")
    schema = fields.mapping(spec.get("schema"), "response_format.json_schema.schema")
    name = fields.text(spec, "name") or "answer"
    return Format("schema", name, schema, fields.flag(spec, "strict"), fields.text(spec, "description"))


def _reasoning(document: Document) -> Reasoning | None:
    effort = fields.text(document, "reasoning_effort")
    thinking = fields.mapping(document.get("thinking"), "thinking")
    other = fields.mapping(document.get("reasoning"), "reasoning")
    effort = effort or fields.text(other, "effort")
    if not (effort or thinking or other):
        return None
    on: bool | None = None
    if effort == "none" or thinking.get("type") == "disabled" or other.get("enabled") is False:
        on = False
    elif thinking.get("type") in ("enabled", "adaptive") or other.get("enabled") is True:
        on = True
    budget = fields.whole(thinking, "budget_tokens")
    return Reasoning(on, effort, budget if budget is not None else fields.whole(other, "max_tokens"))


# --- written


def write_request(request: Request, model: str, style: Style) -> Document:
    """See `Outbound.write_request`."""
    unknown = [name for name in request.extra if name not in style.known]
    if unknown:
        raise unsupported(unknown[0], "chat completions")
    if request.format is not None and request.format.kind == "schema" and not style.schema:
        raise unsupported("response_format", "chat completions", "this provider offers JSON without a schema only")
    document: Document = {"model": model, "messages": [one for m in request.messages for one in _written(m, style)]}
    if request.tools:
        document["tools"] = [_written_tool(tool) for tool in request.tools]
    document |= fields.without_nones(
        tool_choice=_written_choice(request.tool_choice),
        parallel_tool_calls=request.parallel_tools if request.tools else None,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        stop=request.stop or None,
        n=request.n,
        seed=request.seed,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        logit_bias=request.logit_bias,
        logprobs=request.logprobs,
        top_logprobs=request.top_logprobs,
        response_format=_written_format(request.format),
        service_tier=request.service_tier,
        user=request.user,
    )
    if request.max_tokens is not None:
        document[style.max_tokens] = request.max_tokens
    if request.reasoning is not None:
        document |= style.reasoning(request.reasoning)
    if request.stream:
        document["stream"] = True
    return document | request.extra


def _written(message: Message, style: Style) -> list[Document]:
    """The messages that one becomes: each tool result is one of its own."""
    role = "system" if message.role == "developer" and not style.developer else message.role
    results = [block for block in message.blocks if isinstance(block, ToolResult)]
    made = [{"role": "tool", "tool_call_id": r.id, "content": _result(r)} for r in results]
    rest = [block for block in message.blocks if not isinstance(block, ToolResult)]
    if not rest or role == "tool":
        return made
    document: Document = {"role": role}
    if message.name is not None:
        document["name"] = message.name
    calls = [block for block in rest if isinstance(block, ToolCall)]
    document["content"] = _content([b for b in rest if isinstance(b, Text | Media)], message)
    if role == "assistant":
        refusal = "".join(block.text for block in rest if isinstance(block, Refusal))
        if refusal:
            document["refusal"] = refusal
        document |= _history([block for block in rest if isinstance(block, Thinking)], style)
    if calls:
        document["tool_calls"] = [written_call(call) for call in calls]
    return [*made, document]


def _result(result: ToolResult) -> Any:
    return _content(list(result.blocks), None) or ""


def _content(blocks: list[Text | Media], message: Message | None) -> Any:
    """A string if there is one plain text, else parts; None if there is nothing."""
    if not blocks:
        return None
    if all(isinstance(b, Text) and b.cache is None for b in blocks) and (message is None or len(blocks) == 1):
        return "".join(b.text for b in blocks if isinstance(b, Text))
    return [_written_part(block) for block in blocks]


def _written_part(block: Text | Media) -> Document:
    cache = {"cache_control": block.cache} if block.cache is not None else {}
    if isinstance(block, Text):
        return {"type": "text", "text": block.text, **cache}
    if block.kind == "audio":
        if block.data is None:
            raise unsupported("audio", "chat completions", "sound must be sent inline")
        return {
            "type": "input_audio",
            "input_audio": {"data": block.data, "format": (block.media_type or "audio/wav").partition("/")[2]},
        }
    url = fields.url_of_media(block)
    if block.kind == "image":
        if url is None:
            raise unsupported("image", "chat completions", "an image must be sent inline or by URL")
        return {"type": "image_url", "image_url": fields.without_nones(url=url, detail=block.detail), **cache}
    if block.file_id is not None:
        return {"type": "file", "file": {"file_id": block.file_id}, **cache}
    if block.data is None:
        raise unsupported("file", "chat completions", "a file must be sent inline or by id")
    return {"type": "file", "file": fields.without_nones(file_data=url, filename=block.name or "file"), **cache}


def _history(thinking: list[Thinking], style: Style) -> Document:
    if not thinking or not style.history:
        return {}
    if style.history == "reasoning_details":
        return {"reasoning_details": [written_detail(one, at) for at, one in enumerate(thinking)]}
    return {style.history: "".join(one.text for one in thinking)}


def written_detail(block: Thinking, index: int) -> Document:
    """One of OpenRouter's `reasoning_details`; pieces of a stream with the same index belong together."""
    if block.redacted is not None:
        return fields.without_nones(type="reasoning.encrypted", data=block.redacted, id=block.id, index=index)
    text = block.text or None if block.signature is not None else block.text
    return fields.without_nones(type="reasoning.text", text=text, signature=block.signature, id=block.id, index=index)


def written_call(call: ToolCall) -> Document:
    """A tool call as a message of the assistant holds it."""
    document: Document = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
    if call.signature is not None:
        document["extra_content"] = {"google": {"thought_signature": call.signature}}
    return document


def _written_tool(tool: Tool) -> Document:
    function = fields.without_nones(
        name=tool.name, description=tool.description, parameters=tool.schema, strict=tool.strict
    )
    cache = {"cache_control": tool.cache} if tool.cache is not None else {}
    return {"type": "function", "function": function, **cache}


def _written_choice(choice: ToolChoice | None) -> Any:
    if choice is None:
        return None
    if choice.mode == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return "required" if choice.mode == "any" else choice.mode


def _written_format(form: Format | None) -> Document | None:
    if form is None:
        return None
    if form.kind == "json":
        return {"type": "json_object"}
    spec = fields.without_nones(name=form.name, schema=form.schema, strict=form.strict, description=form.description)
    return {"type": "json_schema", "json_schema": spec}
