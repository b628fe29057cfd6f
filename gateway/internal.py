"""The way to control: one HTTP client for `/internal/v1` (see `gateway.contract.internal`), with every answer bounded.

Whatever goes wrong is a `ControlError` with a kind from a small vocabulary; `Line` counts them and tells the log about
each change of state once, so that an hour without control is two lines and not thousands.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger("gateway.control")

FIRST_BACKOFF, MAX_BACKOFF = 0.25, 1.5
"""Seconds. The longest pause is short, so that a gateway has caught up within 2 s of control being back; a refused
connection a second costs neither side anything."""


class ControlError(OSError):
    """Control cannot be reached, or what it answered cannot be used. The message holds no secret.

    `kind`: unreachable, timeout, http_STATUS, too_large or bad_reply; a refused configuration is `refused`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Answer(NamedTuple):
    """One reply, read to its end."""

    status: int
    etag: str
    body: bytes


class Line:
    """One kind of call to control: how often it failed, and whether it works now."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failures = 0
        """Since the start."""
        self.in_a_row = 0
        self.answered: bool | None = None
        """The last call was answered well; None before the first one."""
        self._kind = ""

    def failed(self, error: ControlError) -> None:
        """Count a failure; the log hears of the first one of each kind."""
        self.failures += 1
        self.in_a_row += 1
        self.answered = False
        if error.kind != self._kind:
            self._kind = error.kind
            log.error("control.failing", extra={"data": {"call": self.name, "kind": error.kind, "error": str(error)}})

    def worked(self) -> None:
        """The call did what it should."""
        self.answered = True
        if self._kind:
            log.warning("control.works_again", extra={"data": {"call": self.name, "failures": self.in_a_row}})
        self._kind, self.in_a_row = "", 0

    @property
    def pause(self) -> float:
        """Seconds until the next try: doubling, with jitter, so that many gateways do not come back in one moment."""
        longest = min(FIRST_BACKOFF * 2.0 ** min(self.in_a_row - 1, 10), MAX_BACKOFF)
        return longest * random.uniform(0.5, 1.0)


class Control:
    """A client of one control plane. Open it on the event loop that uses it.

    aiohttp takes a good part of a start (docs/bench/what-paid.md), so a gateway without a control plane never loads it.
    """

    def __init__(self, url: str, token: str, ca_file: Path | None = None, connections: int = 8) -> None:
        self._base = url.rstrip("/") + "/internal/v1"
        self._authorization = f"Bearer {token}"
        self._ca_file = ca_file
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Make the session. OSError or ssl.SSLError if `ca_file` is no usable bundle."""
        import aiohttp  # noqa: PLC0415  (see the class)

        tls = ssl.create_default_context(cafile=self._ca_file) if self._base.startswith("https:") else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, ssl=tls, keepalive_timeout=20.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"authorization": self._authorization, "accept-encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        most: int,
        silent: float,
        total: float,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """One request; ControlError unless the answer came whole, with status 200, 204 or 304 and at most `most` bytes.

        `silent`: seconds that may pass without a byte. `total`: seconds for everything, so that nobody can drip-feed.
        """
        if self._session is None:
            raise ControlError("unreachable", "the client is not open")
        import aiohttp  # noqa: PLC0415  (see the class)

        limits = aiohttp.ClientTimeout(total=total, sock_connect=3.0, sock_read=silent)
        try:
            async with self._session.request(
                method, self._base + path, headers=headers, data=body, timeout=limits, allow_redirects=False
            ) as response:
                if response.status not in (200, 204, 304):
                    raise ControlError(f"http_{response.status}", _advice(response.status))
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise ControlError("bad_reply", "control compressed its answer although it was not asked to")
                data = await _read(response, most)
                return Answer(response.status, response.headers.get("etag", ""), data)
        except TimeoutError as exc:
            raise ControlError("timeout", f"control did not answer {path} in time") from exc
        except aiohttp.ClientPayloadError as exc:
            raise ControlError("bad_reply", f"the answer to {path} was cut off") from exc
        except aiohttp.ClientConnectionError as exc:
            raise ControlError("unreachable", f"control cannot be reached ({type(exc).__name__})") from exc
        except (aiohttp.ClientError, ValueError) as exc:
            raise ControlError("bad_reply", f"the answer to {path} is not HTTP ({type(exc).__name__})") from exc


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > most:
            raise ControlError("too_large", f"control sent more than {most} bytes where that is the most")
    return bytes(data)


def _advice(status: int) -> str:
    if status in (401, 403):
        return f"control answered {status}: [control] token is not one of its service tokens, or was revoked"
    return f"control answered {status}"
