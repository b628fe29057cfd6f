"""One request on its way from the client's dialect to the upstream's, and its answer on the way back."""

from __future__ import annotations

from typing import NamedTuple

from gateway.errors import GatewayError
from gateway.protocols.base import Inbound, Origin, Outbound, UsageOf
from gateway.protocols.canonical import Request


class Translation(NamedTuple):
    """What the relay of a translated answer needs."""

    inbound: Inbound
    outbound: Outbound
    request: Request
    origin: Origin
    usage: UsageOf


def no_way(operation: str, endpoint: str) -> GatewayError:
    """The refusal of a request that the endpoint of a target has no API for."""
    text = f"The endpoint {endpoint!r}, which answers for this model, has no API for {operation}."
    return GatewayError("caller_unsupported", text, param="model")
