"""OpenAI's `vector_stores`, as far as knowledge bases are that: listed, looked at and searched, never changed.

A store is a base, and its id the base's name: those that the key may read, with the documents that it may see. What has
no counterpart is refused instead of being left out: see docs/knowledge.md.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from starlette.requests import Request

from gateway.api.body import parse_object
from gateway.api.knowledge import PATIENCE, body_of, failed, search_failed
from gateway.contract.retrieval import BasesRequest, RetrievalRequest
from gateway.errors import GatewayError
from gateway.objects import listed
from gateway.retrieval.base import RetrievalError, Retriever
from gateway.runtime import KeyRecord

MOST_STORES = 100
"""In one page of a list."""
_TOKENS = 200_000
_NAMES = {"top_k": "max_num_results", "score_floor": "score_threshold", "filter": "filters"}
"""Members of a search of ours -> what OpenAI calls them."""
_RANKERS = ("auto", "default-2024-11-15")


async def list_stores(retriever: Retriever, key: KeyRecord, query: dict[str, str]) -> dict[str, Any]:
    """Stores, the newest first."""
    found = await _stores(retriever, key)
    return listed(found, {"limit": "20", **query}, MOST_STORES)


async def get_store(retriever: Retriever, key: KeyRecord, name: str) -> dict[str, Any]:
    """One store. GatewayError(caller_not_found) where the key may not read it, or there is none."""
    if found := await _stores(retriever, key, name):
        return found[0]
    raise _missing(name)


async def search_store(retriever: Retriever, key: KeyRecord, name: str, request: Request) -> dict[str, Any]:
    """What is found, as a page of search results."""
    document = parse_object(await body_of(request))
    query = document.get("query")
    if isinstance(query, list) and len(query) == 1:
        query = query[0]
    ranking = document.get("ranking_options") or {}
    if not isinstance(ranking, dict):
        raise _wrong("ranking_options", "must be an object")
    if ranking.get("ranker", "auto") not in _RANKERS:
        raise _wrong("ranking_options", "the base decides how results are ranked: leave `ranker` out")
    if document.get("rewrite_query"):
        raise _wrong("rewrite_query", "queries are not rewritten here")
    for field in document.keys() - {"query", "filters", "max_num_results", "ranking_options", "rewrite_query"}:
        raise _wrong(field, "is not known here")
    asked = {
        "bases": [name], "query": query, "principal": _principal(key), "filter": _filter(document.get("filters")),
        "limits": {
            "top_k": document.get("max_num_results", 10), "score_floor": ranking.get("score_threshold", 0.0),
            "token_budget": _TOKENS,
        },
    }  # fmt: skip
    try:
        RetrievalRequest.model_validate(asked, by_name=True)
    except ValidationError as exc:
        if exc.errors()[0]["loc"][:1] == ("bases",):
            raise _missing(name) from exc
        raise failed(exc, _NAMES) from exc
    try:
        found = await retriever.search(asked, PATIENCE)
    except RetrievalError as exc:
        raise search_failed(exc) from exc
    data = [_result(one) for one in found.passages]
    page = {"object": "vector_store.search_results.page", "search_query": [query], "data": data}
    return {**page, "has_more": False, "next_page": None}


async def _stores(retriever: Retriever, key: KeyRecord, *names: str) -> list[dict[str, Any]]:
    request = {"principal": _principal(key), "names": list(names) or None}
    try:
        BasesRequest.model_validate(request, by_name=True)
    except ValidationError as exc:  # what no base can be called
        raise _missing(names[0]) from exc
    try:
        return [_store(one) for one in await retriever.bases(request, PATIENCE)]
    except RetrievalError as exc:
        raise search_failed(exc) from exc


def _principal(key: KeyRecord) -> dict[str, Any]:
    return {"key": key.name, "team": key.team}


def _store(base: dict[str, Any]) -> dict[str, Any]:
    documents, ready, broken = base["documents"], base["ready"], base["failed"]
    waiting = documents - ready - broken
    counts = {"in_progress": waiting, "completed": ready, "failed": broken, "cancelled": 0, "total": documents}
    return {
        "id": base["name"], "object": "vector_store", "created_at": base["created_at"], "name": base["name"],
        "description": base["description"], "usage_bytes": base["bytes"], "file_counts": counts,
        "status": "in_progress" if waiting else "completed", "expires_after": None, "expires_at": None,
        "last_active_at": None, "metadata": {},
    }  # fmt: skip


def _result(passage: dict[str, Any]) -> dict[str, Any]:
    where = {"section": passage["section"]} | ({"page": passage["page"]} if passage.get("page") else {})
    return {
        "file_id": passage["document"], "filename": passage["title"], "score": passage["similarity"],
        "attributes": where, "content": [{"type": "text", "text": passage["text"]}],
    }  # fmt: skip


def _filter(said: Any) -> dict[str, Any]:
    """`eq`, or `and` of such, as metadata that a document must have."""
    if said is None:
        return {}
    every = said.get("filters") if isinstance(said, dict) and said.get("type") == "and" else [said]
    found: dict[str, Any] = {}
    for one in every if isinstance(every, list) else [every]:
        eq = one if isinstance(one, dict) and one.get("type") == "eq" else {}
        key = eq.get("key")
        if not isinstance(key, str) or key in found:
            raise _wrong("filters", "only `eq` is known, and `and` of such with different keys")
        found[key] = eq.get("value")
    return found


def _missing(name: str) -> GatewayError:
    return GatewayError("caller_not_found", f"There is no vector store '{name[:64]}' for this API key.")


def _wrong(field: str, why: str) -> GatewayError:
    return GatewayError("caller_bad_request", f"`{field[:64]}`: {why}.", param=field[:64])
