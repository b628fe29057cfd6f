"""TLS contexts of a throw-away authority."""

from __future__ import annotations

import ssl

import trustme


def server_context(ca: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    """A server's context with a certificate for the name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name).configure_cert(context)
    return context


def trusting(ca: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the authority and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    return context
