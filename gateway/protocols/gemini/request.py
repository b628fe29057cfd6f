"""Requests of Google's Gemini API, read: the same at AI Studio and Vertex AI, in camelCase or snake_case.

https://ai.google.dev/api/generate-content (read 2026-11) and the types of the `google-genai` package. The model and
whether to stream are in the path: who knows that sets `stream`.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.errors import GatewayError
from gateway.protocols import fields
from gateway.protocols.base import bad
from gateway.protocols.canonical import (
    Block,
    Document,
    Format,
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
from gateway.protocols.gemini.names import NO_PROOF, camel, json_schema, media_of, unsealed

_READ = frozenset({
    "model", "stream", "contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "serviceTier",
})  # fmt: skip
_READ_CONFIG = frozenset({
    "maxOutputTokens", "temperature", "topP", "topK", "stopSequences", "candidateCount", "seed", "frequencyPenalty",
    "presencePenalty", "responseLogprobs", "logprobs", "responseMimeType", "responseSchema", "responseJsonSchema",
    "thinkingConfig",
})  # fmt: skip
_CONFIG = "generationConfig."


def read_request(document: Document) -> Request:
    """See `Inbound.read_request`."""
    document = camel(document)
    config = camel(fields.mapping(document.get("generationConfig"), "generationConfig"))
    extra = {name: value for name, value in document.items() if name not in _READ and value is not None}
    for name, value in config.items():
        if name not in _READ_CONFIG and value is not None and (name, value) != ("responseModalities", ["TEXT"]):
            extra[_CONFIG + name] = value
    choice, tools = _tool_choice(document, _tools(document))
    top = fields.whole(config, "logprobs", _CONFIG)
    tier = fields.text(document, "serviceTier")
    return Request(
        messages=_messages(document),
        tools=tools,
        tool_choice=choice,
        max_tokens=fields.whole(config, "maxOutputTokens", _CONFIG),
        temperature=fields.number(config, "temperature", _CONFIG),
        top_p=fields.number(config, "topP", _CONFIG),
        top_k=_top_k(config),
        stop=fields.strings(config.get("stopSequences"), _CONFIG + "stopSequences"),
        n=fields.whole(config, "candidateCount", _CONFIG),
        seed=fields.whole(config, "seed", _CONFIG),
        frequency_penalty=fields.number(config, "frequencyPenalty", _CONFIG),
        presence_penalty=fields.number(config, "presencePenalty", _CONFIG),
        logprobs=fields.flag(config, "responseLogprobs", _CONFIG),
        top_logprobs=top,
        format=_format(config),
        reasoning=_reasoning(config),
        service_tier="default" if tier is not None and tier.lower() == "standard" else tier and tier.lower(),
        stream=document.get("stream") is True,
        include_usage=True,
        extra=extra,
    )


def _top_k(config: Document) -> int | None:
    """Written as a floating-point number by Google's own clients."""
    value = fields.number(config, "topK", _CONFIG)
    if value is not None and value != int(value):
        raise bad(_CONFIG + "topK", "must be a whole number.")
    return None if value is None else int(value)


def _messages(document: Document) -> list[Message]:
    messages: list[Message] = []
    system = document.get("systemInstruction")
    if isinstance(system, str):
        messages.append(Message("system", [Text(system)]))
    elif system is not None:
        content = {**fields.mapping(system, "systemInstruction"), "role": "system"}
        messages += _Contents().content(content, "systemInstruction")
    reader = _Contents()
    contents = document.get("contents")
    if isinstance(contents, str):
        return [*messages, Message("user", [Text(contents)])]
    if isinstance(contents, dict):
        contents = [contents]
    for at, content in enumerate(fields.objects(contents, "contents")):
        messages += reader.content(content, f"contents[{at}]")
    return messages


