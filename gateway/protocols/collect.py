"""From a whole answer to the stream that it could have been, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gateway.protocols.canonical import (
    Block,
    BlockEnd,
    Broken,
    Choice,
    CitationDelta,
    Delta,
    Document,
    Finished,
    Media,
    MediaDelta,
    Refusal,
    RefusalDelta,
    Reply,
    Start,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolDelta,
    ToolStart,
    UsageNow,
)  # fmt: skip


def deltas_of(reply: Reply) -> Iterator[Delta]:
    """A whole answer as the stream that it could have been."""
    yield Start(reply.id, reply.model, None, reply.service_tier)
    for at, choice in enumerate(reply.choices):
        calls = 0
        logprobs = choice.logprobs
        for block in choice.blocks:
            if isinstance(block, Text):
                yield TextDelta(block.text, at, logprobs)
                logprobs = None  # they are of all its text
                yield from (CitationDelta(one, at) for one in block.citations)
            elif isinstance(block, Thinking):
                yield ThinkingDelta(block.text, block.signature, block.redacted, at, block.id)
            elif isinstance(block, Refusal):
                yield RefusalDelta(block.text, at)
            elif isinstance(block, Media):
                yield MediaDelta(block, at)
            elif isinstance(block, ToolCall):
                yield ToolStart(calls, block.id, block.name, at, block.signature)
                yield ToolDelta(calls, block.arguments, at)
                calls += 1
            yield BlockEnd(at)
        yield Finished(choice.finish or "stop", choice.stop_sequence, at)
    if reply.usage is not None:
        yield UsageNow(reply.usage)


class Collector:
    """Puts a stream's deltas together to the whole answer: the inverse of `deltas_of`."""

    def __init__(self) -> None:
        self.reply = Reply("", "", [])
        self._open: dict[int, Block | None] = {}
        self._calls: dict[tuple[int, int], ToolCall] = {}

    def add(self, delta: Delta) -> None:
        """Take one more delta; `Broken` is not an answer and is left out."""
        reply = self.reply
        if isinstance(delta, Start):
            reply.id, reply.model, reply.service_tier = delta.id, delta.model, delta.service_tier
            reply.usage = delta.usage or reply.usage
        elif isinstance(delta, UsageNow):
            reply.usage = delta.usage
        elif not isinstance(delta, Broken):
            self._part(self._choice(delta.choice), delta)

    def _choice(self, index: int) -> Choice:
        choices = self.reply.choices
        while len(choices) <= index:
            choices.append(Choice([]))
        return choices[index]

    def _part(self, choice: Choice, delta: Any) -> None:
        at = delta.choice
        if isinstance(delta, BlockEnd):
            self._open[at] = None
        elif isinstance(delta, Finished):
            choice.finish, choice.stop_sequence = delta.reason, delta.stop_sequence
        elif isinstance(delta, TextDelta):
            text = self._current(choice, at, Text)
            text.text += delta.text
            _join_logprobs(choice, delta.logprobs)
        elif isinstance(delta, CitationDelta):
            self._cited(choice, at).citations.append(delta.citation)
        elif isinstance(delta, RefusalDelta):
            self._current(choice, at, Refusal).text += delta.text
        elif isinstance(delta, ThinkingDelta):
            self._think(choice, at, delta)
        elif isinstance(delta, MediaDelta):
            choice.blocks.append(delta.media)
            self._open[at] = None
        elif isinstance(delta, ToolStart):
            call = ToolCall(delta.id, delta.name, "", delta.signature)
            self._calls[at, delta.call] = call
            choice.blocks.append(call)
            self._open[at] = call
        elif isinstance(delta, ToolDelta):
            self._calls[at, delta.call].arguments += delta.arguments

    def _current(self, choice: Choice, at: int, kind: Any) -> Any:
        block = self._open.get(at)
        if not isinstance(block, kind):
            block = kind(text="")
            choice.blocks.append(block)
            self._open[at] = block
        return block

    def _cited(self, choice: Choice, at: int) -> Text:
        """The text that is being written, else the last one: some dialects tell what it cites at the very end."""
        texts = [block for block in choice.blocks if isinstance(block, Text)]
        last: Text = texts[-1] if texts else self._current(choice, at, Text)
        return last

    def _think(self, choice: Choice, at: int, delta: ThinkingDelta) -> None:
        if delta.redacted is not None:
            choice.blocks.append(Thinking(redacted=delta.redacted, id=delta.id))
            self._open[at] = None
            return
        block = self._current(choice, at, Thinking)
        block.text += delta.text
        block.id = delta.id or block.id
        if delta.signature is not None:
            block.signature = (block.signature or "") + delta.signature


def _join_logprobs(choice: Choice, more: Document | None) -> None:
    if more is None:
        return
    if choice.logprobs is None:
        choice.logprobs = {"content": [], "refusal": None}
    choice.logprobs["content"] = (choice.logprobs.get("content") or []) + (more.get("content") or [])
