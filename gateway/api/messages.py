"""POST /v1/messages and /v1/messages/count_tokens (Anthropic's dialect)"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.api.body import (
    measure,
    model_of,
    output_estimate,
    parse_object,
    prompt_estimate,
    stream_of,
    tools_estimate,
)
from gateway.context import Call, Operation
from gateway.errors import GatewayError
from gateway.protocols.anthropic import Anthropic
from gateway.protocols.anthropic.limits import renamed


def parse(body: bytes) -> Call:
    """See `gateway.context.Operation.parse`."""
    document = parse_object(body)
    model = model_of(document)
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise GatewayError("caller_bad_request", "`messages` must be a non-empty array.", param="messages")
    return Call(
        model=model,
        stream=stream_of(document)[0],
        wants_usage=True,
        prompt_estimate=prompt_estimate(body, document.get("system"), messages, tools=document.get("tools")),
        output_estimate=output_estimate(document, "max_tokens"),
        bounded=document.get("max_tokens") is not None,
        document=document,
        encoded_model=orjson.dumps(model),
    )


def parse_count(body: bytes) -> Call:
    """The same without an answer to pay for."""
    document = parse_object(body)
    model = model_of(document)
    return Call(
        model=model,
        stream=False,
        wants_usage=False,
        prompt_estimate=0,
        output_estimate=0,
        bounded=True,
        document=document,
        encoded_model=orjson.dumps(model),
    )


def estimated(document: dict[str, Any]) -> bytes:
    """The answer where nobody counts: marked by a header as an estimate."""
    tokens = measure(document.get("system")) + measure(document.get("messages"))
    return orjson.dumps({"input_tokens": tokens + tools_estimate(document.get("tools"))})


_DIALECT = Anthropic()
MESSAGES = Operation("messages", b"/v1/messages", parse, _DIALECT, key_header=b"x-api-key", renamed=renamed)
COUNT_TOKENS = Operation(
    "count_tokens", b"/v1/messages/count_tokens", parse_count, _DIALECT, key_header=b"x-api-key", translates=False,
    estimate=estimated, renamed=renamed,
)  # fmt: skip
