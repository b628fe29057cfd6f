"""Which web pages may call the gateway from a browser: origins that the settings name, and no other.

There are no cookies here: a page must hold a key or a session token, so it may send any header. An origin that is not
named is answered as if it had said nothing, and the browser keeps the answer from the page.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LIMITS = (
    name
    for unit in ("requests", "tokens")
    for what in ("limit", "remaining", "reset")
    for name in (f"x-ratelimit-{what}-{unit}", f"anthropic-ratelimit-{unit}-{what}")
)
_TOLD = (f"x-tunegate-{what}" for what in ("route", "target", "attempts", "overhead-us", "error", "cache"))
_READABLE = ", ".join(("x-request-id", *_TOLD, *_LIMITS, "retry-after")).encode()
_PREFLIGHT = [
    (b"access-control-allow-methods", b"GET, POST, DELETE"),
    (b"access-control-allow-headers", b"authorization, *"),
    (b"access-control-max-age", b"600"),
]


def headers_of(origin: str) -> list[tuple[bytes, bytes]]:
    """What lets pages of the origin read an answer."""
    return [
        (b"access-control-allow-origin", origin.encode("ascii")),
        (b"access-control-expose-headers", _READABLE),
        (b"vary", b"origin"),
    ]


def lines(origins: Iterable[str]) -> dict[bytes, bytes]:
    """Origin, as browsers send it -> header lines, each ending in CRLF."""
    return {
        origin.encode("ascii"): b"".join(b"%b: %b\r\n" % header for header in headers_of(origin)) for origin in origins
    }


class Cors:
    """Pure ASGI around the ordinary routes: answers the preflight of any path under /v1/, marks what may be read."""

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._app = app
        self._allowed = {origin.encode("ascii"): headers_of(origin) for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the app, for a page that may call it."""
        headers = dict(scope["headers"])
        allowed = self._allowed.get(headers.get(b"origin", b""))
        if allowed is None or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await send({"type": "http.response.start", "status": 204, "headers": [*allowed, *_PREFLIGHT]})
            await send({"type": "http.response.body"})
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *allowed]}
            await send(message)

        await self._app(scope, receive, marked)
