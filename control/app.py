"""The control application: FastAPI with every router, started on a migrated database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control import api, errors
from control.auth.sso import provider
from control.comparisons import runner, schedules
from control.datasets import checker
from control.db import Database
from control.deployments import gated, rollout
from control.deps import Control
from control.errors import Problem
from control.gateways import service as gateways
from control.jobs import workers
from control.kit.files import Files
from control.kit.metrics import Metrics
from control.kit.outbound import Outbound
from control.kit.throttle import Throttle
from control.kit.tracing import open_tracer
from control.knowledge.engine import open_engine
from control.monitoring import page as monitoring
from control.openapi import described
from control.security import open_vault
from control.settings import Settings
from control.snapshots.publisher import Publisher
from control.static import BUILT, Console
from control.usage import bodies, retention

LARGER: tuple[tuple[re.Pattern[str], int | None], ...] = (
    (re.compile(r"/internal/v1/usage"), 16),
    (re.compile(r"/internal/v1/request-log"), 32),
    (re.compile(r"/internal/v1/trainer/attempts/[^/]+/events"), 16),
    (re.compile(r"/api/v1/chat/sessions(/[^/]+)?"), 4),
    (re.compile(r"/api/v1/knowledge/[^/]+/test-sets/[^/]+/import"), 16),
    (re.compile(r"/api/v1/suites/[^/]+/(versions|promptfoo)"), 16),
    (re.compile(r"/api/v1/datasets/[^/]+/versions/\d+/content"), None),
    (re.compile(r"/api/v1/adapters/[^/]+/versions/\d+/files/.+"), None),
    (re.compile(r"/internal/v1/trainer/attempts/[^/]+/(files/.+|log)"), None),
    (re.compile(r"/api/v1/knowledge/[^/]+/documents"), None),
)
"""How many times as long as others the bodies of these paths may be. None: a file, which is written to disk as it
arrives, and whose operation counts for itself.
"""


def build(settings: Settings) -> FastAPI:
    """The app with everything it needs; nothing is opened before its lifespan begins.

    Raises:
        ConfigError: the key-encryption key, or something that single sign-on or knowledge bases need, is missing.
    """
    vault = open_vault(settings)
    db = Database(settings.database_url, settings.database.pool_size)
    outbound = Outbound(settings.console.allow_private_upstreams)
    files = Files(settings.training_dir)
    knowledge = open_engine(settings, db, vault)
    control = Control(
        settings, db, vault, Publisher(db, vault), outbound, Throttle(), provider(settings), files, knowledge,
        Metrics(), open_tracer(settings.console.otlp_endpoint),
    )  # fmt: skip

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        standing = [asyncio.create_task(work) for work in _standing(control)]
        yield
        for task in standing:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await db.close()
        if control.tracer is not None:
            await asyncio.to_thread(control.tracer.close)

    app = FastAPI(
        title="Tunegate control API",
        version="1",
        summary="Users, keys, providers, routes, usage and audit of a Tunegate installation.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        docs_url=None,  # see below: FastAPI's own would load its scripts from somebody else's server
        redoc_url=None,
        separate_input_output_schemas=False,
        routes=api.router.routes,  # not included: what FastAPI works out of them serves every app of the process
    )
    app.state.control = control
    app.add_middleware(BodyLimit, limit=settings.console.max_body_bytes)
    monitoring.install(app, control)
    errors.install(app)
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = described(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents
    assert_guarded(app)
    app.add_route("/docs", _docs, include_in_schema=False)
    app.mount("/", Console(settings.console.static_dir or BUILT, settings.console.gateway_url), name="console")
    return app


def _standing(control: Control) -> list[Coroutine[Any, Any, None]]:
    """What runs as long as the process does."""
    db, settings = control.db, control.settings
    return [
        control.publisher.run(), bodies.keep_sweeping(db), gateways.keep_sweeping(db),
        retention.run(db, settings.retention), checker.run(db, control.files, settings.training),
        workers.run(db, settings.training), rollout.run(db, control.files, control.vault), gated.run(db),
        schedules.run(db),
        runner.run(db, control.files, control.vault, settings.console.gateway_url),
        *([control.knowledge.run()] if control.knowledge else []),
    ]  # fmt: skip


async def _docs(_: Request) -> Response:
    """The API, to read and to try."""
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Tunegate control API",
        swagger_js_url="/swagger/swagger-ui-bundle.js",
        swagger_css_url="/swagger/swagger-ui.css",
        swagger_favicon_url="/favicon.svg",
    )


def assert_guarded(app: FastAPI) -> None:
    """Refuse to start with an operation that does not say exactly once who may call it."""
    operations = api.operations(app)
    loose = [f"{operation.method} {operation.path}" for operation in operations if operation.permission is None]
    if loose or not operations:
        raise RuntimeError(f"operations that say no permission, or several: {loose}")


class BodyLimit:
    """Pure ASGI: a request body over the limit is answered 413, whether it says its length or not."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what arrives."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        factor = next((factor for pattern, factor in LARGER if pattern.fullmatch(path)), 1)
        if factor is None:
            await self._app(scope, receive, send)
            return
        limit = self._limit * factor
        problem = Problem(413, "too_large", f"the body is larger than {limit} bytes")
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > limit:
            await errors.respond(problem)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise problem
            return message

        async def unless_too_large(message: Message) -> None:
            if seen <= limit:
                await send(message)

        await self._app(scope, counted, unless_too_large)
        if seen > limit:  # FastAPI has turned the exception into a 400 of its own, which went nowhere
            await errors.respond(problem)(scope, receive, send)
