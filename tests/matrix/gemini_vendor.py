"""A vendor that speaks Google's generateContent, and what arrived there.

https://ai.google.dev/api/generate-content (read 2026-11)
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlsplit

from tests.fakes.upstream import Seen
from tests.matrix.told import Asked, Said, Tokens

FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP"}
STATUS = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}


def usage(tokens: Tokens) -> dict[str, Any]:
    """Cached tokens are part of the prompt; thoughts are beside the candidates."""
    return {
        "promptTokenCount": tokens.input + tokens.cached,
        "cachedContentTokenCount": tokens.cached,
        "candidatesTokenCount": tokens.output,
        "thoughtsTokenCount": tokens.reasoning,
        "totalTokenCount": tokens.input + tokens.cached + tokens.output + tokens.reasoning,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens.input + tokens.cached}],
    }


def camel(value: Any) -> Any:
    """Names of members as the documentation writes them: the API takes snake_case too. Schemas stay as they are."""
    if isinstance(value, list):
        return [camel(one) for one in value]
    if not isinstance(value, dict):
        return value
    names = {name: re.sub(r"_(\w)", lambda found: found[1].upper(), name) for name in value}
    return {names[n]: one if names[n] in OPAQUE else camel(one) for n, one in value.items()}


OPAQUE = {"parametersJsonSchema", "parameters", "responseJsonSchema", "responseSchema", "args", "response"}


class GeminiVendor:
    """See `tests.matrix.vendors.Vendor`."""

    kind = "gemini"
    base = "/v1beta"

    def whole(self, said: Said, model: str) -> bytes:
        parts = [part for pieces in self._parts(said, whole=True) for part in pieces]
        return json.dumps(self._response(parts, model, said)).encode()

    def events(self, said: Said, model: str) -> list[bytes]:
        pieces = [part for group in self._parts(said, whole=False) for part in group]
        chunks = [self._response([part], model, None) for part in pieces[:-1]]
        chunks.append(self._response(pieces[-1:], model, said))
        return [f"data: {json.dumps(chunk)}\r\n\r\n".encode() for chunk in chunks]

    def _parts(self, said: Said, *, whole: bool) -> list[list[dict[str, Any]]]:
        def cut(text: str) -> list[str]:
            return [text] if whole and text else said.pieces(text)

        thoughts = [{"text": piece, "thought": True} for piece in cut(said.reasoning)]
        texts: list[dict[str, Any]] = [{"text": piece} for piece in cut(said.text)]
        calls: list[dict[str, Any]] = [
            {"functionCall": {"id": c.id, "name": c.name, "args": c.arguments}} for c in said.calls
        ]
        if said.signature and texts:
            texts[-1]["thoughtSignature"] = said.signature
        return [thoughts, texts, calls]

    def _response(self, parts: list[dict[str, Any]], model: str, said: Said | None) -> dict[str, Any]:
        candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
        counts = {"promptTokenCount": 1, "totalTokenCount": 1}
        if said is not None:
            candidate["finishReason"] = FINISH[said.finish]
            counts = usage(said.tokens)
        return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": model, "responseId": "r-1"}

    def error(self, status: int, message: str) -> bytes:
        return json.dumps({"error": {"code": status, "message": message, "status": STATUS[status]}}).encode()

    def asked(self, seen: Seen) -> Asked:
        body, url = camel(seen.json), urlsplit(seen.target)
        stream = url.path.endswith(":streamGenerateContent")
        assert stream == (url.query == "alt=sse"), seen.target
        asked = Asked(stream=stream)
        asked.system = "".join(part["text"] for part in body.get("systemInstruction", {}).get("parts", ()))
        names: dict[str, str] = {}
        for content in body["contents"]:
            text = ""
            for part in content["parts"]:
                text += self._part(part, asked, names)
            if content["role"] == "user" and text:
                asked.texts.append(text)
        for tool in body.get("tools", ()):
            for function in tool["functionDeclarations"]:
                asked.tools[function["name"]] = function.get("parametersJsonSchema") or function["parameters"]
        calling = body.get("toolConfig", {}).get("functionCallingConfig", {})
        asked.forced = "".join(calling.get("allowedFunctionNames", ()))
        config = body.get("generationConfig", {})
        asked.schema = config.get("responseJsonSchema") or config.get("responseSchema")
        asked.thinking = bool(config.get("thinkingConfig"))
        return asked

    def _part(self, part: dict[str, Any], asked: Asked, names: dict[str, str]) -> str:
        if part.get("thoughtSignature"):
            asked.signature = part["thoughtSignature"]
        if "inlineData" in part:
            asked.images.append(f"data:{part['inlineData']['mimeType']};base64,{part['inlineData']['data']}")
        elif "fileData" in part:
            asked.images.append(part["fileData"]["fileUri"])
        elif "functionCall" in part:
            call = part["functionCall"]
            asked.calls[call["id"]] = (call["name"], call.get("args", {}))
            names[call["id"]] = call["name"]
        elif "functionResponse" in part:
            answer = part["functionResponse"]
            assert names[answer["id"]] == answer["name"], "a result belongs to the call of its id and name"
            values = list(answer["response"].values())
            asked.results[answer["id"]] = values[0] if len(values) == 1 else json.dumps(answer["response"])
        elif not part.get("thought"):
            return str(part["text"])
        return ""
