"""Asks a guard's webhook: one signed POST, its answer bounded in time and size, to an address that may be asked.

POST URL
x-tunegate-timestamp: Unix seconds
x-tunegate-signature: sha256=HEX of HMAC-SHA256(secret, timestamp "." body)
{"stage": "prompt" | "answer", "request_id", "route", "key", "team", "texts": [...]}

{"action": "allow"} | {"action": "block"} | {"action": "replace", "texts": [as many]}
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
import time
from typing import TYPE_CHECKING

import orjson

from gateway.context import Context
from gateway.contract.addresses import refusal
from gateway.contract.guard import Webhook
from gateway.steps.guard import CheckFailed

if TYPE_CHECKING:
    import aiohttp

REPLY_BYTES = 8_388_608
"""Most of an answer."""
CONNECTIONS = 64
"""To all webhooks together, per worker."""


class WebhookClient:
    """See `gateway.steps.guard.Hook`. The client is made when it is needed: most gateways have no webhook."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def judge(self, ctx: Context, spec: Webhook, key: bytes, stage: str, texts: list[str]) -> list[str] | None:
        """See `Hook`."""
        body = orjson.dumps(
            {
                "stage": stage, "request_id": ctx.request_id, "route": ctx.route.name, "key": ctx.key.name,
                "team": ctx.key.team, "texts": texts,
            }
        )  # fmt: skip
        # requests run outside of tasks, which the client needs
        task = asyncio.get_running_loop().create_task(self._ask(spec, signed(key, body, int(time.time())), body))
        try:
            return told_by(await task, texts)
        finally:
            task.cancel()

    async def _ask(self, spec: Webhook, headers: dict[str, str], body: bytes) -> bytes:
        import aiohttp  # noqa: PLC0415  (see the class)

        if self._session is None:
            self._session = _session()
        limits = aiohttp.ClientTimeout(total=spec.timeout)
        try:
            async with self._session.post(
                spec.url, data=body, headers=headers, timeout=limits, allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise CheckFailed(f"answered with status {response.status}")
                told = bytearray()
                async for piece in response.content.iter_any():
                    told += piece
                    if len(told) > REPLY_BYTES:
                        raise CheckFailed(f"answered with more than {REPLY_BYTES} bytes")
                return bytes(told)
        except TimeoutError as exc:
            raise CheckFailed(f"did not answer within {spec.timeout:g} s") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise CheckFailed(f"cannot be asked ({type(exc).__name__})") from exc


def signed(key: bytes, body: bytes, now: int) -> dict[str, str]:
    """The headers that prove a question and its moment, which is Unix seconds."""
    proof = hmac.new(key, b"%d.%b" % (now, body), hashlib.sha256).hexdigest()
    return {
        "content-type": "application/json", "x-tunegate-timestamp": str(now), "x-tunegate-signature": f"sha256={proof}",
        "accept-encoding": "identity",
    }  # fmt: skip


def told_by(body: bytes, texts: list[str]) -> list[str] | None:
    """What an answer makes of the texts; None: they must not pass. Raises CheckFailed: it is none."""
    try:
        told = orjson.loads(body)
        action = told["action"]
        if action == "allow":
            return texts
        if action == "block":
            return None
        others = told["texts"]
        if action != "replace" or len(others) != len(texts) or not all(isinstance(one, str) for one in others):
            raise ValueError(action)
    except (ValueError, KeyError, TypeError) as exc:
        raise CheckFailed("answered with something that is no action, or with another number of texts") from exc
    return list(others)


def _session() -> aiohttp.ClientSession:
    import aiohttp  # noqa: PLC0415  (see the class)
    from aiohttp.abc import AbstractResolver, ResolveResult  # noqa: PLC0415

    class Checked(AbstractResolver):
        """The system's addresses of a host, but none that nobody may be sent to."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            found = await aiohttp.ThreadedResolver().resolve(host, port, family)
            for one in found:
                if (why := refusal(one["host"], allow_private=True)) is not None:
                    raise OSError(0, f"the webhook's host is {why}")
            return found

        async def close(self) -> None:
            """Nothing is open."""

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, resolver=Checked(), keepalive_timeout=20.0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )
