"""Requests of AWS Bedrock's Converse API, written.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html (read 2026-11) and the service model
of the `botocore` package. The model is in the path; blobs are base64 in JSON.
"""

from __future__ import annotations

import re

import orjson

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
    ToolResult,
)  # fmt: skip
from gateway.protocols.hints import HINTS

DIALECT = "Converse"
_KNOWN = frozenset({
    "guardrailConfig", "additionalModelRequestFields", "additionalModelResponseFieldPaths", "performanceConfig",
    "promptVariables", "requestMetadata",
})  # fmt: skip
_TIERS = ("default", "priority", "flex", "reserved")
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_SOUNDS = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/x-wav": "wav", "audio/wave": "wav"}
_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_DOCUMENTS = {
    "application/pdf": "pdf", "text/csv": "csv", "application/msword": "doc", _WORD: "docx", _SHEET: "xlsx",
    "application/vnd.ms-excel": "xls", "text/html": "html", "text/plain": "txt", "text/markdown": "md",
}  # fmt: skip


def write_request(request: Request, model: str) -> Document:
    """See `Outbound.write_request`; the model is in the path, not in the body."""
    _refuse(request)
    more = {name: value for name, value in refuse_unknown(request, DIALECT, _KNOWN | HINTS).items() if name in _KNOWN}
    document: Document = {"messages": _messages(request.messages)}
    system = [
        part
        for message in request.messages
        if message.role in ("system", "developer")
        for block in message.blocks
        for part in _part(block)
    ]
    if system:
        document["system"] = system
    config = fields.without_nones(
        maxTokens=request.max_tokens,
        temperature=request.temperature,
        topP=request.top_p,
        stopSequences=request.stop or None,
    )
    if config:
        document["inferenceConfig"] = config
    document |= fields.without_nones(toolConfig=_tools(request), outputConfig=_output(request))
    if request.service_tier not in (None, "auto"):
        document["serviceTier"] = {"type": request.service_tier}
    special = _special(request, model)
    if special:
        more["additionalModelRequestFields"] = {**special, **(more.get("additionalModelRequestFields") or {})}
    return document | more


def _refuse(request: Request) -> None:
    if request.n not in (None, 1):
        raise unsupported("n", DIALECT, "it gives one answer.")
    for name in ("logprobs", "logit_bias", "frequency_penalty", "presence_penalty"):
        if getattr(request, name):
            raise unsupported(name, DIALECT)
    if request.seed is not None:
        raise unsupported("seed", DIALECT)
    if request.parallel_tools is False and request.tools:
        raise unsupported("parallel_tool_calls", DIALECT, "its models may always call several tools.")
    if request.service_tier not in (None, "auto", *_TIERS):
        raise unsupported("service_tier", DIALECT, f"it knows {', '.join(_TIERS)}.")


def _special(request: Request, model: str) -> Document:
    """What the API leaves to each model: Claude's own members are known."""
    wish = request.reasoning
    thinks = wish is not None and (wish.budget is not None or wish.enabled is not None or wish.effort == "none")
    if request.top_k is None and not thinks:
        return {}
    if "anthropic" not in model:
        if request.top_k is not None:
            raise unsupported("top_k", DIALECT, "each model has a name of its own for it.")
        if wish is not None and wish.budget is not None:
            raise unsupported("reasoning", DIALECT, "each model has a name of its own for a budget of thinking.")
        return {}
    return fields.without_nones(top_k=request.top_k, thinking=_thinking(wish) if wish is not None and thinks else None)


def _thinking(wish: Reasoning) -> Document:
    if wish.enabled is False or wish.effort == "none":
        return {"type": "disabled"}
    return {"type": "adaptive"} if wish.budget is None else {"type": "enabled", "budget_tokens": wish.budget}


def _output(request: Request) -> Document | None:
    """The form of the answer, and how much effort it is worth."""
    made: Document = {}
    if request.format is not None:
        made["textFormat"] = _format(request.format)
    wish = request.reasoning
    if wish is not None and wish.enabled is not False and wish.effort not in (None, "none"):
        made["effort"] = wish.effort
    return made or None


