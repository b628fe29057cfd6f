"""Answers in another dialect than the client's: every event and every body is read and written anew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import orjson

from gateway.errors import GatewayError, UpstreamFailure
from gateway.protocols.base import BadReply, Writer
from gateway.protocols.canonical import (
    CONTENT,
    BlockEnd,
    Broken,
    Delta,
    Document,
    RefusalDelta,
    Reply as Answer,
    Start,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolDelta,
    UsageNow,
)  # fmt: skip
from gateway.protocols.collect import Collector, deltas_of
from gateway.protocols.tasks.base import Task
from gateway.protocols.translation import Translation
from gateway.streaming.body import failure_in
from gateway.streaming.consultation import Sieve
from gateway.streaming.events import EVENT_BYTES, HELD_BYTES
from gateway.streaming.guarding import Gate

if TYPE_CHECKING:
    from gateway.streaming.reply import Reply


JUDGED_CHARS = 4_194_304
"""Most of an answer that is held until it is judged."""


class TranslatedEvents:
    """A stream: events become deltas, deltas become the client's events. See `gateway.streaming.events`."""

    tells_events = True

    def __init__(self, reply: Reply, translation: Translation) -> None:
        self._reply = reply
        self._framer = translation.outbound.framer(EVENT_BYTES)
        self._reader = translation.outbound.reader(translation.usage)
        self._writer = _writer(reply, translation)
        consultation = reply.ctx.consultation
        self._sieve = Sieve(consultation) if consultation is not None else None
        guarded = reply.ctx.guarded
        self._gate = Gate(guarded) if guarded is not None and guarded.reads_answers else None
        self._collector = Collector() if guarded is not None and guarded.guard.judges("answer") else None
        """Holds an answer that somebody judges before any of it is told."""
        self.answer: Answer | None = None
        """The whole of it, once it is there."""
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._text = 0
        """Characters of generated text so far."""

    def release(self) -> tuple[bytes, int | None]:
        """(events held back so far, no length)."""
        held, self._held = b"".join(self._held), []
        return held, None

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The head came before."""

    def on_data(self, data: bytes) -> None:
        """Frame, read, write, and hold or pass on."""
        if self._reply.over:
            return
        try:
            self._events(self._framer.feed(data))
        except (ValueError, BadReply) as exc:
            self._bad(exc)
        except GatewayError as error:
            self._reply.ctx.usage = None  # what is told so far is not what it comes to
            self._reply.blocked(error)

    def on_end(self) -> None:
        """The upstream is through: the client's last events wait until the request is settled."""
        reply = self._reply
        if reply.over:
            return
        try:
            self._events(self._framer.rest())
            self._take(self._reader.end())
            if self._gate is not None:
                self._tell(self._gate.end())
        except (ValueError, BadReply) as exc:
            self._bad(exc)
            return
        except GatewayError as error:
            reply.blocked(error)
            return
        if reply.over:
            return
        if self._sieve is not None and self._sieve.asks():
            reply.ready()
            reply.done()
        elif self._collector is not None and any(choice.blocks for choice in self._collector.reply.choices):
            self.answer = self._collector.reply
            reply.done()
            reply.ready()
        elif not reply.first.done:
            text = "The upstream's stream ended without any content."
            reply.fail(UpstreamFailure("provider_bad_reply", text))
        else:
            reply.last += self._writer.end()
            reply.done()

    def on_failure(self, failure: UpstreamFailure) -> None:
        """Cut short."""
        self._reply.fail(failure)

    def judged(self, answer: Answer) -> None:
        """The answer that was held, as the client may have it."""
        answer.usage = self._reply.ctx.usage
        self._held.append(b"".join(map(self._writer.write, deltas_of(answer))))
        self._reply.last += self._writer.end()

    def estimate(self) -> int:
        """Output tokens: a quarter of the text."""
        return max(self._text // 4, 1 if self._text else 0)

    def _events(self, events: list[bytes]) -> None:
        for event in events:
            self._take(self._reader.read(event))
        if not self._reply.first.done:
            self._held_bytes += sum(map(len, events))
            if self._collector is not None:
                if self._text > JUDGED_CHARS:
                    raise BadReply(f"is longer than {JUDGED_CHARS} characters, and is judged as a whole")
            elif self._held_bytes > HELD_BYTES:
                self._send(self._ready())

    def _take(self, deltas: list[Delta]) -> None:
        reply, sieve = self._reply, self._sieve
        if sieve is not None:
            deltas = sieve.sift(deltas)
        self._text += sum(map(_size, deltas))
        if self._gate is not None:
            deltas = self._gate.sift(deltas)
        if reply.call is not None and ((sieve is not None and sieve.hidden) or (self._gate is not None and self._text)):
            reply.call.content_seen = True  # the model is at work, though no client hears of it
        self._tell(deltas)

    def _tell(self, deltas: list[Delta]) -> None:
        reply, out = self._reply, b""
        for delta in deltas:
            if reply.over:
                return
            if isinstance(delta, UsageNow):
                reply.ctx.usage = delta.usage
            elif isinstance(delta, Start):
                reply.ctx.usage = delta.usage or reply.ctx.usage
            elif isinstance(delta, Broken):
                self._send(out)
                reply.fail(failure_in({"message": delta.message, "code": delta.status}, reply))
                return
            if self._collector is not None:
                self._collector.add(delta)
                continue
            if not reply.first.done and isinstance(delta, CONTENT):
                out += self._ready()
            out += self._writer.write(delta)
        self._send(out)

    def _ready(self) -> bytes:
        """The commit point is reached; what comes before the rest: what was written before a search is complete."""
        self._reply.ready()
        consultation, ended = self._reply.ctx.consultation, b""
        if consultation is not None:
            if consultation.writer is not None:
                ended = self._writer.write(BlockEnd())
            consultation.writer = self._writer
        return ended

    def _send(self, block: bytes) -> None:
        reply = self._reply
        if not reply.committed:
            self._held.append(block)
        elif block and not reply.client_left:
            reply.exchange.write(block)

    def _bad(self, exc: Exception) -> None:
        self._reply.fail(UpstreamFailure("provider_bad_reply", f"The upstream's stream {exc}."))


class WrittenAnew(ABC):
    """A whole answer. It is held in full: the endpoint's `max_response_bytes` bounds it."""

    tells_events = False

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._parts: list[bytes] = []
        self.body = b""
        """The whole body for the client."""

    @abstractmethod
    def _read(self, document: Document) -> None:
        """Read the answer, and write it in the client's dialect. Raises BadReply."""

    @abstractmethod
    def estimate(self) -> int:
        """Output tokens, if the upstream tells none."""

    def release(self) -> tuple[bytes, int | None]:
        """A client that waits for a stream gets the whole answer as one."""
        return self.body, None

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:  # noqa: B027  (a Sink's, and rightly empty)
        """The head came before."""

    def on_data(self, data: bytes) -> None:
        """Collect."""
        self._parts.append(data)

    def on_end(self) -> None:
        """Read it, and write it in the client's dialect."""
        reply = self._reply
        try:
            document = orjson.loads(b"".join(self._parts))
        except orjson.JSONDecodeError:
            document = None
        if not isinstance(document, dict):
            reply.fail(
                UpstreamFailure("provider_bad_reply", "The upstream answered with status 200 and no JSON object.")
            )
            return
        if document.get("error"):
            reply.fail(failure_in(document["error"], reply))
            return
        try:
            self._read(document)
        except BadReply as exc:
            reply.fail(UpstreamFailure("provider_bad_reply", f"The upstream's answer {exc}."))
            return
        except GatewayError as error:
            reply.blocked(error)
            return
        reply.done()
        reply.ready()

    def on_failure(self, failure: UpstreamFailure) -> None:
        """Cut short."""
        self._reply.fail(failure)


class TranslatedBody(WrittenAnew):
    """A conversation's."""

    def __init__(self, reply: Reply, translation: Translation) -> None:
        super().__init__(reply)
        self._translation = translation
        self._text = 0
        self.answer: Answer | None = None
        """One that somebody judges before it is told."""
        self.tells_events = translation.request.stream

    def _read(self, document: Document) -> None:
        reply, translation = self._reply, self._translation
        answer = translation.outbound.read_reply(document, translation.usage)
        self._text = _length(answer)
        consultation = reply.ctx.consultation
        if consultation is not None:
            sieve = Sieve(consultation)
            answer = sieve.whole(answer)
            if sieve.asks():
                reply.ctx.usage = answer.usage
                return
        reply.ctx.usage = answer.usage
        guarded = reply.ctx.guarded
        if guarded is not None and guarded.reads_answers:
            answer = Gate(guarded).whole(answer)
            if guarded.guard.judges("answer"):
                self.answer, reply.whole = answer, not translation.request.stream
                return
        self.judged(answer)

    def judged(self, answer: Answer) -> None:
        """The answer, as the client may have it."""
        reply, translation, consultation = self._reply, self._translation, self._reply.ctx.consultation
        if translation.request.stream:
            writer = _writer(reply, translation)
            begun = consultation is not None and consultation.writer is not None
            deltas = list(deltas_of(answer))
            if begun:
                deltas[:1] = [BlockEnd()]  # it began with the answer before, whose last block is complete
            self.body = b"".join(map(writer.write, deltas))
            reply.last = writer.end()
        else:
            self.body = translation.inbound.write_reply(answer, translation.request, translation.origin)
            reply.whole = True

    def estimate(self) -> int:
        """Output tokens: a quarter of the text."""
        return max(1, self._text // 4)


class TaskBody(WrittenAnew):
    """A task's."""

    def __init__(self, reply: Reply, task: Task) -> None:
        super().__init__(reply)
        self._task = task

    def _read(self, document: Document) -> None:
        task = self._task
        answer = task.target.read(document, task.request)
        self._reply.ctx.usage = answer.usage
        self.body = task.inbound.write(answer, task.request, task.origin)
        self._reply.whole = True

    def estimate(self) -> int:
        """It writes no text."""
        return 0


def _writer(reply: Reply, translation: Translation) -> Writer:
    """Of the client's stream: it may have begun with an earlier answer."""
    consultation = reply.ctx.consultation
    if consultation is None or consultation.writer is None:
        return translation.inbound.writer(translation.request, translation.origin)
    return consultation.writer


def _size(delta: Delta) -> int:
    """Characters of generated text."""
    if isinstance(delta, TextDelta | ThinkingDelta | RefusalDelta):
        return len(delta.text)
    return len(delta.arguments) if isinstance(delta, ToolDelta) else 0


def _length(answer: Answer) -> int:
    """Characters of generated text."""
    blocks = [block for choice in answer.choices for block in choice.blocks]
    return sum(
        len(block.arguments) if isinstance(block, ToolCall) else len(block.text)
        for block in blocks
        if isinstance(block, Text | Thinking | ToolCall)
    )
