"""What all inference endpoints read from a request body, and no more: the rest is the upstream's to judge."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.errors import GatewayError

DEFAULT_OUTPUT = 1024
"""Tokens that are reserved for an answer whose length the caller does not bound."""
IMAGE_TOKENS = 1000
_MEDIA = frozenset({"image_url", "input_audio", "file", "source", "inlineData", "inline_data", "fileData", "file_data"})
WALK_ABOVE = 8192
"""Bytes of body above which texts are measured one by one, so that images do not count as text."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object; GatewayError(caller_bad_json) says where it breaks."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        text = "The request has no body." if not body else f"The request body is not valid JSON: {exc}."
        raise GatewayError("caller_bad_json", text) from exc
    if not isinstance(document, dict):
        raise GatewayError("caller_bad_request", "The request body must be a JSON object.")
    return document


def model_of(document: dict[str, Any]) -> str:
    """The model's name."""
    model = document.get("model")
    if not isinstance(model, str) or not model:
        problem = "is missing" if model is None else "must be a non-empty string"
        raise GatewayError("caller_bad_request", f"`model` {problem}; GET /v1/models lists the models.", param="model")
    return model


def stream_of(document: dict[str, Any]) -> tuple[bool, bool]:
    """(the answer is streamed, the client asked for the usage chunk)."""
    stream = document.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise GatewayError("caller_bad_request", "`stream` must be true or false.", param="stream")
    options = document.get("stream_options")
    if options is None:
        return stream is True, False
    if not isinstance(options, dict):
        raise GatewayError("caller_bad_request", "`stream_options` must be an object.", param="stream_options")
    return stream is True, bool(options.get("include_usage"))


def talked(messages: list[Any]) -> bool:
    """Whether a model has had a turn among the messages of a conversation: only such a one can hold its thoughts."""
    for message in messages:  # noqa: SIM110  (`any` with a generator takes several times as long for one message)
        if type(message) is dict and message.get("role") == "assistant":
            return True
    return False


def output_estimate(document: dict[str, Any], *names: str) -> int:
    """Tokens that the answer may have: the first of the named limits that is set, times `n`."""
    count = document.get("n")
    times = count if type(count) is int and 0 < count <= 1000 else 1
    for name in names:
        limit = document.get(name)
        if limit is None:
            continue
        if type(limit) is not int or limit < 0:
            raise GatewayError("caller_bad_request", f"`{name}` must be a whole number, at least 0.", param=name)
        return min(limit, 10_000_000) * times
    return DEFAULT_OUTPUT * times


def prompt_estimate(body: bytes, *parts: object, tools: object = None) -> int:
    """Tokens of a prompt: a quarter of its bytes, images at a flat rate."""
    if len(body) <= WALK_ABOVE:
        return max(1, len(body) // 4)
    return max(1, sum(map(measure, parts)) + tools_estimate(tools))


def tools_estimate(tools: object) -> int:
    """Tokens of the tools that a model is offered: a quarter of their JSON's bytes. It is told them so or similarly."""
    return len(orjson.dumps(tools)) // 4 if tools else 0


def measure(root: object) -> int:
    """Tokens of all texts in a value: a quarter of their UTF-8 bytes, rounded up each; media at a flat rate."""
    tokens, plain = 0, _MEDIA.isdisjoint
    level: list[Any] = [root]
    while level:  # by levels, with `type`: half the time of a stack with `isinstance`
        below: list[Any] = []
        for part in level:
            kind = type(part)
            if kind is str:
                tokens += (len(part) if part.isascii() else len(part.encode())) // 4 + 1
            elif kind is dict:
                if plain(part):
                    below += part.values()
                else:
                    tokens += IMAGE_TOKENS
            elif kind is list:
                below += part
            elif part is not None:
                tokens += 1
        level = below
    return tokens
