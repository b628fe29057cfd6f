"""uvicorn on one listener, with its certificate."""

from __future__ import annotations

import uvicorn
from starlette.types import ASGIApp

from gateway.server.certificate import Certificate
from gateway.server.front import Front
from gateway.server.protocol import bind
from gateway.settings import GatewayTable


class Listener:
    """The server of a worker: what is no inference request goes to `app`."""

    def __init__(self, settings: GatewayTable, app: ASGIApp, front: Front) -> None:
        """SystemExit: its certificate cannot be used."""
        self.front = front
        self.certificate: Certificate | None = None
        if settings.tls_cert is not None:
            try:
                self.certificate = Certificate(settings.tls_cert, settings.tls_key)
            except (OSError, ValueError) as exc:
                raise SystemExit(f"[gateway] tls_cert {settings.tls_cert}, tls_key {settings.tls_key}: {exc}") from exc
        self.server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=bind(front),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=int(settings.keepalive_timeout) or 1,
                timeout_graceful_shutdown=int(settings.drain_timeout) or 1,
                backlog=4096,
                ssl_certfile=settings.tls_cert,
                ssl_keyfile=settings.tls_key,
            )
        )

    def sweep(self, now: float) -> None:
        """Look at the clients' times and at the certificate; call it once a second. `now`: of the loop."""
        self.front.sweep(now)
        listening = self.server.config.ssl if self.server.started else None
        if self.certificate is not None and listening is not None:
            self.certificate.follow(listening)