def _format(form: Format) -> Document:
    if form.schema is None:
        raise unsupported("response_format", DIALECT, "JSON needs a schema there.")
    schema = orjson.dumps(form.schema).decode()
    spec = fields.without_nones(schema=schema, name=form.name, description=form.description)
    return {"type": "json_schema", "structure": {"jsonSchema": spec}}


def _tools(request: Request) -> Document | None:
    choice = request.tool_choice
    if not request.tools:
        return None
    if choice is not None and choice.mode == "none":
        if any(isinstance(block, ToolCall | ToolResult) for message in request.messages for block in message.blocks):
            raise unsupported("tool_choice", DIALECT, "tools that were called before must be given, and may be called.")
        return None
    tools = [one for tool in request.tools for one in [_tool(tool), *_border(tool.cache)]]
    if choice is None:
        return {"tools": tools}
    return {"tools": tools, "toolChoice": {choice.mode: {"name": choice.name} if choice.mode == "tool" else {}}}


def _tool(tool: Tool) -> Document:
    schema = {"json": tool.schema or {"type": "object", "properties": {}}}
    spec = fields.without_nones(name=tool.name, description=tool.description or None, strict=tool.strict)
    return {"toolSpec": {**spec, "inputSchema": schema}}


def _messages(messages: list[Message]) -> list[Document]:
    """The turns, in which user and assistant alternate: results of tools belong to the user's."""
    turns: list[Document] = []
    for message in messages:
        if message.role in ("system", "developer"):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        content = [part for block in message.blocks for part in _part(block)]
        if content and turns and turns[-1]["role"] == role:
            turns[-1]["content"] += content
        elif content:
            turns.append({"role": role, "content": content})
    return turns


def _part(block: Block) -> list[Document]:
    """The parts that a block becomes: a cache border is one of its own; blank text is refused there, and left out."""
    if isinstance(block, Refusal):
        return [{"text": block.text}]
    if isinstance(block, Thinking):
        return _history(block)
    if isinstance(block, Text):
        return [*([{"text": block.text}] if block.text.strip() else []), *_border(block.cache)]
    if isinstance(block, ToolCall):
        use = {"toolUseId": block.id, "name": block.name, "input": fields.arguments_of(block.arguments)}
        return [{"toolUse": use}, *_border(block.cache)]
    if isinstance(block, ToolResult):
        content = [part for inner in block.blocks for part in _part(inner) if "cachePoint" not in part]
        status = "error" if block.failed else "success"
        return [{"toolResult": {"toolUseId": block.id, "content": content, "status": status}}, *_border(block.cache)]
    return [_media(block), *_border(block.cache)]


def _history(block: Thinking) -> list[Document]:
    """Earlier reasoning with its proof; without one, no model takes it back."""
    if block.redacted is not None:
        return [{"reasoningContent": {"redactedContent": block.redacted}}]
    if block.signature is None:
        return []
    return [{"reasoningContent": {"reasoningText": {"text": block.text, "signature": block.signature}}}]


def _border(cache: Document | None) -> list[Document]:
    if cache is None:
        return []
    return [{"cachePoint": fields.without_nones(type="default", ttl=cache.get("ttl"))}]


def _media(media: Media) -> Document:
    kind = (media.media_type or "").partition(";")[0].lower()
    if media.kind == "image":
        form = _IMAGES.get(kind or "image/jpeg")
        if form is None:
            raise unsupported("image", DIALECT, f"it takes {', '.join(sorted(set(_IMAGES.values())))}.")
        return {"image": {"format": form, "source": _source(media)}}
    if media.kind == "audio":
        return {"audio": {"format": _SOUNDS.get(kind, kind.partition("/")[2] or "wav"), "source": _source(media)}}
    if kind.startswith("video/"):
        return {"video": {"format": kind.partition("/")[2], "source": _source(media)}}
    name = re.sub(r"[^A-Za-z0-9()\[\] -]+|(?<= ) +", " ", media.name or "").strip() or "file"
    return {"document": {"format": _DOCUMENTS.get(kind, "pdf"), "name": name[:200], "source": _source(media)}}


def _source(media: Media) -> Document:
    if media.data is not None:
        return {"bytes": media.data}
    if media.url is not None and media.url.startswith("s3://"):
        return {"s3Location": {"uri": media.url}}
    raise unsupported(media.kind, DIALECT, "it must be sent inline or lie in S3.")
