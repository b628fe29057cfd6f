"""POST /v1/embeddings"""

from __future__ import annotations

import orjson

from gateway.api.body import model_of, parse_object, prompt_estimate
from gateway.context import Call, Operation
from gateway.errors import GatewayError
from gateway.protocols.tasks.embeddings import AskedAsOpenAI


def parse(body: bytes) -> Call:
    """See `gateway.context.Operation.parse`."""
    document = parse_object(body)
    model = model_of(document)
    if document.get("input") is None:
        raise GatewayError("caller_bad_request", "`input` is missing.", param="input")
    return Call(
        model=model,
        stream=False,
        wants_usage=False,
        prompt_estimate=prompt_estimate(body, document["input"]),
        output_estimate=0,
        bounded=True,
        document=document,
        encoded_model=orjson.dumps(model),
    )


EMBEDDINGS = Operation("embeddings", b"/v1/embeddings", parse, task=AskedAsOpenAI())
