"""One request on its way from the client's dialect to the upstream's, and its answer on the way back."""

from __future__ import annotations

from typing import NamedTuple

from gateway.errors import GatewayError
from gateway.protocols.base import Inbound, Origin, Outbound, UsageOf
from gateway.protocols.canonical import Request
from gateway.protocols.proofs import Proven


class Translation(NamedTuple):
    """What the relay of a translated answer needs."""

    inbound: Inbound
    target: Outbound
    request: Request
    origin: Origin
    usage: UsageOf

    @property
    def outbound(self) -> Outbound:
        """The target's dialect, with the proofs of thought that are its own."""
        return Proven(self.target, self.inbound)


def no_way(operation: str, endpoint: str) -> GatewayError:
    """The refusal of a request that the endpoint of a target has no API for."""
    text = f"The endpoint {endpoint!r}, which answers for this model, has no API for {operation}."
    return GatewayError("caller_unsupported", text, param="model")
