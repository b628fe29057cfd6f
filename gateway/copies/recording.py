"""Where an answer goes beside, or instead of, a client: bytes are kept as they came, by reference, up to a limit."""

from __future__ import annotations

from collections.abc import Callable

from gateway.context import Operation
from gateway.errors import GatewayError
from gateway.server.exchange import Exchange
from gateway.streaming.reply import Reply

Hook = Callable[[], None] | None


class Recording:
    """The beginning of one answer."""

    __slots__ = ("_limit", "cut", "pieces", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.pieces: list[bytes] = []
        self.size = 0
        self.cut = False
        """More came than is kept."""

    def add(self, data: bytes) -> None:
        """Keep what fits."""
        room = self._limit - self.size
        if len(data) > room:
            self.cut = True
            data = data[:room]
        if data:
            self.pieces.append(data)
            self.size += len(data)

    def end(self, reply: Reply | None, failure: GatewayError | None) -> None:
        """What a client gets at the end: the last events, or the error in place of an answer."""
        if failure is not None and (reply is None or not reply.committed):
            self.add(failure.body)
        elif reply is not None:
            self.add(reply.last)
            if reply.failure is not None and not reply.failure_told and self.pieces[:1] and is_event(self.pieces[0]):
                self.add(reply.failure.event)


def is_event(data: bytes) -> bool:
    """Whether bytes begin as a stream of server-sent events does."""
    return data.startswith((b"data:", b":", b"event:", b"id:", b"retry:"))


class Tee(Exchange):
    """A client's exchange, for a reply that is relayed to it and recorded."""

    __slots__ = ("_client", "_recording")

    def __init__(self, client: Exchange, recording: Recording) -> None:
        self._client = client
        self._recording = recording

    def begin(self, status: int, lines: bytes, first: bytes, length: int | None = None) -> None:
        """See `Exchange.begin`."""
        self._recording.add(first)
        self._client.begin(status, lines, first, length)

    def write(self, data: bytes) -> None:
        """See `Exchange.write`."""
        self._recording.add(data)
        self._client.write(data)

    @property
    def paused(self) -> bool:  # type: ignore[override]  # the connection sets it on the client's own exchange
        """The client reads more slowly than we write."""
        return self._client.paused

    def _set_on_gone(self, hook: Hook) -> None:
        self._client.on_gone = hook

    def _set_on_pause(self, hook: Hook) -> None:
        self._client.on_pause = hook

    def _set_on_resume(self, hook: Hook) -> None:
        self._client.on_resume = hook

    on_gone = property(None, _set_on_gone)
    on_pause = property(None, _set_on_pause)
    on_resume = property(None, _set_on_resume)


class Nobody(Exchange):
    """Stands for a client that does not exist: it never leaves, and never falls behind."""

    __slots__ = ("_recording",)

    def __init__(
        self, operation: Operation, headers: dict[bytes, bytes], body: bytes, recording: Recording | None
    ) -> None:
        self.operation, self.headers, self.body, self.peer = operation, headers, body, ""
        self.gone = self.paused = self.started = self.complete = False
        self.upload = None
        self.on_gone = self.on_pause = self.on_resume = None
        self._recording = recording

    def begin(self, status: int, lines: bytes, first: bytes, length: int | None = None) -> None:
        """See `Exchange.begin`."""
        self.started = True
        self.write(first)

    def write(self, data: bytes) -> None:
        """Record it, or forget it."""
        if self._recording is not None:
            self._recording.add(data)
