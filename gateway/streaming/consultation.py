"""A model that looks things up itself: it calls a tool that the gateway has given it, and no client sees that.

An answer that calls this tool, and no other, is not the client's yet: it becomes a turn of the conversation, the
passages become the next one, and the model is asked again. An answer that calls a tool of the client's too goes to the
client without ours; the model may search again in its next turn. What a model says before it searches reaches the
client of a stream, which cannot be taken back; a whole answer is the last one alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from gateway.protocols.base import Writer
from gateway.protocols.canonical import (
    BlockEnd,
    Delta,
    Finished,
    Message,
    Reply as Answer,
    Request,
    Start,
    Tool,
    ToolCall,
    ToolDelta,
    ToolResult,
    ToolStart,
    Usage,
    UsageNow,
)  # fmt: skip
from gateway.protocols.collect import Collector, deltas_of

NAME = "search_knowledge"
ROUNDS = 4
"""Times that a model may search before it must answer."""
_SCHEMA = {
    "type": "object",
    "properties": {"query": {"type": "string", "description": "What to look for, in full words."}},
    "required": ["query"],
    "additionalProperties": False,
}


class Consultation:
    """One request's."""

    __slots__ = ("_about", "_turns", "asked", "cost", "estimated", "name", "rounds", "spent", "writer")

    def __init__(self, about: str, taken: Iterable[str]) -> None:
        """`about` says what there is to be found; `taken` are names of the client's own tools."""
        self._about = about
        self._turns: list[Message] = []
        self.name = NAME
        while self.name in taken:
            self.name += "_"
        self.asked: list[ToolCall] = []
        """What the model wants to know; answered by `answered`."""
        self.rounds = 0
        """Answers so far that were questions."""
        self.spent = Usage()
        """Tokens of these."""
        self.estimated = False
        """Some of them, since a provider did not tell."""
        self.cost = 0
        """What they cost, in nano-units."""
        self.writer: Writer | None = None
        """Of the client's stream, once it has got something."""

    def continued(self, request: Request) -> Request:
        """The client's request with the tool, and with what was asked and found so far."""
        tool = Tool(self.name, f"Search the company's documents. {self._about}".strip(), _SCHEMA)
        return replace(request, tools=[*request.tools, tool], messages=[*request.messages, *self._turns])

    def total(self, usage: Usage) -> Usage:
        """The tokens of all rounds, `usage` being this one's."""
        return Usage(*(before + now for before, now in zip(self.spent, usage, strict=True)))

    def since(self, usage: Usage) -> Usage:
        """What `usage`, of all rounds, has beyond the earlier ones."""
        return Usage(*(max(0, now - before) for before, now in zip(self.spent, usage, strict=True)))

    def takes(self, answer: Answer) -> bool:
        """Whether an answer is a question to the bases; if so, it is the next turn."""
        blocks = answer.choices[0].blocks if answer.choices else []
        calls = [block for block in blocks if isinstance(block, ToolCall)]
        own = [call for call in calls if call.name == self.name]
        if not own or len(own) < len(calls) or self.rounds == ROUNDS:
            return False
        self.asked = own
        self._turns.append(Message("assistant", list(blocks)))
        return True

    def answered(self, results: list[ToolResult], usage: Usage, cost: int) -> None:
        """What was found for `asked`. `usage` is that of all rounds so far, `cost` that of the last one."""
        self._turns.append(Message("tool", list(results)))
        self.asked = []
        self.rounds += 1
        self.spent = usage
        self.cost += cost


class Sieve:
    """Takes the tool's calls out of one answer, and adds to its counts those of the answers before."""

    __slots__ = ("_consultation", "_hiding", "_numbers", "_seen", "hidden")

    def __init__(self, consultation: Consultation) -> None:
        self._consultation = consultation
        self._seen: list[Delta] = []
        self._numbers: dict[int, int] = {}
        """Of the client's tools: the model's number of a call -> the client's."""
        self._hiding = False
        """What is being written is no client's."""
        self.hidden = False
        """The tool was called."""

    def sift(self, deltas: Iterable[Delta]) -> list[Delta]:
        """What of it is the client's."""
        kept = []
        for delta in deltas:
            self._seen.append(delta)
            one = self._kept(delta)
            if one is not None:
                kept.append(one)
        return kept

    def asks(self) -> bool:
        """Whether the answer, which has ended, was a question to the bases: see `Consultation.takes`."""
        if not self.hidden:
            return False
        collector = Collector()
        for delta in self._seen:
            collector.add(delta)
        return self._consultation.takes(collector.reply)

    def whole(self, answer: Answer) -> Answer:
        """A whole answer without the tool's calls."""
        collector = Collector()
        for delta in self.sift(deltas_of(answer)):
            collector.add(delta)
        return collector.reply

    def _kept(self, delta: Delta) -> Delta | None:
        going_on = self._consultation.writer is not None
        if isinstance(delta, Start):
            usage = self._consultation.total(delta.usage) if delta.usage is not None else None
            if going_on:  # the client's stream began with the answer before
                return UsageNow(usage) if usage is not None else None
            return delta._replace(usage=usage)
        if isinstance(delta, UsageNow):
            return UsageNow(self._consultation.total(delta.usage))
        if isinstance(delta, ToolStart):
            self._hiding = delta.name == self._consultation.name
            self.hidden |= self._hiding
            return None if self._hiding else delta._replace(call=self._number(delta.call))
        if isinstance(delta, ToolDelta):
            return delta._replace(call=self._numbers[delta.call]) if delta.call in self._numbers else None
        if isinstance(delta, BlockEnd):
            hiding, self._hiding = self._hiding, False
            return None if hiding else delta
        if isinstance(delta, Finished):
            return self._finished(delta)
        self._hiding = False
        return delta

    def _finished(self, delta: Finished) -> Finished | None:
        if not self.hidden or self._numbers:
            return delta
        return None if self._consultation.rounds < ROUNDS else delta._replace(reason="stop")

    def _number(self, call: int) -> int:
        return self._numbers.setdefault(call, len(self._numbers))
