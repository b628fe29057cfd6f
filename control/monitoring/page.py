"""GET /metrics, and the counting of every answer of this process."""

from __future__ import annotations

import hmac
import time

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control.deps import Control
from control.errors import Problem
from control.kit.metrics import Metrics
from control.kit.tracing import Tracer, current
from control.monitoring.figures import Look
from control.settings import reference
from gateway.contract.trace import HEADER, continued


def install(app: FastAPI, control: Control) -> None:
    """Let the app tell its metrics, and count its answers: those of the middleware that is there already, too.

    Raises:
        ConfigError: the token of /metrics cannot be read.
    """
    app.add_route("/metrics", Page(control).__call__, include_in_schema=False)
    app.add_middleware(Counted, metrics=control.metrics, tracer=control.tracer)


class Page:
    """The page of this process."""

    def __init__(self, control: Control) -> None:
        """Raises ConfigError where the token's reference leads nowhere."""
        self._look = Look(control)
        self._metrics = control.metrics
        console = control.settings.console
        self._token = reference(console.metrics_token)
        self._open = not self._token and console.is_loopback

    async def __call__(self, request: Request) -> Response:
        """The metrics; 401 without the token, 403 where there is none and others than this machine reach us."""
        self._check(request.headers.get("authorization", ""))
        figures = await self._look.figures()
        return Response(self._metrics.render(figures), headers={"content-type": CONTENT_TYPE_LATEST})

    def _check(self, authorization: str) -> None:
        if self._open:
            return
        if not self._token:
            text = "set [console] metrics_token: without it, metrics are for a loopback listener only"
            raise Problem(403, "metrics_off", text)
        if not hmac.compare_digest(authorization.encode(), b"Bearer " + self._token.encode()):
            raise Problem(401, "bad_metrics_token", "send the token of [console] metrics_token as a bearer token")


class Counted:
    """Pure ASGI: counts answers by operation and status, and how long operations of the API took. What belongs to a
    recorded trace gets a span in it.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, tracer: Tracer | None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and look at what comes back. No answer at all (the client is gone) counts as 499."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 499
        trace = continued(Headers(scope=scope).get(HEADER, "")) if self._tracer is not None else None
        current.set(trace)

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        except Exception:
            status = 500
            raise
        finally:
            route = scope.get("route")
            timed = str(scope["path"]).startswith("/api/v1/") and route is not None
            operation = str(route.name) if route is not None else "page"
            took = time.monotonic() - started
            self._metrics.requested(operation, status, took if timed else None)
            if self._tracer is not None and trace is not None:
                self._tracer.answered(trace, operation, scope["method"], status, took)
