"""Requests to the gateway that API keys pay for: each with a session token of the key, never with its secret."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control.kit.tracing import current
from control.models import ApiKey
from control.security import Vault
from gateway.contract.trace import HEADER

_TOKEN_SECONDS = 300
_CONNECT = 5.0


class Unreachable(Exception):
    """The gateway gives no answer; the message says which and why."""


class Gateway:
    """The gateway of `[console] gateway_url`; one for a process."""

    def __init__(self, url: str, vault: Vault) -> None:
        self._url, self._vault = url.rstrip("/"), vault
        self._http: aiohttp.ClientSession | None = None

    async def post(self, path: str, digest: str, body: Mapping[str, Any], seconds: float) -> tuple[int, bytes]:
        """Status and body of an answer, to the API key with this SHA-256. Raises Unreachable."""
        if self._http is None:
            self._http = aiohttp.ClientSession()
        token = self._vault.session_token(digest, int(time.time()) + _TOKEN_SECONDS)
        headers = {"authorization": f"Bearer {token}"}
        if (trace := current.get()) is not None:
            headers[HEADER] = trace.header
        bounds = aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT))
        try:
            async with self._http.post(f"{self._url}{path}", json=body, headers=headers, timeout=bounds) as answer:
                return answer.status, await answer.read()
        except (aiohttp.ClientError, TimeoutError) as exc:
            why = f"no whole answer within {seconds:g} s" if isinstance(exc, TimeoutError) else type(exc).__name__
            raise Unreachable(f"the gateway at {self._url} does not answer: {why}") from exc

    async def close(self) -> None:
        """Close connections."""
        if self._http is not None:
            await self._http.close()


async def digest_of_key(session: AsyncSession, name: str) -> str | None:
    """SHA-256 of an API key by its name; None for one that is gone."""
    key = await session.scalar(select(ApiKey).where(ApiKey.public_name == name))
    return None if key is None or key.revoked_at is not None else key.digest


def message_of(content: bytes) -> str:
    """What an error of the gateway says."""
    try:
        return str(json.loads(content)["error"]["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return "no message"
