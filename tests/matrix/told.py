"""What is said in the matrix, in no dialect: by a client, by a model, and as each side understood it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
"""A PNG of one pixel, as base64."""


@dataclass(frozen=True)
class Tokens:
    """Counts in disjoint buckets."""

    input: int = 20
    cached: int = 0
    output: int = 10
    reasoning: int = 0


@dataclass(frozen=True)
class Call:
    """A tool call."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Said:
    """What the fake vendor's model answers."""

    text: str = ""
    reasoning: str = ""
    signature: str = ""
    calls: tuple[Call, ...] = ()
    finish: str = "stop"
    tokens: Tokens = Tokens()
    cut_after: int | None = None
    """Break the connection after this many events of a stream."""
    status: int = 200
    message: str = ""
    """Of an error."""

    def pieces(self, text: str, size: int = 4) -> list[str]:
        """A text as a model streams it."""
        return [text[i : i + size] for i in range(0, len(text), size)]


@dataclass(frozen=True)
class Tool:
    """A function of the client's."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass
class Ask:
    """What a client asks for. `history` holds what the client heard before, and results of the calls in it."""

    model: str
    text: str = "What is the weather?"
    system: str = "Answer briefly."
    images: tuple[str, ...] = ()
    """URLs, `data:` ones too."""
    tools: tuple[Tool, ...] = ()
    forced: str = ""
    """Name of the tool that must be called."""
    schema: dict[str, Any] | None = None
    budget: int = 0
    """Tokens to think with."""
    stream: bool = False
    heard: Heard | None = None
    """The answer before, to whose calls `results` belong."""
    results: dict[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    """What arrived at the vendor."""

    system: str = ""
    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    forced: str = ""
    schema: dict[str, Any] | None = None
    thinking: bool = False
    calls: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    """Of earlier answers: id -> (name, arguments)."""
    results: dict[str, str] = field(default_factory=dict)
    signature: str = ""
    stream: bool = False


@dataclass
class Heard:
    """What the client's SDK made of the answer."""

    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    finish: str = ""
    tokens: Tokens | None = None
    events: int = 0
    """How many pieces of text came."""
    raw: Any = None
    """The SDK's own object, to be sent back as history."""
    status: int = 0
    """Of an error; -1 where a stream broke."""
    message: str = ""
