"""A vendor that speaks Cohere's Chat API, version 2, and what arrived there.

https://docs.cohere.com/reference/chat and /chat-stream (read 2026-11)
"""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.upstream import Seen
from tests.matrix.told import Asked, Said, Tokens

FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}


def usage(tokens: Tokens) -> dict[str, Any]:
    """Tokens as billed and as counted; neither tells reasoning from output."""
    counted = {"input_tokens": tokens.input + tokens.cached, "output_tokens": tokens.output + tokens.reasoning}
    return {"billed_units": counted, "tokens": counted, "cached_tokens": tokens.cached}


class CohereVendor:
    """See `tests.matrix.vendors.Vendor`."""

    kind = "cohere"
    base = "/v2"
    calls_alone = hides_reasoning_tokens = True

    def whole(self, said: Said, model: str) -> bytes:
        message: dict[str, Any] = {"role": "assistant"}
        thought = [{"type": "thinking", "thinking": said.reasoning}] if said.reasoning else []
        text = [{"type": "text", "text": said.text}] if said.text and not said.calls else []
        if thought or text:
            message["content"] = thought + text
        if said.calls:
            message["tool_plan"] = said.text
            message["tool_calls"] = [
                {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": json.dumps(c.arguments)}}
                for c in said.calls
            ]
        reply = {"id": "c-1", "finish_reason": FINISH[said.finish], "message": message, "usage": usage(said.tokens)}
        return json.dumps(reply).encode()

    def events(self, said: Said, model: str) -> list[bytes]:
        events: list[bytes] = []

        def tell(kind: str, **members: Any) -> None:
            events.append(f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode())

        def message(**members: Any) -> dict[str, Any]:
            return {"message": members}

        tell("message-start", id="c-1", delta=message(role="assistant", content=[]))
        at = 0
        for kind, member, whole in (("thinking", "thinking", said.reasoning), ("text", "text", said.text)):
            if not whole or (kind == "text" and said.calls):
                continue
            tell("content-start", index=at, delta=message(content={"type": kind, member: ""}))
            for piece in said.pieces(whole):
                tell("content-delta", index=at, delta=message(content={member: piece}))
            tell("content-end", index=at)
            at += 1
        if said.calls:
            for piece in said.pieces(said.text):
                tell("tool-plan-delta", delta=message(tool_plan=piece))
        for i, call in enumerate(said.calls):
            function = {"name": call.name, "arguments": ""}
            tell("tool-call-start", index=i, delta=message(
                tool_calls={"id": call.id, "type": "function", "function": function}
            ))  # fmt: skip
            for piece in said.pieces(json.dumps(call.arguments)):
                tell("tool-call-delta", index=i, delta=message(tool_calls={"function": {"arguments": piece}}))
            tell("tool-call-end", index=i)
        tell("message-end", delta={"finish_reason": FINISH[said.finish], "usage": usage(said.tokens)})
        return events

    def error(self, status: int, message: str) -> bytes:
        return json.dumps({"id": "e-1", "message": message}).encode()

    def asked(self, seen: Seen) -> Asked:
        body = seen.json
        assert seen.target == "/v2/chat"
        asked = Asked(stream=seen.stream)
        for message in body["messages"]:
            content = message.get("content") or []
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            text = "".join(self._text(part) for part in parts)
            if message["role"] == "system":
                asked.system += text
            elif message["role"] == "user":
                asked.texts.append(text)
                asked.images += [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
            elif message["role"] == "tool":
                asked.results[message["tool_call_id"]] = text
            for call in message.get("tool_calls", ()):
                asked.calls[call["id"]] = (call["function"]["name"], json.loads(call["function"]["arguments"]))
        for tool in body.get("tools", ()):
            asked.tools[tool["function"]["name"]] = tool["function"]["parameters"]
        if body.get("tool_choice") == "REQUIRED" and len(asked.tools) == 1:  # it cannot name one: there is only one
            [asked.forced] = asked.tools
        form = body.get("response_format")
        asked.schema = form["json_schema"] if form else None
        asked.thinking = body.get("thinking", {}).get("type") == "enabled"
        return asked

    def _text(self, part: dict[str, Any]) -> str:
        if part["type"] == "document":
            data = part["document"]["data"]
            return data if isinstance(data, str) else str(next(iter(data.values())))
        return str(part.get("text", ""))
