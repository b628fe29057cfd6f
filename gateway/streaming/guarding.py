"""The guard of a route over one answer: its texts pass through the rules as they come, and masks become what they
stand for.

What may be half of a match is held back, and no more: prose flows at once. Arguments of a tool are held until they are
whole, since they are JSON that is looked through value by value. Log probabilities are left out: they would tell the
text another way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from gateway.guarded import RESTORING, Change, Guarded, in_arguments, mapped
from gateway.protocols.canonical import (
    BlockEnd,
    CitationDelta,
    Delta,
    Finished,
    MediaDelta,
    Refusal,
    RefusalDelta,
    Reply as Answer,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolDelta,
    ToolStart,
)  # fmt: skip
from gateway.protocols.collect import Collector, deltas_of
from gateway.redact import Rule, Scan, replaced

_TEXTS = (TextDelta, ThinkingDelta, RefusalDelta)
_SPACE = " \t\r\n"


class Gate:
    """For one answer. Its methods raise GatewayError(policy_guard) where the answer must not go on."""

    __slots__ = ("_arguments", "_changes", "_guarded", "_open", "_texts")

    def __init__(self, guarded: Guarded) -> None:
        self._guarded = guarded
        blocking, masking = guarded.guard.answer_rules
        self._changes: list[tuple[Rule, Change]] = [(rule, guarded.blocking(rule.kind, "answer")) for rule in blocking]
        self._changes += [(rule, guarded.masking_answer(rule.kind)) for rule in masking]
        if guarded.vault and not guarded.guard.judges("answer"):  # who judges an answer sees its masks
            self._changes.append((RESTORING, guarded.restore))
        self._open: dict[int, tuple[type[Any], list[Scan]]] = {}
        """Choice -> what is being written of it, and its scans."""
        self._arguments: dict[tuple[int, int], list[str]] = {}
        """(choice, call) -> its arguments so far."""
        self._texts: dict[int, list[str]] = {}
        """Choice -> its text so far, where it must be JSON."""

    def sift(self, deltas: Iterable[Delta]) -> list[Delta]:
        """What of it the client may have by now."""
        kept: list[Delta] = []
        for delta in deltas:
            if isinstance(delta, _TEXTS):
                kept += self._text(delta)
            elif isinstance(delta, ToolDelta):
                self._arguments.setdefault((delta.choice, delta.call), []).append(delta.arguments)
            elif isinstance(delta, CitationDelta):
                kept.append(delta._replace(citation=mapped(delta.citation, self._whole, data=True)))
            elif isinstance(delta, ToolStart | BlockEnd | MediaDelta | Finished):
                kept += self._ended(delta.choice)
                if isinstance(delta, Finished):
                    self._check_json(delta.choice)
                kept.append(delta)
            else:
                kept.append(delta)
        return kept

    def end(self) -> list[Delta]:
        """What is still held when the answer ends."""
        choices = {*self._open, *(choice for choice, _ in self._arguments)}
        return [delta for choice in sorted(choices) for delta in self._ended(choice)]

    def whole(self, answer: Answer) -> Answer:
        """A whole answer."""
        collector = Collector()
        for delta in [*self.sift(deltas_of(answer)), *self.end()]:
            collector.add(delta)
        return collector.reply

    def _text(self, delta: Any) -> list[Delta]:
        kept: list[Delta] = []
        kind, choice = type(delta), delta.choice
        if choice not in self._open or self._open[choice][0] is not kind:
            kept += self._ended(choice)
            self._open[choice] = (kind, [Scan(rule, put) for rule, put in self._changes])
        text = delta.text
        for scan in self._open[choice][1]:
            text = scan.feed(text)
        if kind is ThinkingDelta and (delta.signature is not None or delta.redacted is not None):
            return [
                *kept,
                *self._told(ThinkingDelta(text, choice=choice)),
                *self._ended(choice),
                delta._replace(text=""),
            ]
        return kept + self._told(delta._replace(text=text))

    def _told(self, delta: Any) -> list[Delta]:
        """A delta without log probabilities, if it has any text."""
        if not delta.text:
            return []
        if isinstance(delta, TextDelta):
            if self._guarded.guard.spec.json_answer:
                self._note_json(delta.choice, delta.text)
            return [delta._replace(logprobs=None)]
        return [delta]

    def _ended(self, choice: int) -> list[Delta]:
        """What was held of a choice: what was being written is complete."""
        kept: list[Delta] = []
        if choice in self._open:
            kind, scans = self._open.pop(choice)
            text = ""
            for scan in scans:
                text = scan.feed(text) + scan.end()
            kept += self._told(kind(text=text, choice=choice))
        for key in [key for key in self._arguments if key[0] == choice]:
            text = in_arguments("".join(self._arguments.pop(key)), self._whole)
            kept.append(ToolDelta(key[1], text, choice))
        return kept

    def _whole(self, text: str) -> str:
        """A text that is all there, behind the rules."""
        for rule, put in self._changes:
            text = replaced(rule, text, put)
        return text

    def _note_json(self, choice: int, text: str) -> None:
        so_far = self._texts.setdefault(choice, [])
        if not so_far:
            text = text.lstrip(_SPACE)
            if text and text[0] not in "{[":  # it need not be whole to be none
                raise self._guarded.block("json", "answer")
        if text:
            so_far.append(text)

    def _check_json(self, choice: int) -> None:
        if choice not in self._texts:
            return
        try:
            orjson.loads("".join(self._texts.pop(choice)))
        except orjson.JSONDecodeError:
            raise self._guarded.block("json", "answer") from None


def texts_of(answer: Answer) -> list[str]:
    """The texts of a whole answer, in their order: those that `with_texts` replaces."""
    return [_text_of(block) for block in _blocks(answer)]


def with_texts(answer: Answer, texts: list[str]) -> None:
    """Put other texts into an answer."""
    for block, text in zip(_blocks(answer), texts, strict=True):
        if isinstance(block, ToolCall):
            block.arguments = text
        else:
            block.text = text


def restore(guarded: Guarded, answer: Answer) -> None:
    """Put what masks stand for into a whole answer."""
    if guarded.vault:
        for block in _blocks(answer):
            if isinstance(block, ToolCall):
                block.arguments = in_arguments(block.arguments, guarded.restored)
            else:
                block.text = guarded.restored(block.text)


def _blocks(answer: Answer) -> list[Text | Thinking | Refusal | ToolCall]:
    return [
        block
        for choice in answer.choices
        for block in choice.blocks
        if isinstance(block, Text | Thinking | Refusal | ToolCall) and _text_of(block)
    ]


def _text_of(block: Text | Thinking | Refusal | ToolCall) -> str:
    return block.arguments if isinstance(block, ToolCall) else block.text
