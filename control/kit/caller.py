"""Where a request comes from: the socket's peer, or what a trusted reverse proxy says about its own peer.

`X-Forwarded-For` is read from the right: each trusted proxy has appended whom it saw. The first address that is not a
trusted proxy's is the caller's; whatever stands left of it was written by the caller, and is not believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Networks = Sequence[IPv4Network | IPv6Network]


def caller(peer: str, forwarded: Sequence[str], trusted: Networks) -> str:
    """The caller's address. `forwarded`: every `X-Forwarded-For` header, in order."""
    address = _parse(peer)
    if address is None or not _is_in(address, trusted):
        return peer if address is None else str(address)
    for text in reversed([part for header in forwarded for part in header.split(",")]):
        before = _parse(text)
        if before is None:  # not written by a proxy that works: nothing left of it is, either
            break
        address = before
        if not _is_in(address, trusted):
            break
    return str(address)


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, as some proxies write it with its port too; IPv4 inside of IPv6 is IPv4."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _is_in(address: IPv4Address | IPv6Address, networks: Networks) -> bool:
    return any(address in network for network in networks)
