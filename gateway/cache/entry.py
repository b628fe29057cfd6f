"""One kept answer: what it was, and how it lies in Redis."""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.protocols.canonical import Usage

_NONCE = 12


@dataclass(slots=True, frozen=True)
class Entry:
    """A whole answer, as its client got it."""

    body: bytes
    events: bool
    """It is a stream of server-sent events."""
    wants_usage: bool
    """The client of the stream had asked for its usage chunk."""
    usage: Usage
    source: str
    """`usage_source` of its usage event."""
    cost: int
    """Nano-units that it cost."""
    at: float
    """Unix time at which it was given."""


class Sealed(NamedTuple):
    """An entry as Redis has it. Its name and the key that it is sealed with are both made from the digest of the
    request, which Redis is never told: whoever does not know the whole request can neither find nor read nor forge it.
    """

    name: str
    secret: bytes

    @classmethod
    def of(cls, digest: bytes) -> Sealed:
        """For the request with this digest."""
        return cls(sha256(b"name" + digest).hexdigest(), sha256(b"seal" + digest).digest())

    def seal(self, entry: Entry) -> bytes:
        """What to put there."""
        facts = [entry.events, entry.wants_usage, list(entry.usage), entry.source, entry.cost, entry.at]
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self.secret).encrypt(nonce, orjson.dumps(facts) + b"\n" + entry.body, self.name.encode())

    def open(self, data: bytes) -> Entry | None:
        """What was put there; None if it is something else."""
        try:
            text = AESGCM(self.secret).decrypt(data[:_NONCE], data[_NONCE:], self.name.encode())
        except (InvalidTag, ValueError):  # the latter: there is not even a nonce
            return None
        facts, _, body = text.partition(b"\n")
        events, wants_usage, usage, source, cost, at = orjson.loads(facts)
        return Entry(body, events, wants_usage, Usage(*usage), source, cost, at)
