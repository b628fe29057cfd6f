"""POST /v1beta/models/{model}:generateContent and :streamGenerateContent (Google's dialect)

The model and whether to stream stand in the URL, and the key may: so each request has an Operation of its own.
"""

from __future__ import annotations

import re
from functools import partial
from urllib.parse import parse_qs, unquote

import orjson

from gateway.api.body import output_estimate, parse_object, prompt_estimate
from gateway.context import Call, Operation
from gateway.errors import GatewayError
from gateway.protocols.gemini import Gemini

_URL = re.compile(
    rb"/v1(?:beta|alpha)?/(?:publishers/google/)?models/([^?]+):(generateContent|streamGenerateContent)(?:\?(.*))?"
)
_DIALECT = Gemini()


def match(method: bytes, url: bytes) -> Operation | None:
    """The operation of a request target, or None if it is another one's."""
    found = _URL.fullmatch(url)
    if found is None or method != b"POST":
        return None
    query = parse_qs((found[3] or b"").decode("latin-1"))
    model, stream = unquote(found[1].decode("latin-1")), found[2] == b"streamGenerateContent"
    events = query.get("alt") == ["sse"]
    key = query.get("key", [""])[0].encode("latin-1") or None
    parsed = partial(parse, model=model, stream=stream, events=events)
    return Operation("gemini", url, parsed, _DIALECT, key_header=b"x-goog-api-key", key_in_url=key)


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
        prompt_estimate=prompt_estimate(body, contents, document.get("systemInstruction"), document.get("tools")),
        output_estimate=output_estimate(limits, "maxOutputTokens"),
        bounded=limits["maxOutputTokens"] is not None,
        document=document,
        encoded_model=orjson.dumps(model),
    )
