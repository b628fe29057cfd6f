"""A vendor that speaks OpenAI's chat completions, and what arrived there."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from tests.fakes.upstream import Seen
from tests.fakes.wire import DONE, event
from tests.matrix.told import Asked, Said, Tokens

FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


def usage(tokens: Tokens) -> dict[str, Any]:
    """OpenAI's usage object."""
    prompt, completion = tokens.input + tokens.cached, tokens.output + tokens.reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    }


class OpenAIVendor:
    """See `tests.matrix.vendors.Vendor`."""

    def __init__(self, kind: str = "openai", reasoning: str = "reasoning_content") -> None:
        self.kind = kind
        self.base = "/v1"
        self._reasoning = reasoning

    def whole(self, said: Said, model: str) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
        if said.reasoning:
            message[self._reasoning] = said.reasoning
        if said.calls:
            message["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
                for c in said.calls
            ]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISH[said.finish]}
        envelope = {"id": "chatcmpl-Ab", "object": "chat.completion", "created": 1_730_000_000, "model": model}
        return json.dumps({**envelope, "choices": [choice], "usage": usage(said.tokens)}).encode()

    def events(self, said: Said, model: str) -> list[bytes]:
        envelope = {"id": "chatcmpl-Ab", "object": "chat.completion.chunk", "created": 1_730_000_000, "model": model}

        def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
            return event({**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        events = [chunk({"role": "assistant", "content": ""})]
        events += [chunk({self._reasoning: piece}) for piece in said.pieces(said.reasoning)]
        events += [chunk({"content": piece}) for piece in said.pieces(said.text)]
        for i, call in enumerate(said.calls):
            function = {"name": call.name, "arguments": ""}
            events.append(
                chunk({"tool_calls": [{"index": i, "id": call.id, "type": "function", "function": function}]})
            )
            for piece in said.pieces(json.dumps(call.arguments)):
                events.append(chunk({"tool_calls": [{"index": i, "function": {"arguments": piece}}]}))
        events.append(chunk({}, FINISH[said.finish]))
        return [*events, event({**envelope, "choices": [], "usage": usage(said.tokens)}), DONE]

    def error(self, status: int, message: str) -> bytes:
        return json.dumps({"error": {"message": message, "type": "server_error", "code": None, "param": None}}).encode()

    def asked(self, seen: Seen) -> Asked:
        body = seen.json
        asked = Asked(stream=seen.stream)
        for message in body["messages"]:
            self._message(message, asked)
        for tool in body.get("tools", ()):
            asked.tools[tool["function"]["name"]] = tool["function"]["parameters"]
        choice = body.get("tool_choice")
        asked.forced = choice["function"]["name"] if isinstance(choice, dict) else ""
        form = body.get("response_format")
        asked.schema = form["json_schema"]["schema"] if form else None
        template = body.get("chat_template_kwargs", {})
        switches = (body.get("thinking", {}).get("type") == "enabled", body.get("enable_thinking"), template)
        asked.thinking = bool(body.get("reasoning_effort") or any(switches))
        return asked

    def _message(self, message: dict[str, Any], asked: Asked) -> None:
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        text = "".join(part["text"] for part in parts if part["type"] == "text")
        if message["role"] in ("system", "developer"):
            asked.system += text
        elif message["role"] == "user":
            asked.texts.append(text)
            asked.images += [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        elif message["role"] == "tool":
            asked.results[message["tool_call_id"]] = text
        for call in message.get("tool_calls") or ():
            function = call["function"]
            asked.calls[call["id"]] = (function["name"], json.loads(function["arguments"]))


class AzureVendor(OpenAIVendor):
    """The deployment in the path, a version in the query, the key in a header of its own."""

    endpoint: ClassVar = {"options": {"api_version": "2024-10-21"}}

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.base = ""

    def asked(self, seen: Seen) -> Asked:
        path = f"/openai/deployments/{seen.model}/chat/completions?api-version=2024-10-21"
        assert seen.target == path, seen.target
        assert seen.header("api-key"), seen.headers
        return super().asked(seen)


class OpenRouterVendor(OpenAIVendor):
    """Reasoning with its proofs, in `reasoning` and `reasoning_details`."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind, reasoning="reasoning")

    def asked(self, seen: Seen) -> Asked:
        asked = super().asked(seen)
        asked.thinking = asked.thinking or bool(seen.json.get("reasoning"))
        return asked
