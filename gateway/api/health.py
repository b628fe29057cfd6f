"""GET /healthz, /readyz and /metrics."""

from __future__ import annotations

import hmac

from gateway.errors import GatewayError
from gateway.snapshot.holder import Holder


def check_ready(holder: Holder, stopping: bool) -> None:
    """Ready means: a configuration is held, and we are not stopping. Never: some database answers."""
    if stopping:
        raise GatewayError("tunegate_stopping", "The gateway is stopping.")
    _ = holder.current


def check_metrics_token(token: str | None, authorization: bytes | None) -> None:
    """GatewayError(policy_key) unless the scrape carries the configured token (or none is configured)."""
    if token is None:
        return
    if authorization is None or not hmac.compare_digest(authorization, b"Bearer " + token.encode()):
        text = "The metrics need the token of [telemetry] metrics_token as a bearer token."
        raise GatewayError("policy_key", text, headers=((b"www-authenticate", b"Bearer"),))
