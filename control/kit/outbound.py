"""Calls to addresses that people or settings name: what may be reached is decided after DNS, and only that is.

A name is resolved once, every address of it is checked, and the connection goes to exactly these: a second look-up
that answers differently (DNS rebinding) does not happen. No redirects, no proxies of the environment, no cookies, a
bound on time and on size. Metadata services of clouds are refused whatever the settings say.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.contract.addresses import refusal

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
LIMIT = 1_048_576
"""Most bytes of an answer."""


class OutboundError(Exception):
    """Why there is no answer: a code from a closed vocabulary, and words that hold nothing of the upstream's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    """By their names in lower case; of one that came several times, the last."""


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """Addresses of a host as the system knows them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Outbound:
    """The one way out. OSError (of which ssl.SSLError is one) if `ca_file` is no usable bundle."""

    def __init__(
        self,
        allow_private: bool,
        resolve: Resolve = system_resolve,
        seconds: float = 10.0,
        ca_file: Path | None = None,
    ) -> None:
        self.allow_private = allow_private
        self.resolve = resolve
        self._tls = True if ca_file is None else ssl.create_default_context(cafile=ca_file)
        self.seconds = seconds
        """Most that a call takes, DNS included."""

    async def get(self, url: str, headers: Mapping[str, str], limit: int = LIMIT) -> Answer:
        """GET a URL; OutboundError as in `call`."""
        return await self.call("GET", url, headers, limit=limit)

    async def call(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, limit: int = LIMIT
    ) -> Answer:
        """Send a request.

        Raises:
            OutboundError: the address is refused, or there was no (whole, small enough) answer.
        """
        try:
            async with asyncio.timeout(self.seconds):
                target = parse(url)
                addresses = await self.addresses(target)
                return await _send(method, target, addresses, headers, body, limit, self._tls)
        except TimeoutError as exc:
            raise OutboundError("timeout", f"no whole answer within {self.seconds:g} s") from exc
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError, ssl.SSLError) as exc:
            raise OutboundError("tls", "the TLS connection failed, or its certificate is not trusted here") from exc
        except aiohttp.ClientConnectorError as exc:
            text = exc.os_error.strerror or type(exc.os_error).__name__
            raise OutboundError("unreachable", f"no connection: {text}") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise OutboundError("bad_reply", f"the answer broke off or is not HTTP ({type(exc).__name__})") from exc

    async def addresses(self, url: URL) -> Sequence[str]:
        """Every address of the URL's host, all of them checked.

        Raises:
            OutboundError: the name is unknown, or one of its addresses must not be reached.
        """
        host, port = url.raw_host or "", url.port or 0
        try:
            found = [str(ip_address(host))]
        except ValueError:
            try:
                found = list(dict.fromkeys(await self.resolve(host, port)))
            except (OSError, UnicodeError) as exc:
                raise OutboundError("dns", f"the host name {host!r} cannot be resolved") from exc
        if not found:
            raise OutboundError("dns", f"the host name {host!r} has no address")
        for text in found:
            why = refusal(text, allow_private=self.allow_private)
            if why is not None:
                raise OutboundError("refused_address", f"{host!r} is {why}: it is not reached from here")
        return found


def parse(url: str) -> URL:
    """The URL, if it is one that may be asked at all.

    Raises:
        OutboundError: it is not http(s) with a host, or carries a user name or a password.
    """
    try:
        parsed = URL(url)
        usable = parsed.scheme in ("http", "https") and bool(parsed.raw_host) and parsed.port is not None
        if not usable or parsed.raw_user is not None or parsed.raw_password is not None:
            raise ValueError(url)
    except (ValueError, TypeError) as exc:
        raise OutboundError("bad_url", "not an http:// or https:// URL with a host and without a user name") from exc
    return parsed


class _Pinned(AbstractResolver):
    """Answers every question with the addresses that were checked."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses, for whatever host."""
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is open."""


async def _send(
    method: str,
    url: URL,
    addresses: Sequence[str],
    headers: Mapping[str, str],
    body: bytes | None,
    limit: int,
    tls: ssl.SSLContext | bool,
) -> Answer:
    resolver = _Pinned(addresses)
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit=4, force_close=True, ssl=tls)
    async with (
        aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            auto_decompress=False,  # a small answer stays small
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # the caller's covers all of it
        ) as session,
        session.request(
            method, url, data=body, headers={**headers, "accept-encoding": "identity"}, allow_redirects=False
        ) as response,
    ):
        answer = bytearray()
        async for piece in response.content.iter_any():
            answer += piece
            if len(answer) > limit:
                raise OutboundError("too_large", f"the answer is larger than {limit} bytes")
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, bytes(answer), headers)
