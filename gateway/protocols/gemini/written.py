"""Requests of Google's Gemini API, written; see `gateway.protocols.gemini.request` for its sources."""

from __future__ import annotations

from gateway.protocols import fields
from gateway.protocols.base import bad, refuse_unknown, unsupported
from gateway.protocols.canonical import (
    Block,
    Document,
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
from gateway.protocols.gemini.names import NO_PROOF, written_media
from gateway.protocols.hints import HINTS

DIALECT = "Gemini"
_KNOWN = frozenset({"safetySettings", "cachedContent", "labels"})
_TIERS = {"auto": None, "default": "standard", "standard": "standard", "flex": "flex", "priority": "priority"}
_MODES = {"auto": "AUTO", "none": "NONE", "any": "ANY", "tool": "ANY"}
_LEVELS = ("minimal", "low", "medium", "high", "xhigh")
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
"""What the words mean for models up to 2.5, which know budgets only: https://ai.google.dev/gemini-api/docs/openai."""


def write_request(request: Request, model: str) -> Document:
    """See `Outbound.write_request`; the model is in the path, not in the body."""
    _refuse(request)
    more = {name: value for name, value in refuse_unknown(request, DIALECT, _KNOWN | HINTS).items() if name in _KNOWN}
    document: Document = {"contents": _contents(request.messages)}
    if not _old(model):
        _prove(document["contents"])
    system = [
        {"text": block.text}
        for message in request.messages
        if message.role in ("system", "developer")
        for block in message.blocks
        if isinstance(block, Text)
    ]
    if system:
        document["systemInstruction"] = {"parts": system}
    if request.tools:
        document["tools"] = [{"functionDeclarations": [_tool(tool) for tool in request.tools]}]
        if request.tool_choice is not None:
            document["toolConfig"] = {"functionCallingConfig": _choice(request.tool_choice)}
    config = _config(request, model)
    if config:
        document["generationConfig"] = config
    tier = _TIERS[request.service_tier] if request.service_tier is not None else None
    return document | fields.without_nones(serviceTier=tier) | more


def _refuse(request: Request) -> None:
    if request.logit_bias:
        raise unsupported("logit_bias", DIALECT)
    if request.parallel_tools is False and request.tools:
        raise unsupported("parallel_tool_calls", DIALECT, "its models may always call several functions.")
    if request.service_tier is not None and request.service_tier not in _TIERS:
        raise unsupported("service_tier", DIALECT, f"it knows {', '.join(_TIERS)}.")


def _config(request: Request, model: str) -> Document:
    config = fields.without_nones(
        maxOutputTokens=request.max_tokens,
        temperature=request.temperature,
        topP=request.top_p,
        topK=request.top_k,
        stopSequences=request.stop or None,
        candidateCount=request.n if request.n != 1 else None,
        seed=request.seed,
        frequencyPenalty=request.frequency_penalty or None,
        presencePenalty=request.presence_penalty or None,
        responseLogprobs=request.logprobs or None,
        logprobs=request.top_logprobs if request.logprobs else None,
    )
    if request.format is not None:
        config["responseMimeType"] = "application/json"
        if request.format.schema is not None:
            config["responseJsonSchema"] = request.format.schema
    thinking = _thinking(request.reasoning, model) if request.reasoning is not None else {}
    return config | ({"thinkingConfig": thinking} if thinking else {})


def _thinking(wish: Reasoning, model: str) -> Document:
    """How to think. Elsewhere, thinking that is turned on is shown: here that is what `includeThoughts` asks for."""
    if wish.enabled is False or wish.effort == "none":
        return {"thinkingBudget": 0}
    made: Document = {}
    if wish.budget is not None:
        made["thinkingBudget"] = wish.budget
    elif wish.effort is not None:
        word = wish.effort if wish.effort in _LEVELS else "high"
        budget = _BUDGETS.get(word, 24576)
        made |= {"thinkingBudget": budget} if _old(model) else {"thinkingLevel": word.upper()}
    elif wish.enabled:
        made["thinkingBudget"] = -1
    if wish.summary not in (None, "none") or wish.enabled or wish.budget is not None:
        made["includeThoughts"] = True
    return made


def _old(model: str) -> bool:
    """It is before Gemini 3: it has no levels of thinking, and does not insist on signatures."""
    return "gemini-1" in model or "gemini-2" in model


def _prove(contents: list[Document]) -> None:
    """Sees to it that the first call of each turn has a signature, its own or the one that stands for none."""
    for content in contents:
        first = next((part for part in content["parts"] if "functionCall" in part), None)
        if first is not None:
            first.setdefault("thoughtSignature", NO_PROOF)


def _contents(messages: list[Message]) -> list[Document]:
    """The turns. Results of one turn's calls stand together, as the API wants it."""
    names: dict[str, str] = {}
    contents: list[Document] = []
    for message in messages:
        if message.role in ("system", "developer"):
            continue
        role = "model" if message.role == "assistant" else "user"
        results = [_result(block, names) for block in message.blocks if isinstance(block, ToolResult)]
        parts: list[Document] = []
        for block in message.blocks:
            if isinstance(block, ToolCall):
                names[block.id] = block.name
            if not isinstance(block, ToolResult):
                _part(block, parts)
        if results and contents and "functionResponse" in contents[-1]["parts"][-1]:
            contents[-1]["parts"] += results
        elif results:
            contents.append({"role": "user", "parts": results})
        if parts:
            contents.append({"role": role, "parts": parts})
    return contents


def _part(block: Block, parts: list[Document]) -> None:
    """Adds the part of a block; a signature alone belongs to the text before it."""
    if isinstance(block, Text | Refusal):
        parts.append({"text": block.text})
    elif isinstance(block, ToolCall):
        call = {"id": block.id, "name": block.name, "args": fields.arguments_of(block.arguments)}
        parts.append(fields.without_nones(functionCall=call, thoughtSignature=block.signature))
    elif isinstance(block, Thinking):
        if block.signature is None:  # without its proof, or redacted by another provider: it says nothing here
            return
        if block.text:
            parts.append({"text": block.text, "thought": True, "thoughtSignature": block.signature})
        elif parts and set(parts[-1]) == {"text"}:
            parts[-1]["thoughtSignature"] = block.signature
        else:
            parts.append({"text": "", "thoughtSignature": block.signature})
    else:
        assert not isinstance(block, ToolResult)
        media = written_media(block)
        if media is None:
            raise unsupported(block.kind, DIALECT, "a file that another provider keeps cannot be read there.")
        parts.append(media)


def _result(result: ToolResult, names: dict[str, str]) -> Document:
    name = names.get(result.id) or result.name
    if name is None:
        raise bad("messages", f"hold a result of the tool call {result.id}, which is not among them.")
    text = "".join(block.text for block in result.blocks if isinstance(block, Text))
    parts: list[Document] = []
    for block in result.blocks:
        if not isinstance(block, Text):
            _part(block, parts)
    response = {"error" if result.failed else "output": text}
    return {
        "functionResponse": {"id": result.id, "name": name, "response": response, **({"parts": parts} if parts else {})}
    }


def _tool(tool: Tool) -> Document:
    return fields.without_nones(name=tool.name, description=tool.description, parametersJsonSchema=tool.schema)


def _choice(choice: ToolChoice) -> Document:
    names = [choice.name] if choice.mode == "tool" else None
    return fields.without_nones(mode=_MODES[choice.mode], allowedFunctionNames=names)
