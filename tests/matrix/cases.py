"""What is tried in each cell: a question, what the vendor's model says, and what must have arrived on both sides."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tests.fakes.gateway import Gateway, eventually
from tests.matrix.clients import Client
from tests.matrix.told import PIXEL, Ask, Asked, Call, Heard, Said, Tokens, Tool
from tests.matrix.vendors import Vendor

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool("get_weather", "The weather of a city.", CITY)
BEIJING = Call("call_Ab1", "get_weather", {"city": "北京"})
PARIS = Call("call_Ab2", "get_weather", {"city": 'Paris "quoted" \\ \n'})
HELLO = Said("Hello, world: 你好！")


@dataclass
class Cell:
    """One pair of a client and a vendor, for one case."""

    gateway: Gateway
    client: Client
    vendor: Vendor
    model: str
    say: Callable[[Said], None]
    """Sets what the vendor answers next."""
    asked: list[Asked] = field(default_factory=list)
    """What has arrived there."""

    def ask(self, said: Said, ask: Ask | None = None) -> Heard:
        """One question and its answer, of which at least the ordinary things are right."""
        self.say(said)
        before = len(self.asked)
        heard = self.client.ask(replace(ask or Ask(self.model), model=self.model))
        assert len(self.asked) == before + 1, f"the vendor got {len(self.asked) - before} requests: {heard}"
        return heard

    def row(self) -> dict[str, object]:
        """The ledger's newest row of this cell's model."""
        rows = eventually(lambda: [r for r in self.gateway.ledger() if r["model"] == self.model], 10)
        return rows[-1]


def trait(cell: Cell, name: str) -> bool:
    """Something that is peculiar to the vendor; each has its reason in `tests.matrix.run.PECULIAR`."""
    return bool(getattr(cell.vendor, name, False))


def plain(cell: Cell, stream: bool = False) -> None:
    """System prompt and question arrive, the answer comes back."""
    heard = cell.ask(HELLO, Ask("", stream=stream))
    asked = cell.asked[-1]
    assert (asked.system, asked.texts, asked.stream) == ("Answer briefly.", ["What is the weather?"], stream), asked
    assert (heard.text, heard.finish, heard.calls) == (HELLO.text, "stop", []), heard
    length = cell.ask(replace(HELLO, finish="length"), Ask("", stream=stream))
    assert length.finish == "length", length


def streamed(cell: Cell) -> None:
    """The same as it is written: no piece is held back to the end."""
    plain(cell, stream=True)
    heard = cell.ask(HELLO, Ask("", stream=True))
    assert heard.events >= len(HELLO.pieces(HELLO.text)), heard


def tools(cell: Cell) -> None:
    """A tool is offered, called, answered; the choice of the tool arrives. Whole and streamed."""
    for stream in (False, True):
        ask = Ask("", tools=(WEATHER,), forced="get_weather", stream=stream)
        heard = cell.ask(Said(calls=(BEIJING,), finish="tool_calls"), ask)
        _called(cell, heard, [BEIJING])
        assert cell.asked[-1].forced == "get_weather"
        _answered(cell, heard, ask, {heard.calls[0].id: "Sunny, 25 °C"})


def parallel(cell: Cell) -> None:
    """Two calls in one answer, two results in one turn, each with its id; a text before them. Whole and streamed."""
    for stream in (False, True):
        ask = Ask("", tools=(WEATHER,), stream=stream)
        said = Said("" if trait(cell, "calls_alone") else "Let me look.", calls=(BEIJING, PARIS), finish="tool_calls")
        heard = cell.ask(said, ask)
        assert heard.text == said.text, heard
        _called(cell, heard, [BEIJING, PARIS])
        _answered(cell, heard, ask, {heard.calls[1].id: "Rain", heard.calls[0].id: "Sun"})


def _called(cell: Cell, heard: Heard, calls: list[Call]) -> None:
    assert cell.asked[-1].tools.keys() == {"get_weather"}, cell.asked[-1]
    assert cell.asked[-1].tools["get_weather"]["properties"] == CITY["properties"], cell.asked[-1]
    assert heard.finish == "tool_calls", heard
    assert [(c.name, c.arguments) for c in heard.calls] == [(c.name, c.arguments) for c in calls], heard
    assert len({c.id for c in heard.calls}) == len(calls), heard


def _answered(cell: Cell, heard: Heard, ask: Ask, results: dict[str, str]) -> None:
    """The next turn holds the calls and their results, under the same ids."""
    again = cell.ask(HELLO, replace(ask, heard=heard, results=results, forced=""))
    asked = cell.asked[-1]
    assert sorted(asked.results.values()) == sorted(results.values()), asked
    called = {call.id: (call.name, call.arguments) for call in heard.calls}
    assert sorted(map(repr, asked.calls.values())) == sorted(map(repr, called.values())), asked
    assert asked.calls.keys() == asked.results.keys(), asked
    for identity, text in asked.results.items():  # the id may be another one there, but belongs to the same call
        ours = next(i for i, result in results.items() if result == text)
        assert asked.calls[identity] == called[ours], asked
    assert again.text == HELLO.text, again


def images(cell: Cell) -> None:
    """An image inline and one by URL, beside text."""
    urls = (f"data:image/png;base64,{PIXEL}", "https://example.com/cat.png")[: 1 if trait(cell, "inline_only") else 2]
    heard = cell.ask(HELLO, Ask("", images=urls))
    asked = cell.asked[-1]
    assert asked.images == list(urls), asked
    assert asked.texts == ["What is the weather?"], asked
    assert heard.text == HELLO.text, heard


def schema(cell: Cell) -> None:
    """An answer of a JSON schema."""
    said = Said(json.dumps({"city": "Paris"}))
    heard = cell.ask(said, Ask("", schema=CITY))
    asked = cell.asked[-1]
    assert asked.schema is not None, asked
    assert asked.schema["properties"] == CITY["properties"], asked
    assert json.loads(heard.text) == {"city": "Paris"}, heard


def reasoning(cell: Cell) -> None:
    """Thinking is asked for and comes back, whole and streamed; its proof goes back with the next turn."""
    said = Said("4", reasoning="Two and two.", signature="c2lnbmF0dXJl", tokens=Tokens(20, 0, 1, 9))
    for stream in (False, True):
        ask = Ask("", budget=4096, stream=stream)
        heard = cell.ask(said, ask)
        assert cell.asked[-1].thinking, cell.asked[-1]
        assert (heard.reasoning, heard.text) == (said.reasoning, "4"), heard
        if cell.vendor.kind in SIGNED or trait(cell, "signed"):
            cell.ask(HELLO, replace(ask, heard=heard, text="And three?"))
            assert cell.asked[-1].signature == said.signature, cell.asked[-1]


SIGNED = {"anthropic", "gemini", "bedrock"}
"""Vendors that want their own proof of thought back."""


def usage(cell: Cell) -> None:
    """Counts arrive in their buckets at the client and in the ledger, whole and streamed."""
    thought = 0 if trait(cell, "hides_reasoning_tokens") else 12
    tokens = Tokens(input=120, cached=80, output=42 - thought, reasoning=thought)
    for stream in (False, True):
        heard = cell.ask(replace(HELLO, tokens=tokens), Ask("", stream=stream))
        assert heard.tokens == tokens, heard
        told = cell.row()
        expected = {"input": 120, "cache_read": 80, "cache_write": 0, "output": 42 - thought, "reasoning": thought}
        assert (told["tokens"], told["usage_source"]) == (expected, "provider"), told


def errors(cell: Cell) -> None:
    """Statuses and messages of errors, in the client's own shape, before a stream too."""
    for stream in (False, True):
        for status in (400, 429, 500):
            message = f"The vendor says {status}."
            heard = cell.ask(Said(status=status, message=message), Ask("", stream=stream))
            assert (heard.status, message in heard.message) == (status, True), heard


def broken(cell: Cell) -> None:
    """A stream that is cut is an error at the client, never an end; what was written before has arrived."""
    whole = len(cell.vendor.events(HELLO, cell.model))
    heard = cell.ask(replace(HELLO, cut_after=whole - 3), Ask("", stream=True))
    assert heard.status == -1, heard
    assert heard.text, heard
    assert HELLO.text.startswith(heard.text), heard
    assert cell.row()["end"] == "upstream_error_partial", cell.row()


CASES: dict[str, Callable[[Cell], None]] = {
    "plain": plain,
    "stream": streamed,
    "tools": tools,
    "parallel tools": parallel,
    "images": images,
    "JSON schema": schema,
    "reasoning": reasoning,
    "usage": usage,
    "error": errors,
    "abort": broken,
}
