"""POST /v1/chat/completions"""

from __future__ import annotations

import orjson

from gateway.api.body import model_of, output_estimate, parse_object, prompt_estimate, stream_of, talked
from gateway.context import Call, Operation
from gateway.errors import GatewayError
from gateway.protocols.chat import Chat


def parse(body: bytes) -> Call:
    """See `gateway.context.Operation.parse`."""
    document = parse_object(body)
    model = model_of(document)
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise GatewayError("caller_bad_request", "`messages` must be a non-empty array.", param="messages")
    stream, wants_usage = stream_of(document)
    prompt = prompt_estimate(body, messages, tools=document.get("tools"))
    output = output_estimate(document, "max_completion_tokens", "max_tokens")
    bounded = document.get("max_completion_tokens", document.get("max_tokens")) is not None
    # without their names: with them, an object takes twice as long to make
    encoded = orjson.dumps(model)
    return Call(model, stream, wants_usage, prompt, output, bounded, document, encoded, talked(messages))


CHAT = Operation("chat", b"/v1/chat/completions", parse, Chat())
