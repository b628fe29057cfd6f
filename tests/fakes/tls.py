"""TLS contexts of a throw-away authority."""

from __future__ import annotations

import ssl
from datetime import datetime

import trustme


def server_context(ca: trustme.CA, name: str = "localhost", not_after: datetime | None = None) -> ssl.SSLContext:
    """A server's context with a certificate for the name, up to this moment if one is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name, not_after=not_after).configure_cert(context)
    return context


def trusting(ca: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the authority and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    return context
