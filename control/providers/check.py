"""What is wrong with the settings of an endpoint, beyond their types.

One endpoint that the gateway cannot compile would stop the whole snapshot, so everything is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import ValidationError

from control.errors import FieldError, fields
from gateway.contract import snapshot as wire
from gateway.contract.addresses import is_metadata
from gateway.contract.headers import wrong_header
from gateway.contract.providers import KINDS, ProviderKind

AT = "body.spec"
MOST = 50
_VALUE = re.compile(r"^[\t -~]{0,4000}$")
_PATH = re.compile(r"^/[^\0-\x1f]{1,1000}$")
_SECRET = re.compile(r"authorization|api[-_]?key|secret|password|cookie|credential|access[-_]?key", re.IGNORECASE)
_TOKENS = re.compile(r"(^|[-_])token$", re.IGNORECASE)


def problems(provider: str, spec: dict[str, Any]) -> list[FieldError]:
    """Every wrong value; `spec` is the wire form without name and provider."""
    kind = KINDS.get(provider)
    if kind is None:
        known = ", ".join(KINDS)
        return [FieldError(at="body.provider", message=f"no provider is called {provider!r}; there are {known}")]
    try:
        endpoint = wire.Endpoint.model_validate({**spec, "name": "endpoint", "provider": provider})
    except ValidationError as exc:
        return fields(exc, AT)
    found = [*_urls(kind, endpoint), *_headers(endpoint), *_options(kind, endpoint)]
    return [FieldError(at=f"{AT}.{at}", message=message) for at, message in found]


def binding(spec: dict[str, Any]) -> tuple[Any, ...]:
    """What a credential of the endpoint is bound to: whoever could read it on its way."""
    url = urlsplit(spec.get("base_url") or "")
    port = url.port or {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, (url.hostname or "").rstrip("."), port, spec.get("proxy"), spec.get("ca_file")


def _urls(kind: ProviderKind, endpoint: wire.Endpoint) -> Iterable[tuple[str, str]]:
    if kind.needs_base_url and not endpoint.base_url:
        yield "base_url", f"is missing, such as {kind.base_url or 'https://api.example.com/v1'}"
    for name, text in (("base_url", endpoint.base_url), ("proxy", endpoint.proxy)):
        if not text:
            continue
        url = urlsplit(text)
        if len(text) > 2000 or not text.isascii() or not _has_port(url):
            yield name, "is too long, not ASCII (write the host in its xn-- form), or has an impossible port"
        elif url.username is not None or url.password is not None:
            yield name, "must not carry a user name or a password: they would be readable here"
        elif is_metadata(url.hostname or ""):
            yield name, "is the address of a cloud's metadata service"
    if endpoint.proxy and urlsplit(endpoint.proxy).scheme != "http":
        yield "proxy", "must be http://host:port"
    if endpoint.ca_file is not None and not _PATH.fullmatch(endpoint.ca_file):
        yield "ca_file", "must be the absolute path of a PEM bundle on the gateways' machines"


def _has_port(url: SplitResult) -> bool:
    try:
        return url.port is None or 0 < url.port < 65_536
    except ValueError:
        return False


def _headers(endpoint: wire.Endpoint) -> Iterable[tuple[str, str]]:
    if len(endpoint.headers) > MOST or len(endpoint.forward_headers) > MOST:
        yield "headers", f"at most {MOST} headers"
    for name, value in endpoint.headers.items():
        yield from ((f"headers.{name[:100]}", message) for message in _header(name))
        if not _VALUE.fullmatch(value):
            yield f"headers.{name[:100]}", "the value is too long or is not printable ASCII"
    for number, name in enumerate(endpoint.forward_headers):
        yield from ((f"forward_headers.{number}", message) for message in _header(name))


def _header(name: str) -> Iterable[str]:
    if wrong := wrong_header(name):
        yield wrong
    elif _SECRET.search(name) or _TOKENS.search(name):
        yield f"{name} looks like a secret, which would be readable here: add a credential instead"


def _options(kind: ProviderKind, endpoint: wire.Endpoint) -> Iterable[tuple[str, str]]:
    try:
        kind.options.model_validate(endpoint.options)
    except ValidationError as exc:
        for error in fields(exc, "options"):
            yield error.at, error.message
