"""A vendor that speaks Anthropic's Messages API, and what arrived there.

https://docs.anthropic.com/en/api/messages, /messages-streaming, /errors (read 2026-11)
"""

from __future__ import annotations

import itertools
import json
from typing import Any, ClassVar

from tests.fakes.upstream import Seen
from tests.matrix.told import Asked, Said, Tokens

FINISH = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
KINDS = {400: "invalid_request_error", 429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"}


def usage(tokens: Tokens) -> dict[str, Any]:
    """Disjoint counts; thinking is part of the output."""
    return {
        "input_tokens": tokens.input,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": tokens.cached,
        "output_tokens": tokens.output + tokens.reasoning,
        "output_tokens_details": {"thinking_tokens": tokens.reasoning},
        "service_tier": "standard",
    }


def event(kind: str, **members: Any) -> bytes:
    """One event."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


class AnthropicVendor:
    """See `tests.matrix.vendors.Vendor`."""

    kind = "anthropic"
    base = "/v1"

    def whole(self, said: Said, model: str) -> bytes:
        content: list[dict[str, Any]] = []
        if said.reasoning:
            content.append({"type": "thinking", "thinking": said.reasoning, "signature": said.signature})
        if said.text:
            content.append({"type": "text", "text": said.text})
        content += [{"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments} for c in said.calls]
        message = self._message(model) | {
            "content": content, "stop_reason": FINISH[said.finish], "usage": usage(said.tokens),
        }  # fmt: skip
        return json.dumps(message).encode()

    def _message(self, model: str) -> dict[str, Any]:
        return {
            "id": "msg_01", "type": "message", "role": "assistant", "model": model, "content": [],
            "stop_reason": None, "stop_sequence": None,
        }  # fmt: skip

    def events(self, said: Said, model: str) -> list[bytes]:
        tokens = said.tokens
        first = usage(tokens) | {"output_tokens": 1, "output_tokens_details": {"thinking_tokens": 0}}
        events = [event("message_start", message=self._message(model) | {"usage": first}), event("ping")]
        index = 0

        def block(start: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
            nonlocal index
            events.append(event("content_block_start", index=index, content_block=start))
            events.extend(event("content_block_delta", index=index, delta=delta) for delta in deltas)
            events.append(event("content_block_stop", index=index))
            index += 1

        if said.reasoning:
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in said.pieces(said.reasoning)]
            signature = {"type": "signature_delta", "signature": said.signature}
            block({"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signature])
        if said.text:
            deltas = [{"type": "text_delta", "text": piece} for piece in said.pieces(said.text)]
            block({"type": "text", "text": ""}, deltas)
        for call in said.calls:
            pieces = said.pieces(json.dumps(call.arguments))
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces]]
            block({"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, deltas)
        last = {"output_tokens": tokens.output + tokens.reasoning}
        last_details = {"output_tokens_details": {"thinking_tokens": tokens.reasoning}}
        delta = {"stop_reason": FINISH[said.finish], "stop_sequence": None}
        return [*events, event("message_delta", delta=delta, usage=last | last_details), event("message_stop")]

    def error(self, status: int, message: str) -> bytes:
        error = {"type": KINDS.get(status, "api_error"), "message": message}
        return json.dumps({"type": "error", "error": error, "request_id": "req_01"}).encode()

    def asked(self, seen: Seen) -> Asked:
        body = seen.json
        self._check(seen)
        assert type(body["max_tokens"]) is int
        system = body.get("system", "")
        asked = Asked(stream=seen.stream)
        asked.system = system if isinstance(system, str) else "".join(part["text"] for part in system)
        roles = [message["role"] for message in body["messages"]]
        assert roles[0] == "user", "a conversation begins with the user"
        assert all(a != b for a, b in itertools.pairwise(roles)), "turns alternate"
        for message in body["messages"]:
            self._turn(message, asked)
        for tool in body.get("tools", ()):
            asked.tools[tool["name"]] = tool["input_schema"]
        choice = body.get("tool_choice", {})
        asked.forced = choice.get("name", "")
        form = body.get("output_config", {}).get("format")
        asked.schema = form["schema"] if form else None
        asked.thinking = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
        return asked

    def _check(self, seen: Seen) -> None:
        assert seen.header("anthropic-version") == "2023-06-01"
        assert seen.target == "/v1/messages"

    def _turn(self, message: dict[str, Any], asked: Asked) -> None:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        assert parts, "a turn is not empty"
        text = ""
        for part in parts:
            kind = part["type"]
            if kind == "text":
                assert part["text"], "a text is not empty"
                text += part["text"]
            elif kind == "image":
                source = part["source"]
                inline = f"data:{source.get('media_type')};base64,{source.get('data')}"
                asked.images.append(source["url"] if source["type"] == "url" else inline)
            elif kind == "tool_use":
                asked.calls[part["id"]] = (part["name"], part["input"])
            elif kind == "tool_result":
                inner = part["content"]
                asked.results[part["tool_use_id"]] = inner if isinstance(inner, str) else inner[0]["text"]
            elif kind == "thinking":
                asked.signature = part["signature"]
        if message["role"] == "user" and text:
            asked.texts.append(text)


class VertexClaudeVendor(AnthropicVendor):
    """The same at Google: the model and whether to stream stand in the URL, the version in the body.

    https://cloud.google.com/vertex-ai/generative-ai/docs/partner-models/claude/use-claude (read 2026-11)
    """

    kind = "vertex"
    base = "/v1/projects/p/locations/r"
    signed = True
    endpoint: ClassVar = {"options": {"publisher": "anthropic"}}

    def _check(self, seen: Seen) -> None:
        method = "streamRawPredict" if seen.stream else "rawPredict"
        assert seen.target == f"{self.base}/publishers/anthropic/models/{seen.model}:{method}", seen.target
        assert seen.header("anthropic-version") is None
        assert seen.json["anthropic_version"] == "vertex-2023-10-16"
        assert "model" not in seen.json
