"""Opens a connection to an endpoint: DNS, happy eyeballs, outbound proxy, TLS. Errors become UpstreamFailures."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

import aiohappyeyeballs

from gateway.errors import UpstreamFailure
from gateway.providers.auth import proxy_lines
from gateway.runtime import Endpoint

HAPPY_EYEBALLS_DELAY = 0.25
_MAX_PROXY_HEAD = 16_384

P = TypeVar("P", bound=asyncio.Protocol)


def tls_context(endpoint: Endpoint) -> ssl.SSLContext | None:
    """Verification is always on; the endpoint's own authority replaces the system's if it has one."""
    if not endpoint.tls or endpoint.unusable is not None:
        return None
    context = ssl.create_default_context(cafile=endpoint.spec.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


async def connect(endpoint: Endpoint, tls: ssl.SSLContext | None, factory: Callable[[], P], patience: float) -> P:
    """A connected protocol, or UpstreamFailure(provider_unreachable | provider_timeout) within `patience` seconds."""
    if endpoint.unusable is not None:  # the reason names a file of this machine: it is in the log, not in the answer
        text = f"The endpoint {endpoint.name!r} cannot be used by this gateway; its log says why."
        raise UpstreamFailure("provider_unreachable", text)
    try:
        async with asyncio.timeout(patience):
            return await _connect(endpoint, tls, factory)
    except TimeoutError as exc:
        text = f"No connection to the endpoint {endpoint.name!r} within {patience:g} s."
        raise UpstreamFailure("provider_timeout", text) from exc
    except socket.gaierror as exc:
        text = f"The host name of the endpoint {endpoint.name!r} cannot be resolved."
        raise UpstreamFailure("provider_unreachable", text) from exc
    except ssl.SSLCertVerificationError as exc:
        text = f"The certificate of the endpoint {endpoint.name!r} is not trusted: {exc.verify_message}."
        raise UpstreamFailure("provider_unreachable", text) from exc
    except (OSError, ssl.SSLError) as exc:
        plain = bool(exc.errno) and not isinstance(exc, ssl.SSLError)
        why = os.strerror(exc.errno or 0) if plain else exc.strerror  # asyncio's words hold the upstream's address
        text = f"The endpoint {endpoint.name!r} cannot be reached ({why or type(exc).__name__})."
        raise UpstreamFailure("provider_unreachable", text) from exc


async def _connect(endpoint: Endpoint, tls: ssl.SSLContext | None, factory: Callable[[], P]) -> P:
    loop = asyncio.get_running_loop()
    if endpoint.proxy is None:
        connection = await _socket(endpoint.host, endpoint.port)
    else:
        proxy = urlsplit(endpoint.proxy)
        connection = await _socket(proxy.hostname or "", proxy.port or 3128)
        if endpoint.tls:
            try:
                await _tunnel(connection, endpoint)
            except BaseException:
                connection.close()
                raise
    _, protocol = await loop.create_connection(
        factory, sock=connection, ssl=tls, server_hostname=endpoint.host if tls else None
    )
    return protocol


async def _socket(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    connection = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


async def _tunnel(connection: socket.socket, endpoint: Endpoint) -> None:
    """Ask the proxy for a tunnel (RFC 9110, section 9.3.6), reading not one byte beyond its answer."""
    loop = asyncio.get_running_loop()
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    lines = f"CONNECT {host}:{endpoint.port} HTTP/1.1\r\nHost: {host}:{endpoint.port}\r\n".encode()
    await loop.sock_sendall(connection, lines + proxy_lines(endpoint.proxy) + b"\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = await loop.sock_recv(connection, 1)
        head += byte
        if not byte or len(head) > _MAX_PROXY_HEAD:
            raise OSError(0, "the proxy did not answer CONNECT")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise OSError(0, "the proxy refused the tunnel")
