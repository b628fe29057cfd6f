"""Which addresses nobody may be sent to: decided of what a host name resolved to, before a connection is made."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address


def _networks(*texts: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(text) for text in texts)


METADATA = _networks(
    "169.254.0.0/16",  # most clouds, and every link-local address of IPv4
    "fd00:ec2::254/128", "fd20:ce::254/128",  # AWS, Google over IPv6
    "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",  # Alibaba, Azure, Oracle
)  # fmt: skip
_NEVER = _networks("224.0.0.0/4", "240.0.0.0/4", "0.0.0.0/32", "::/128", "ff00::/8")
_NOT_PUBLIC = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16",
    "fc00::/7", "fe80::/10", "fec0::/10",
)  # fmt: skip
_NAT64 = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = IPv6Network("::/96")


def refusal(text: str, *, allow_private: bool) -> str | None:
    """Why this address must not be reached, or None. IPv4 inside of IPv6 is judged as what it is."""
    try:
        address = ip_address(text)
    except ValueError:
        return "no IP address"
    faces = (address, *_embedded(address))
    if any(_within(face, METADATA) for face in faces):
        return "a metadata or link-local address"
    if any(_within(face, _NEVER) for face in faces):
        return "a multicast, broadcast or reserved address"
    if allow_private:
        return None
    if any(_is_private(face) for face in (faces[1:] if _is_only_a_form(address) else faces)):
        return "a private, loopback or reserved address"
    return None


def is_metadata(host: str) -> bool:
    """Whether a host, written as an address, is a metadata service's."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(_within(face, METADATA) for face in (address, *_embedded(address)))


def _within(address: Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)


def _is_private(address: Address) -> bool:
    return _within(address, _NOT_PUBLIC) or not address.is_global or address.is_reserved or address.is_multicast


def _is_only_a_form(address: Address) -> bool:
    """A mapped or NAT64 address is its IPv4 address in other letters; tunnels (6to4, Teredo) are not."""
    return isinstance(address, IPv6Address) and (address.ipv4_mapped is not None or address in _NAT64)


def _embedded(address: Address) -> tuple[IPv4Address, ...]:
    """IPv4 addresses that packets to an IPv6 address may end at."""
    if isinstance(address, IPv4Address):
        return ()
    low, found = int(address) & 0xFFFF_FFFF, [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64 or address in _LOCAL_NAT64 or address in _COMPATIBLE:
        found.append(IPv4Address(low))
    if (int(address) >> 32) & 0xFDFF_FFFF == 0x5EFE:  # ISATAP
        found.append(IPv4Address(low))
    return tuple(inner for inner in found if inner is not None)
