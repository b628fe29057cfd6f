"""The dialects under test, and how a stream of one is read from its bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from gateway.protocols.anthropic import Anthropic, reply as anthropic
from gateway.protocols.base import Inbound, Outbound, UsageOf
from gateway.protocols.canonical import Broken, Delta, Reply
from gateway.protocols.chat import Chat
from gateway.protocols.cohere import Cohere, reply as cohere
from gateway.protocols.collect import Collector
from gateway.protocols.converse import Converse, reply as converse
from gateway.protocols.gemini import Gemini, reply as gemini
from gateway.protocols.responses import Responses, reply as responses
from gateway.providers.openai import OpenAI

LIMIT = 1_000_000


class Spoken(NamedTuple):
    """A dialect and how its usage is read."""

    dialect: Any
    usage: UsageOf


SPOKEN: dict[str, Spoken] = {
    "openai": Spoken(Chat(), OpenAI().usage),
    "anthropic": Spoken(Anthropic(), anthropic.usage_of),
    "responses": Spoken(Responses(), responses.read_usage),
    "gemini": Spoken(Gemini(), gemini.read_usage),
    "bedrock": Spoken(Converse(), converse.read_usage),
    "cohere": Spoken(Cohere(), cohere.read_usage),
}
INBOUND: dict[str, Inbound] = {name: one.dialect for name, one in SPOKEN.items() if hasattr(one.dialect, "writer")}
OUTBOUND: dict[str, Outbound] = {name: one.dialect for name, one in SPOKEN.items()}


def deltas(name: str, pieces: Iterable[bytes]) -> list[Delta]:
    """What a stream says that arrives in these pieces."""
    dialect, usage = SPOKEN[name]
    framer, reader = dialect.framer(LIMIT), dialect.reader(usage)
    found: list[Delta] = []
    for piece in pieces:
        for event in framer.feed(piece):
            found += reader.read(event)
    for event in framer.rest():
        found += reader.read(event)
    return found + reader.end()


def collected(found: Iterable[Delta]) -> Reply:
    """The whole answer."""
    collector = Collector()
    for delta in found:
        assert not isinstance(delta, Broken), delta
        collector.add(delta)
    return collector.reply
