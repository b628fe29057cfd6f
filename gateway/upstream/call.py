"""One request to an upstream, from queue to last byte, and the sink that its answer flows into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.contract.snapshot import Timeouts
from gateway.errors import UpstreamFailure


class Sink(Protocol):
    """Takes an upstream's answer: `on_head` once, `on_data` any number of times, then `on_end` or `on_failure`.

    Called from the transport's callbacks; must not block or raise.
    """

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Status and headers by lower-case name (of a repeated one, the last)."""
        ...

    def on_data(self, data: bytes) -> None:
        """Body bytes as they arrived, transfer coding removed."""
        ...

    def on_end(self) -> None:
        """The body is complete."""
        ...

    def on_failure(self, failure: UpstreamFailure) -> None:
        """The answer will not come, or not to its end."""
        ...


class Channel(Protocol):
    """What carries a call just now: a connection, or a place in the queue."""

    def abort(self) -> None:
        """Stop: close the connection, or leave the queue."""
        ...

    def pause(self) -> None:
        """Stop reading from the upstream."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...


class Taker(Protocol):
    """Takes a body that is passed on while it arrives."""

    blocked: bool
    """It takes no more for now; `Source.pump` is called when it does."""

    def pass_on(self, data: bytes) -> None:
        """Send bytes of the body."""
        ...


class Source(Protocol):
    """Where a body comes from that is passed on while it arrives."""

    spent: bool
    """It cannot be sent again from its beginning."""

    @property
    def passed(self) -> bool:
        """Everything has gone out."""
        ...

    def attach(self, out: Taker) -> None:
        """Send to `out` from the beginning."""
        ...

    def detach(self) -> None:
        """Send no more."""
        ...

    def pump(self) -> None:
        """Go on sending."""
        ...


class UpstreamCall:
    """A request under way. Times are the event loop's seconds."""

    __slots__ = (
        "body", "channel", "content_seen", "cut", "done", "head", "last_data", "on_done", "paused", "response_limit",
        "sent_at", "sink", "size", "started", "timeouts", "upload",
    )  # fmt: skip

    def __init__(
        self,
        head: bytes,
        body: list[bytes],
        size: int,
        sink: Sink,
        timeouts: Timeouts,
        response_limit: int,
        now: float,
        on_done: Callable[[UpstreamCall], None],
        upload: Source | None = None,
    ) -> None:
        self.head = head
        """Request line and headers, with the empty line."""
        self.body = body
        self.size = size
        """Of the body, in bytes."""
        self.upload = upload
        """Where the body comes from, if it is passed on while it arrives; `body` is empty then."""
        self.sink = sink
        self.timeouts = timeouts
        self.response_limit = response_limit
        """Most body bytes that the answer may have."""
        self.started = now
        self.sent_at = 0.0
        self.last_data = now
        self.content_seen = False
        """Set by the sink: from then on the idle time-out counts, before it the first-byte time-out."""
        self.cut = False
        """The end of the answer was the end of the connection: whether that is all, only the content can tell."""
        self.paused = False
        self.channel: Channel | None = None
        self.done = False
        self.on_done = on_done

    def end(self) -> None:
        """The answer is complete."""
        if not self.done:
            self._finish()
            self.sink.on_end()

    def fail(self, failure: UpstreamFailure) -> None:
        """The answer will not come."""
        if not self.done:
            self._finish()
            self.sink.on_failure(failure)

    def abort(self) -> None:
        """Nobody wants the answer any more: close the upstream's connection. The sink hears nothing further."""
        if not self.done:
            channel = self.channel
            self._finish()
            if channel is not None:
                channel.abort()

    def pause(self) -> None:
        """The client cannot keep up: stop reading."""
        self.paused = True
        if self.channel is not None:
            self.channel.pause()

    def resume(self) -> None:
        """The client can take more."""
        self.paused = False
        if self.channel is not None:
            self.channel.resume()

    def check_time(self, now: float) -> None:
        """Fail the call if one of its time-outs has passed."""
        limits = self.timeouts
        if now - self.started > limits.total:
            self._timeout(f"did not finish within {limits.total:g} s")
        elif not self.sent_at:
            return  # the queue and the connect phase have clocks of their own
        elif not self.content_seen:
            if now - self.sent_at > limits.first_byte:
                self._timeout(f"sent no content within {limits.first_byte:g} s")
        elif now - self.last_data > limits.idle and not self.paused:
            self._timeout(f"fell silent for {limits.idle:g} s")

    def _timeout(self, what: str) -> None:
        channel = self.channel
        self.fail(UpstreamFailure("provider_timeout", f"The upstream {what}."))
        if channel is not None:
            channel.abort()

    def _finish(self) -> None:
        self.done = True
        self.channel = None
        if self.upload is not None:
            self.upload.detach()
        self.on_done(self)
