"""A provider that answers by itself: the whole system runs on a laptop, and development needs no upstream.

Options of its endpoints: `delay` seconds before the answer, `chunk_delay` seconds between chunks, `chunks` words of
answer, `fail` an HTTP status to fail with, `fail_rate` the share of requests that fail (all, if only `fail` is set).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.providers.openai import OpenAI
from gateway.providers.operations import TEXT

JSON = ((b"content-type", b"application/json"),)
SSE = ((b"content-type", b"text/event-stream"),)
_ANSWER = "This answer comes from the dummy provider : no model was asked and nothing was computed ."
_WORDS = _ANSWER.split()


@dataclass(slots=True, frozen=True)
class Script:
    """A reply to play: status, headers, and (seconds to wait, bytes to send) pairs."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    parts: Iterator[tuple[float, bytes]]


class Dummy(OpenAI):
    """Fixed answers in OpenAI's format; the token counts are words, so they can be checked by eye."""

    kind = "dummy"
    operations: tuple[str, ...] = TEXT
    forward_headers = frozenset[bytes]()

    def script(self, operation: str, body: bytes, options: dict[str, Any], roll: float | None = None) -> Script:
        """The reply to one request body; `roll` in [0, 1) decides whether it fails (random if None)."""
        request = orjson.loads(body)
        delay = float(options.get("delay", 0.0))
        fail, rate = int(options.get("fail", 0)), float(options.get("fail_rate", 0.0))
        if (fail or rate) and (random.random() if roll is None else roll) < (rate or 1.0):
            error = {"error": {"message": "The dummy was told to fail.", "type": "server_error", "code": "dummy"}}
            return Script(fail or 500, JSON, iter(((delay, orjson.dumps(error)),)))
        if operation == "embeddings":
            return Script(200, JSON, iter(((delay, _embeddings(request)),)))
        words = _answer(int(options.get("chunks", len(_WORDS))))
        if request.get("stream"):
            pause = float(options.get("chunk_delay", 0.0))
            return Script(200, SSE, _stream(operation, request, words, delay, pause))
        return Script(200, JSON, iter(((delay, _whole(operation, request, words)),)))


def _answer(length: int) -> list[str]:
    return [_WORDS[i % len(_WORDS)] + " " for i in range(length)]


def _usage(request: dict[str, Any], output: int) -> dict[str, int]:
    prompt = len(orjson.dumps(request.get("messages") or request.get("prompt") or request.get("input")).split())
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def _envelope(operation: str, request: dict[str, Any], chunk: bool) -> dict[str, Any]:
    kind = "text_completion" if operation == "completions" else "chat.completion" + (".chunk" if chunk else "")
    return {"id": "dummy-1", "object": kind, "created": 0, "model": request["model"]}


def _whole(operation: str, request: dict[str, Any], words: list[str]) -> bytes:
    text = "".join(words)
    said = {"text": text} if operation == "completions" else {"message": {"role": "assistant", "content": text}}
    reply = _envelope(operation, request, chunk=False)
    reply["choices"] = [{"index": 0, **said, "finish_reason": "stop"}]
    reply["usage"] = _usage(request, len(words))
    return orjson.dumps(reply)


def _stream(
    operation: str, request: dict[str, Any], words: list[str], delay: float, pause: float
) -> Iterator[tuple[float, bytes]]:
    envelope = _envelope(operation, request, chunk=True)

    def event(**fields: Any) -> bytes:
        return b"data: " + orjson.dumps({**envelope, **fields}) + b"\n\n"

    for i, word in enumerate(words):
        said = {"text": word} if operation == "completions" else {"delta": {"content": word}}
        yield (pause if i else delay), event(choices=[{"index": 0, **said, "finish_reason": None}])
    last: dict[str, Any] = {"text": ""} if operation == "completions" else {"delta": {}}
    yield 0.0, event(choices=[{"index": 0, **last, "finish_reason": "stop"}])
    if (request.get("stream_options") or {}).get("include_usage"):
        yield 0.0, event(choices=[], usage=_usage(request, len(words)))
    yield 0.0, b"data: [DONE]\n\n"


def _embeddings(request: dict[str, Any]) -> bytes:
    inputs = request["input"] if isinstance(request["input"], list) else [request["input"]]
    data = [{"object": "embedding", "index": i, "embedding": [0.0, 0.6, 0.8]} for i in range(len(inputs))]
    usage = _usage(request, 0)
    return orjson.dumps({"object": "list", "model": request["model"], "data": data, "usage": usage})
