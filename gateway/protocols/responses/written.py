"""Writes requests for OpenAI's Responses API; see `gateway.protocols.responses.request` for its sources.

The upstream keeps nothing (`store` is false unless the client wants it otherwise), so its reasoning travels with the
conversation: it is asked for in encrypted form and given back so. Cache borders are left out: it caches by itself, and
most of its models refuse `prompt_cache_breakpoint`.
"""

from __future__ import annotations

from typing import Any

from gateway.protocols import fields
from gateway.protocols.base import refuse_unknown, unsupported
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
from gateway.protocols.chat.style import effort_of
from gateway.protocols.hints import HINTS
from gateway.protocols.responses.request import LOGPROBS

DIALECT = "Responses"
KNOWN = HINTS | {
    "truncation", "max_tool_calls", "prompt", "moderation", "prompt_cache_options", "context_management", "verbosity",
}  # fmt: skip
"""Members beyond the common ones that it understands, or may leave out."""


def write_request(request: Request, model: str) -> Document:
    """See `Outbound.write_request`."""
    _refuse(request)
    more = refuse_unknown(request, DIALECT, KNOWN)
    more.pop("prediction", None)  # a hint of chat completions only
    verbosity = more.pop("verbosity", None)
    form = fields.without_nones(format=written_format(request.format), verbosity=verbosity)
    include = [LOGPROBS] if request.logprobs else []
    document: Document = {"model": model, "input": [one for m in request.messages for one in _items(m)], "store": False}
    if request.tools:
        document["tools"] = [written_tool(tool) for tool in request.tools]
        document |= fields.without_nones(
            tool_choice=written_choice(request.tool_choice), parallel_tool_calls=request.parallel_tools
        )
    document |= fields.without_nones(
        max_output_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_logprobs=request.top_logprobs if request.logprobs else None,
        text=form or None,
        service_tier=request.service_tier,
        user=request.user,
    )
    if request.reasoning is not None:
        document["reasoning"] = _reasoning(request.reasoning)
        if request.reasoning.enabled is not False:
            include.append("reasoning.encrypted_content")
    if include:
        document["include"] = include
    if request.stream:
        document["stream"] = True
    return document | more


def _refuse(request: Request) -> None:
    if request.n not in (None, 1):
        raise unsupported("n", DIALECT, "it gives one answer.")
    for name in ("stop", "seed", "top_k", "logit_bias", "frequency_penalty", "presence_penalty"):
        value = getattr(request, name)
        if value or (name in ("seed", "top_k") and value is not None):
            raise unsupported(name, DIALECT)


def _items(message: Message) -> list[Document]:
    """The items that a message becomes: text and media together, anything else by itself."""
    items: list[Document] = []
    for block in message.blocks:
        if isinstance(block, ToolResult):
            items.append({"type": "function_call_output", "call_id": block.id, "output": _output(block)})
        elif isinstance(block, ToolCall):
            call = {"type": "function_call", "call_id": block.id, "name": block.name, "arguments": block.arguments}
            items.append(call)
        elif isinstance(block, Thinking):
            items += _history(block)
        else:
            part = _part(block, message.role == "assistant")
            if not items or items[-1]["type"] != "message":
                items.append({"type": "message", "role": message.role, "content": []})
            items[-1]["content"].append(part)
    return items


def _history(block: Thinking) -> list[Document]:
    """Earlier reasoning, if it has OpenAI's proof: without that, the API takes none from a client."""
    proof = block.redacted if block.redacted is not None else block.signature
    if proof is None:
        return []
    summary = [{"type": "summary_text", "text": block.text}] if block.text else []
    return [fields.without_nones(type="reasoning", id=block.id, summary=summary, encrypted_content=proof)]


def _output(result: ToolResult) -> Any:
    if all(isinstance(block, Text) for block in result.blocks):
        return "".join(block.text for block in result.blocks if isinstance(block, Text))
    return [_part(block, False) for block in result.blocks]


def _part(block: Block, answer: bool) -> Document:
    if isinstance(block, Refusal):
        return {"type": "refusal", "refusal": block.text}
    if isinstance(block, Text):
        if answer:
            return {"type": "output_text", "text": block.text}
        return {"type": "input_text", "text": block.text}
    assert isinstance(block, Media)
    if answer:
        raise unsupported(block.kind, DIALECT, "an answer of the assistant holds text only.")
    return _media(block)


def _media(block: Media) -> Document:
    if block.kind == "audio":
        raise unsupported("audio", DIALECT, "it takes text, images and files.")
    url = fields.url_of_media(block)
    if block.kind == "image":
        image = fields.without_nones(image_url=url, file_id=block.file_id)
        return {"type": "input_image", **image, "detail": block.detail or "auto"}
    if block.data is not None:
        file = {"file_data": url, "filename": block.name or "file"}
    else:
        file = fields.without_nones(file_url=block.url, file_id=block.file_id)
    return {"type": "input_file", **file}


def written_tool(tool: Tool) -> Document:
    """A function; `strict` is said because its default here is true, and elsewhere false."""
    given = fields.without_nones(type="function", name=tool.name, description=tool.description)
    return {**given, "parameters": tool.schema, "strict": bool(tool.strict)}


def written_choice(choice: ToolChoice | None) -> Any:
    """`tool_choice`; None if nothing was said."""
    if choice is None:
        return None
    if choice.mode == "tool":
        return {"type": "function", "name": choice.name}
    return "required" if choice.mode == "any" else choice.mode


def written_format(form: Format | None) -> Document | None:
    """`text.format`; None if it is plain text."""
    if form is None:
        return None
    if form.kind == "json":
        return {"type": "json_object"}
    spec = fields.without_nones(schema=form.schema, strict=form.strict, description=form.description)
    return {"type": "json_schema", "name": form.name, **spec}


def _reasoning(wish: Reasoning) -> Document:
    """Effort by its word. Elsewhere, thinking that is turned on is shown: here that is what `summary` asks for."""
    if wish.enabled is False:
        return {"effort": "none"}
    wanted = wish.enabled is True or wish.budget is not None
    effort = wish.effort or (effort_of(wish.budget) if wanted else None)
    return fields.without_nones(effort=effort, summary=wish.summary or ("auto" if wanted else None))
