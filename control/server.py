"""Runs the app on uvicorn: migrates the embedded database first, refuses an outdated one."""

from __future__ import annotations

import asyncio
import socket
import sys

import uvicorn
from fastapi import FastAPI

from control.db import Database
from control.kit import logs
from control.migrations.run import migrate
from control.settings import Settings
from control.snapshots.publisher import Publisher


def serve(app: FastAPI, settings: Settings) -> int:
    """Serve until told to stop; 0 after a clean end."""
    logs.configure()
    settings.console.data_dir.mkdir(parents=True, exist_ok=True)
    asyncio.run(_prepare(settings))
    config = uvicorn.Config(
        app,
        host=settings.console.host,
        port=settings.console.port,
        loop="auto" if sys.platform != "win32" else "asyncio",
        access_log=False,
        log_config=None,  # as `logs` says
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=65_536,
    )
    server = _Server(config, app)
    server.run()
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """Lets gateways that wait for a change go when it is told to stop, instead of waiting for them."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._publisher: Publisher = app.state.control.publisher

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin the end."""
        await self._publisher.release()
        await super().shutdown(sockets)


async def _prepare(settings: Settings) -> None:
    db = Database(settings.database_url)
    try:
        await migrate(db.engine)
    finally:
        await db.close()
