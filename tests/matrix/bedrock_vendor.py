"""A vendor that speaks AWS Bedrock's Converse API, checks signatures, and what arrived there.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html, …_ConverseStream.html and
https://docs.aws.amazon.com/transcribe/latest/dg/event-stream.html (read 2026-11)
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tests.fakes.upstream import Seen
from tests.matrix.told import Asked, Said, Tokens

FINISH = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
ERRORS = {400: "ValidationException", 429: "ThrottlingException", 500: "InternalServerException"}


def usage(tokens: Tokens) -> dict[str, Any]:
    """Disjoint counts; it does not tell reasoning from output."""
    made = tokens.output + tokens.reasoning
    return {
        "inputTokens": tokens.input,
        "outputTokens": made,
        "totalTokens": tokens.input + tokens.cached + made,
        "cacheReadInputTokens": tokens.cached,
        "cacheWriteInputTokens": 0,
    }


def frame(kind: str, payload: dict[str, Any]) -> bytes:
    """One message of the binary event stream."""
    headers = b""
    for name, value in ((":event-type", kind), (":content-type", "application/json"), (":message-type", "event")):
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    body = json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack(">I", zlib.crc32(message))


class BedrockVendor:
    """See `tests.matrix.vendors.Vendor`."""

    kind = "bedrock"
    base = ""
    prefix = "anthropic."
    inline_only = hides_reasoning_tokens = True
    media_type = "application/vnd.amazon.eventstream"
    key = "AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    endpoint: ClassVar = {"options": {"region": "us-east-1"}}

    def whole(self, said: Said, model: str) -> bytes:
        content: list[dict[str, Any]] = []
        if said.reasoning:
            thought = {"text": said.reasoning, "signature": said.signature}
            content.append({"reasoningContent": {"reasoningText": thought}})
        if said.text:
            content.append({"text": said.text})
        content += [{"toolUse": {"toolUseId": c.id, "name": c.name, "input": c.arguments}} for c in said.calls]
        message = {"role": "assistant", "content": content}
        counts = {"usage": usage(said.tokens), "metrics": {"latencyMs": 1}}
        return json.dumps({"output": {"message": message}, "stopReason": FINISH[said.finish], **counts}).encode()

    def events(self, said: Said, model: str) -> list[bytes]:
        events = [frame("messageStart", {"role": "assistant"})]
        at = 0

        def block(start: dict[str, Any] | None, deltas: list[dict[str, Any]]) -> None:
            nonlocal at
            if start is not None:
                events.append(frame("contentBlockStart", {"contentBlockIndex": at, "start": start}))
            events.extend(frame("contentBlockDelta", {"contentBlockIndex": at, "delta": delta}) for delta in deltas)
            events.append(frame("contentBlockStop", {"contentBlockIndex": at}))
            at += 1

        if said.reasoning:
            deltas = [{"reasoningContent": {"text": piece}} for piece in said.pieces(said.reasoning)]
            block(None, [*deltas, {"reasoningContent": {"signature": said.signature}}])
        if said.text:
            block(None, [{"text": piece} for piece in said.pieces(said.text)])
        for call in said.calls:
            pieces = said.pieces(json.dumps(call.arguments))
            block({"toolUse": {"toolUseId": call.id, "name": call.name}}, [{"toolUse": {"input": p}} for p in pieces])
        events.append(frame("messageStop", {"stopReason": FINISH[said.finish]}))
        return [*events, frame("metadata", {"usage": usage(said.tokens), "metrics": {"latencyMs": 1}})]

    def error(self, status: int, message: str) -> bytes:
        return json.dumps({"message": message, "__type": ERRORS[status]}).encode()

    def asked(self, seen: Seen) -> Asked:
        body, path = seen.json, urlsplit(seen.target).path
        authorization = seen.header("authorization") or ""
        assert authorization.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), authorization
        assert "/us-east-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date, " in authorization, authorization
        asked = Asked(stream=path.endswith("/converse-stream"))
        asked.system = "".join(block["text"] for block in body.get("system", ()))
        roles = [message["role"] for message in body["messages"]]
        assert roles == (["user", "assistant"] * len(roles))[: len(roles)], "turns alternate and the user begins"
        for message in body["messages"]:
            text = "".join(self._block(block, asked) for block in message["content"])
            if message["role"] == "user" and text:
                asked.texts.append(text)
        config = body.get("toolConfig", {})
        for tool in config.get("tools", ()):
            if "toolSpec" in tool:
                asked.tools[tool["toolSpec"]["name"]] = tool["toolSpec"]["inputSchema"]["json"]
        asked.forced = config.get("toolChoice", {}).get("tool", {}).get("name", "")
        more = body.get("additionalModelRequestFields", {})
        asked.thinking = bool(more.get("thinking") or body.get("outputConfig", {}).get("effort"))
        form = body.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema", {})
        asked.schema = json.loads(form["schema"]) if form else None
        return asked

    def _block(self, block: dict[str, Any], asked: Asked) -> str:
        if "toolUse" in block:
            asked.calls[block["toolUse"]["toolUseId"]] = (block["toolUse"]["name"], block["toolUse"]["input"])
        elif "toolResult" in block:
            [content] = block["toolResult"]["content"]
            asked.results[block["toolResult"]["toolUseId"]] = content["text"]
        elif "image" in block:
            image = block["image"]
            asked.images.append(f"data:image/{image['format']};base64,{image['source']['bytes']}")
        elif "reasoningContent" in block:
            asked.signature = block["reasoningContent"]["reasoningText"]["signature"]
        else:
            assert block["text"], block
            return str(block["text"])
        return ""