class _Contents:
    """Reads contents in order. Calls and results without ids belong together by name and order: they get ids here."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: list[tuple[str, str]] = []
        """(id, name) of the calls that have no result yet."""

    def content(self, content: Document, where: str) -> list[Message]:
        """The messages of one content: results of tools are one of their own."""
        role = content.get("role", "user")
        if role not in ("user", "model", "system", "function", "tool"):
            raise bad(f"{where}.role", "must be user or model.")
        parts = fields.objects(content.get("parts"), f"{where}.parts")
        messages: list[Message] = []
        for at, part in enumerate(parts):
            blocks = self._part(camel(part), f"{where}.parts[{at}]")
            result = any(isinstance(block, ToolResult) for block in blocks)
            kind: Any = "tool" if result else {"model": "assistant", "system": "system"}.get(role, "user")
            if not messages or messages[-1].role != kind:
                messages.append(Message(kind, []))
            messages[-1].blocks += blocks
        return messages

    def _part(self, part: Document, where: str) -> list[Block]:
        if part.get("functionCall") is not None:
            return [self._call(part, where)]
        if part.get("functionResponse") is not None:
            return [self._result(part, where)]
        media = media_of(part)
        if media is not None:
            return [media]
        text = fields.text(part, "text", f"{where}.")
        signature = fields.text(part, "thoughtSignature", f"{where}.")
        if text is None and signature is None:
            kinds = "text, inlineData, fileData, functionCall or functionResponse"
            raise GatewayError(
                "caller_unsupported", f"`{where}` must hold {kinds}: others are not translated.", param=where
            )
        return blocks_of(text or "", part.get("thought") is True, signature)

    def _call(self, part: Document, where: str) -> ToolCall:
        call = fields.mapping(part["functionCall"], f"{where}.functionCall")
        name = fields.needed(call, "name", f"{where}.functionCall.")
        arguments = fields.mapping(call.get("args"), f"{where}.functionCall.args")
        identity = fields.text(call, "id", f"{where}.functionCall.") or f"call_{self._count}"
        self._count += 1
        self._waiting.append((identity, name))
        signature = fields.text(part, "thoughtSignature", f"{where}.")
        proof = unsealed(signature).signature if signature is not None and signature != NO_PROOF else None
        return ToolCall(identity, name, orjson.dumps(arguments).decode(), proof)

    def _result(self, part: Document, where: str) -> ToolResult:
        result = fields.mapping(part["functionResponse"], f"{where}.functionResponse")
        name = fields.needed(result, "name", f"{where}.functionResponse.")
        identity = fields.text(result, "id", f"{where}.functionResponse.")
        found = next((one for one in self._waiting if one[0] == identity or (not identity and one[1] == name)), None)
        if found is None:
            raise bad(f"{where}.functionResponse", f"answers no call of {name} before it.")
        self._waiting.remove(found)
        answer = fields.mapping(result.get("response"), f"{where}.functionResponse.response")
        failed = set(answer) == {"error"}
        said = next(iter(answer.values())) if failed or set(answer) in ({"output"}, {"result"}) else answer
        text = said if isinstance(said, str) else orjson.dumps(said).decode()
        media = [media_of(camel(one)) for one in fields.objects(result.get("parts"), f"{where}.functionResponse.parts")]
        return ToolResult(found[0], [Text(text), *(one for one in media if one is not None)], name, failed)


def blocks_of(text: str, thought: bool, signature: str | None) -> list[Block]:
    """A part of text. The signature of an ordinary one is a thought that is not shown, behind it."""
    proof = Thinking() if signature is None else unsealed(signature)
    if thought:
        return [Thinking(text, proof.signature)] if proof.redacted is None else [proof]
    return [*([Text(text)] if text else []), *([proof] if signature is not None else [])]


def _tools(document: Document) -> list[Tool]:
    tools: list[Tool] = []
    for at, tool in enumerate(fields.objects(document.get("tools"), "tools")):
        for name, value in camel(tool).items():
            where = f"tools[{at}].{name}"
            if name != "functionDeclarations":
                text = f"`{where}` cannot be translated for this model: it runs at Google."
                raise GatewayError("caller_unsupported", text, param=where)
            tools += [_tool(camel(one), f"{where}[{n}]") for n, one in enumerate(fields.objects(value, where))]
    return tools


def _tool(tool: Document, where: str) -> Tool:
    schema = tool.get("parametersJsonSchema")
    if schema is None and tool.get("parameters") is not None:
        schema = json_schema(fields.mapping(tool["parameters"], f"{where}.parameters"))
    return Tool(
        fields.needed(tool, "name", f"{where}."),
        fields.text(tool, "description", f"{where}."),
        fields.mapping(schema, f"{where}.parametersJsonSchema") if schema is not None else None,
    )


def _tool_choice(document: Document, tools: list[Tool]) -> tuple[ToolChoice | None, list[Tool]]:
    """The choice, and the tools that it leaves."""
    outer = camel(fields.mapping(document.get("toolConfig"), "toolConfig"))
    where = "toolConfig.functionCallingConfig"
    config = camel(fields.mapping(outer.get("functionCallingConfig"), where))
    mode = (fields.text(config, "mode", where + ".") or "MODE_UNSPECIFIED").upper()
    names = fields.strings(config.get("allowedFunctionNames"), f"{where}.allowedFunctionNames")
    if mode == "ANY" and len(names) == 1:
        return ToolChoice("tool", names[0]), tools
    left = [tool for tool in tools if not names or tool.name in names]
    if mode == "MODE_UNSPECIFIED":
        return None, left
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED"):
        raise bad(f"{where}.mode", "must be AUTO, ANY, NONE or VALIDATED.")
    return ToolChoice("any" if mode == "ANY" else "none" if mode == "NONE" else "auto"), left


def _format(config: Document) -> Format | None:
    schema = config.get("responseJsonSchema")
    if schema is None and config.get("responseSchema") is not None:
        schema = json_schema(fields.mapping(config["responseSchema"], _CONFIG + "responseSchema"))
    kind = fields.text(config, "responseMimeType", _CONFIG) or "text/plain"
    if kind == "text/plain":
        return None
    if kind != "application/json":
        raise bad(_CONFIG + "responseMimeType", "must be text/plain or application/json.")
    if schema is None:
        return Format("json")
    return Format("schema", schema=fields.mapping(schema, _CONFIG + "responseJsonSchema"))


def _reasoning(config: Document) -> Reasoning | None:
    where = _CONFIG + "thinkingConfig"
    wish = camel(fields.mapping(config.get("thinkingConfig"), where))
    if not wish:
        return None
    budget = fields.whole(wish, "thinkingBudget", where + ".")
    level = fields.text(wish, "thinkingLevel", where + ".")
    enabled = {0: False, -1: True}.get(budget) if budget is not None else None
    summary = "auto" if fields.flag(wish, "includeThoughts", where + ".") else None
    return Reasoning(enabled, level and level.lower(), budget if budget is not None and budget > 0 else None, summary)
