"""POST /v1/rerank and /v2/rerank: documents in the order in which they answer a query (Cohere's and Jina's shape)."""

from __future__ import annotations

import orjson

from gateway.api.body import model_of, parse_object, prompt_estimate
from gateway.context import Call, Operation
from gateway.errors import GatewayError
from gateway.protocols.tasks.rerank import AskedForRanks


def parse(body: bytes) -> Call:
    """See `gateway.context.Operation.parse`."""
    document = parse_object(body)
    model = model_of(document)
    if not isinstance(document.get("query"), str | dict):
        raise GatewayError("caller_bad_request", "`query` must be a text.", param="query")
    documents = document.get("documents")
    if not isinstance(documents, list) or not documents:
        raise GatewayError("caller_bad_request", "`documents` must be a non-empty array.", param="documents")
    return Call(
        model=model,
        stream=False,
        wants_usage=False,
        prompt_estimate=prompt_estimate(body, document["query"], documents),
        output_estimate=0,
        bounded=True,
        document=document,
        encoded_model=orjson.dumps(model),
    )


RERANK = Operation("rerank", b"/v1/rerank", parse, task=AskedForRanks())
RERANK_V2 = Operation("rerank_v2", b"/v2/rerank", parse, task=AskedForRanks())
