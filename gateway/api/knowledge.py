"""POST /v1/knowledge/{base}/search: passages for applications that write their own prompts.

What it finds is what routes with this base put before conversations, and what the key may read. It is no request to a
model: it has no row in the ledger (embedding the question has one, of the base's own key) and counts for no limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request

from gateway.api.body import parse_object
from gateway.contract.retrieval import RetrievalRequest
from gateway.errors import GatewayError
from gateway.retrieval.base import RetrievalError, Retriever
from gateway.runtime import KeyRecord

BODY_BYTES = 65_536
PATIENCE = 10.0
"""Seconds that a search may take."""
_LIMITS = ("top_k", "score_floor", "token_budget")
_CODES = {404: "caller_not_found", 422: "caller_bad_request"}


async def search(retriever: Retriever, key: KeyRecord, base: str, request: Request) -> dict[str, Any]:
    """{"object": "list", "data": passages, "rerank": outcome}.

    GatewayError for a wrong body, a base that is not there, and failures.
    """
    document = parse_object(await body_of(request))
    limits = {name: document.pop(name) for name in _LIMITS if name in document}
    principal = {"key": key.name, "team": key.team}
    asked = {**document, "bases": [base], "principal": principal, "limits": limits}
    try:
        RetrievalRequest.model_validate(asked, by_name=True)
    except ValidationError as exc:
        raise failed(exc) from exc
    try:
        found = await retriever.search(asked, PATIENCE)
    except RetrievalError as exc:
        raise search_failed(exc) from exc
    return {"object": "list", "data": found.passages, "rerank": found.rerank}


def failed(exc: ValidationError, names: Mapping[str, str] | None = None) -> GatewayError:
    """400 for a member that is wrong; `names` says what the caller calls it."""
    error = exc.errors()[0]
    field = str(error["loc"][-1]) if error["loc"] else "query"
    field = (names or {}).get(field, field)
    return GatewayError("caller_bad_request", f"`{field}`: {error['msg']}.", param=field)


def search_failed(exc: RetrievalError) -> GatewayError:
    """What an application is told of a search that brought nothing."""
    return GatewayError(_CODES.get(exc.status, "tunegate_retrieval"), f"Nothing was searched: {exc}.")


async def body_of(request: Request) -> bytes:
    """The body of a search."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES:
            raise GatewayError("caller_too_large", f"A search has at most {BODY_BYTES} bytes.")
    return body
