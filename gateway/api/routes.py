"""The table of all URLs, each with what it asks of the caller; a test enumerates it.

The inference operations go from the listener's protocol straight to the pipeline, which authenticates. Everything
else is a Starlette route, wrapped by `_guard` according to its access; there is no route without one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api import files, gemini
from gateway.api.chat import CHAT
from gateway.api.completions import COMPLETIONS
from gateway.api.embeddings import EMBEDDINGS
from gateway.api.files import BATCH_CREATE, FILE_CREATE, MOST_BATCHES, MOST_FILES
from gateway.api.health import check_metrics_token, check_ready
from gateway.api.knowledge import search
from gateway.api.media import FORMS, IMAGES, MODERATIONS, SPEECH
from gateway.api.messages import COUNT_TOKENS, MESSAGES
from gateway.api.models import get_model, list_models
from gateway.api.rerank import RERANK, RERANK_V2
from gateway.api.responses import RESPONSES, delete_response, get_response, input_items
from gateway.api.vector_stores import get_store, list_stores, search_store
from gateway.auth import authenticate, credential
from gateway.context import Operation, new_id, own_id
from gateway.errors import GatewayError
from gateway.kept import Kept
from gateway.objects import Objects, listed
from gateway.retrieval.base import Retriever
from gateway.runtime import KeyRecord
from gateway.snapshot.holder import Holder
from gateway.telemetry.hooks import Telemetry

OPERATIONS: dict[bytes, Operation] = {
    op.path: op
    for op in (
        CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES, COUNT_TOKENS, RERANK, RERANK_V2, MODERATIONS, IMAGES,
        SPEECH, *FORMS, FILE_CREATE, BATCH_CREATE,
    )
}  # fmt: skip


def match(method: bytes, url: bytes) -> Operation | None:
    """The operation of a URL that holds more than its path: a model, or the id of a file or batch."""
    return gemini.match(method, url) or files.match(method, url)


Access = Literal["public", "key", "metrics"]
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Api:
    """What the routes need."""

    holder: Holder
    telemetry: Telemetry
    kept: Kept
    objects: Objects
    retriever: Retriever
    metrics_token: str | None
    render_metrics: Callable[[], Awaitable[bytes]]
    stopping: bool = False

    async def models(self, request: Request) -> Response:
        """GET /v1/models"""
        return _json(list_models(self.holder.current, _key(request), int(self.holder.swapped_at)))

    async def model(self, request: Request) -> Response:
        """GET /v1/models/{id}"""
        name = request.path_params["name"]
        return _json(get_model(self.holder.current, _key(request), name, int(self.holder.swapped_at)))

    async def response(self, request: Request) -> Response:
        """GET /v1/responses/{id}"""
        return _json(await asyncio.to_thread(get_response, self.kept, _key(request).name, request.path_params["id"]))

    async def response_input(self, request: Request) -> Response:
        """GET /v1/responses/{id}/input_items"""
        return _json(await asyncio.to_thread(input_items, self.kept, _key(request).name, request.path_params["id"]))

    async def response_deleted(self, request: Request) -> Response:
        """DELETE /v1/responses/{id}"""
        return _json(await asyncio.to_thread(delete_response, self.kept, _key(request).name, request.path_params["id"]))

    async def files(self, request: Request) -> Response:
        """GET /v1/files"""
        found = await asyncio.to_thread(self.objects.all, _key(request).name, "file")
        return _json(listed(found, dict(request.query_params), MOST_FILES))

    async def batches(self, request: Request) -> Response:
        """GET /v1/batches"""
        found = await asyncio.to_thread(self.objects.all, _key(request).name, "batch")
        return _json(listed(found, {"limit": "20", **request.query_params}, MOST_BATCHES))

    async def knowledge(self, request: Request) -> Response:
        """POST /v1/knowledge/{base}/search"""
        return _json(await search(self.retriever, _key(request), request.path_params["base"], request))

    async def stores(self, request: Request) -> Response:
        """GET /v1/vector_stores"""
        return _json(await list_stores(self.retriever, _key(request), dict(request.query_params)))

    async def store(self, request: Request) -> Response:
        """GET /v1/vector_stores/{id}"""
        return _json(await get_store(self.retriever, _key(request), request.path_params["id"]))

    async def store_search(self, request: Request) -> Response:
        """POST /v1/vector_stores/{id}/search"""
        return _json(await search_store(self.retriever, _key(request), request.path_params["id"], request))

    async def healthz(self, request: Request) -> Response:
        """The process runs."""
        return _json({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Requests can be served."""
        check_ready(self.holder, self.stopping)
        current = self.holder.current
        return _json({"status": "ready", "snapshot": current.version, "unusable_endpoints": len(current.unusable())})

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        return Response(await self.render_metrics(), media_type=CONTENT_TYPE_LATEST)

    def table(self) -> list[tuple[str, str, Access, Handler]]:
        """(method, path, access, handler) of every route that is not an inference operation."""
        return [
            ("GET", "/v1/models", "key", self.models),
            ("GET", "/v1/models/{name:path}", "key", self.model),
            ("GET", "/v1/responses/{id}", "key", self.response),
            ("DELETE", "/v1/responses/{id}", "key", self.response_deleted),
            ("GET", "/v1/responses/{id}/input_items", "key", self.response_input),
            ("GET", "/v1/files", "key", self.files),
            ("GET", "/v1/batches", "key", self.batches),
            ("POST", "/v1/knowledge/{base}/search", "key", self.knowledge),
            ("GET", "/v1/vector_stores", "key", self.stores),
            ("GET", "/v1/vector_stores/{id}", "key", self.store),
            ("POST", "/v1/vector_stores/{id}/search", "key", self.store_search),
            ("GET", "/healthz", "public", self.healthz),
            ("GET", "/readyz", "public", self.readyz),
            ("GET", "/metrics", "metrics", self.metrics),
        ]

    def guard(self, access: Access, handler: Handler) -> Handler:
        """The handler behind the check that its access asks for."""

        async def guarded(request: Request) -> Response:
            try:
                header = request.headers.get("authorization")
                authorization = header.encode("latin-1") if header is not None else None
                if access == "key":
                    peer = _peer(request)
                    request.state.key = authenticate(self.holder.current, credential(authorization), peer, time.time())
                elif access == "metrics":
                    check_metrics_token(self.metrics_token, authorization)
                response = await handler(request)
            except GatewayError as error:
                return self.refuse(request, error)
            except ClientDisconnect:
                return Response(status_code=408)  # which nobody hears: there is no connection any more
            response.headers["x-request-id"] = _request_id(request)
            return response

        return guarded

    def refuse(self, request: Request, error: GatewayError) -> Response:
        """An error as a response, counted."""
        request_id = _request_id(request)
        self.telemetry.rejected(error, request_id, _peer(request))
        headers = {name.decode(): value.decode() for name, value in error.headers}
        headers |= {"x-request-id": request_id, "x-tunegate-error": error.code}
        return Response(error.body, error.status, headers, media_type="application/json")

    async def http_error(self, request: Request, exc: Exception) -> Response:
        """Unknown paths and wrong methods, in OpenAI's shape."""
        status = exc.status_code if isinstance(exc, HTTPException) else 500
        path, raw = request.scope["path"][:200], request.scope["raw_path"]
        if status == 405 or (raw in OPERATIONS and request.method != "POST"):
            allow = "POST" if raw in OPERATIONS else "GET, HEAD"
            text = f"{request.method} is not allowed on {path}; use {allow}."
            return self.refuse(request, GatewayError("caller_bad_method", text, headers=((b"allow", allow.encode()),)))
        return self.refuse(request, GatewayError("caller_not_found", f"Unknown request URL: {request.method} {path}."))


def build(api: Api) -> Starlette:
    """The ASGI application for everything that is not an inference operation."""
    routes = [
        Route(path, api.guard(access, handler), methods=[method]) for method, path, access, handler in api.table()
    ]
    app = Starlette(routes=routes, exception_handlers={404: api.http_error, 405: api.http_error})
    app.router.redirect_slashes = False  # it would send clients to whatever host they name, and answer before the key
    return app


def _key(request: Request) -> KeyRecord:
    key = request.state.key
    assert isinstance(key, KeyRecord)
    return key


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def _request_id(request: Request) -> str:
    return own_id(request.headers.get("x-request-id", "").encode("latin-1")) or new_id()


def _json(document: object) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
