"""POST /v1/completions (the older text interface)"""

from __future__ import annotations

import orjson

from gateway.api.body import model_of, output_estimate, parse_object, prompt_estimate, stream_of
from gateway.context import Call, Operation
from gateway.protocols.chat.legacy import Legacy


def parse(body: bytes) -> Call:
    """See `gateway.context.Operation.parse`."""
    document = parse_object(body)
    model = model_of(document)
    stream, wants_usage = stream_of(document)
    return Call(
        model=model,
        stream=stream,
        wants_usage=wants_usage,
        prompt_estimate=prompt_estimate(body, document.get("prompt")),
        output_estimate=output_estimate(document, "max_tokens"),
        bounded=document.get("max_tokens") is not None,
        document=document,
        encoded_model=orjson.dumps(model),
    )


COMPLETIONS = Operation("completions", b"/v1/completions", parse, text=Legacy())
