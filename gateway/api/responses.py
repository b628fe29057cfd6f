"""POST /v1/responses, and what is kept of it: GET and DELETE /v1/responses/{id}, GET …/input_items."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.api.body import model_of, output_estimate, parse_object, prompt_estimate, stream_of
from gateway.context import Call, Operation
from gateway.errors import GatewayError
from gateway.kept import Kept
from gateway.protocols.responses import Responses


def parse(body: bytes) -> Call:
    """See `gateway.context.Operation.parse`."""
    document = parse_object(body)
    model = model_of(document)
    previous = document.get("previous_response_id")
    if previous is not None and not isinstance(previous, str):
        text = "`previous_response_id` must be a string."
        raise GatewayError("caller_bad_request", text, param="previous_response_id")
    return Call(
        model=model,
        stream=stream_of(document)[0],
        wants_usage=True,
        prompt_estimate=prompt_estimate(
            body, document.get("input"), document.get("instructions"), tools=document.get("tools")
        ),
        output_estimate=output_estimate(document, "max_output_tokens"),
        bounded=document.get("max_output_tokens") is not None,
        document=document,
        encoded_model=orjson.dumps(model),
        continues=previous,
        kept=document.get("store") is not False,
    )


RESPONSES = Operation("responses", b"/v1/responses", parse, Responses())


def get_response(kept: Kept, owner: str, identity: str) -> dict[str, Any]:
    """A response as it was answered."""
    response: dict[str, Any] = kept.find(owner, identity)["response"]
    return response


def input_items(kept: Kept, owner: str, identity: str) -> dict[str, Any]:
    """The items that a response answers, the newest first, in one page."""
    items = kept.find(owner, identity)["input"][::-1]
    numbered = [{"id": f"item_{len(items) - at}", **one} for at, one in enumerate(items)]
    first, last = (numbered[0]["id"], numbered[-1]["id"]) if numbered else (None, None)
    return {"object": "list", "data": numbered, "first_id": first, "last_id": last, "has_more": False}


def delete_response(kept: Kept, owner: str, identity: str) -> dict[str, Any]:
    """Forget it."""
    kept.delete(owner, identity)
    return {"id": identity, "object": "response", "deleted": True}
