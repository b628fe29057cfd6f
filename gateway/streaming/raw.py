"""Replies that are no JSON: sound, images, files, transcripts as text. They pass as they come, and nothing is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import UpstreamFailure
from gateway.streaming import find
from gateway.streaming.body import TAIL_BYTES

if TYPE_CHECKING:
    from gateway.streaming.reply import Reply


class RawRelay:
    """See the module. The first byte is the commit point."""

    tells_events = False

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._held: list[bytes] = []
        self._tail = b""

    def release(self) -> tuple[bytes, int | None]:
        """(bytes held back so far, length of the whole body if the upstream stated it)."""
        held, self._held = b"".join(self._held), []
        headers = self._reply.headers
        stated = headers.get(b"content-length") if b"content-encoding" not in headers else None
        return held, int(stated) if stated is not None else None

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The head came before."""

    def on_data(self, data: bytes) -> None:
        """Pass on."""
        reply = self._reply
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        if not reply.committed:
            self._held.append(data)
            reply.ready()
        elif not reply.client_left:
            reply.exchange.write(data)

    def on_end(self) -> None:
        """All has passed; an empty file is one too. Where only the end of the connection says so, that is the end
        (RFC 9112, section 8): what came holds nothing that could tell otherwise.
        """
        reply = self._reply
        raw = find.last_object(self._tail, reply.wire.usage_key)
        if raw is not None:
            reply.ctx.usage = reply.wire.usage(raw)
        reply.done()
        reply.ready()

    def on_failure(self, failure: UpstreamFailure) -> None:
        """Cut short."""
        self._reply.fail(failure)

    def estimate(self) -> int:
        """What is no text has no tokens to guess."""
        return 0
