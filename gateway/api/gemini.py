"""POST /v1beta/models/{model}:generateContent, :streamGenerateContent, :embedContent, … (Google's dialect)

The model and whether to stream stand in the URL, and the key may: so each request has an Operation of its own.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson

from gateway.api.body import measure, output_estimate, parse_object, prompt_estimate
from gateway.context import Call, Operation
from gateway.errors import GatewayError
from gateway.protocols.gemini import Gemini
from gateway.protocols.tasks.google import AskedAsGemini

_URL = re.compile(rb"/v1(?:beta|alpha)?/(?:publishers/google/)?models/([^?]+):(\w+)(?:\?(.*))?")
_DIALECT = Gemini()
_EMBED = {b"embedContent": AskedAsGemini(single=True), b"batchEmbedContents": AskedAsGemini(single=False)}
_METHODS = {b"generateContent", b"streamGenerateContent", b"countTokens", *_EMBED}


def match(method: bytes, url: bytes) -> Operation | None:
    """The operation of a request target, or None if it is another one's."""
    found = _URL.fullmatch(url)
    if found is None or method != b"POST" or found[2] not in _METHODS:
        return None
    query = parse_qs((found[3] or b"").decode("latin-1"))
    model, name = unquote(found[1].decode("latin-1")), found[2]
    key = query.get("key", [""])[0].encode("latin-1") or None
    operation = partial(Operation, path=url, dialect=_DIALECT, key_header=b"x-goog-api-key", key_in_url=key)
    if name == b"countTokens":
        return operation("gemini_count", parse=partial(_uncounted, model=model), estimate=estimated)
    if name in _EMBED:
        return operation("gemini_embed", parse=partial(_uncounted, model=model), task=_EMBED[name])
    events = query.get("alt") == ["sse"]
    return operation(
        "gemini", parse=partial(parse, model=model, stream=name == b"streamGenerateContent", events=events)
    )


def _uncounted(body: bytes, model: str) -> Call:
    """What has no answer to pay for."""
    document = parse_object(body)
    return Call(
        model=model,
        stream=False,
        wants_usage=False,
        prompt_estimate=prompt_estimate(body, document),
        output_estimate=0,
        bounded=True,
        document=document,
        encoded_model=orjson.dumps(model),
    )


def estimated(document: dict[str, Any]) -> bytes:
    """The answer where nobody counts: marked by a header as an estimate."""
    asked = document.get("generateContentRequest", document)
    parts = (asked.get(name) for name in ("contents", "systemInstruction", "tools")) if isinstance(asked, dict) else ()
    return orjson.dumps({"totalTokens": sum(map(measure, parts))})


def parse(body: bytes, model: str, stream: bool, events: bool) -> Call:
    """See `gateway.context.Operation.parse`."""
    document = parse_object(body)
    if stream and not events:
        text = "Ask for alt=sse: a stream as one JSON array, which a whole answer would do as well, is not offered."
        raise GatewayError("caller_bad_request", text, param="alt")
    contents = document.get("contents")
    if not isinstance(contents, list) or not contents:
        raise GatewayError("caller_bad_request", "`contents` must be a non-empty array.", param="contents")
    config = document.get("generationConfig", document.get("generation_config"))
    config = config if isinstance(config, dict) else {}
    limits = {"maxOutputTokens": config.get("maxOutputTokens", config.get("max_output_tokens"))}
    return Call(
        model=model,
        stream=stream,
        wants_usage=True,
        prompt_estimate=prompt_estimate(body, contents, document.get("systemInstruction"), tools=document.get("tools")),
        output_estimate=output_estimate(limits, "maxOutputTokens"),
        bounded=limits["maxOutputTokens"] is not None,
        document=document,
        encoded_model=orjson.dumps(model),
    )
