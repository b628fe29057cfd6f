"""Plays a dummy provider's script into a sink, as a connection would."""

from __future__ import annotations

import asyncio

from gateway.providers.dummy import Script
from gateway.upstream.call import UpstreamCall


class Player:
    """A call's channel while a script plays."""

    __slots__ = ("_call", "_loop", "_script", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, call: UpstreamCall, script: Script) -> None:
        self._loop = loop
        self._call = call
        self._script = script
        self._timer: asyncio.Handle | None = None

    def abort(self) -> None:
        """Stop playing."""
        if self._timer is not None:
            self._timer.cancel()

    def pause(self) -> None:
        """A script makes no more than a few kilobytes: it does not wait for a slow client."""

    def resume(self) -> None:
        """See `pause`."""

    def begin(self) -> None:
        """Send the head and the first part."""
        self._call.sink.on_head(self._script.status, dict(self._script.headers))
        self._next()

    def _next(self) -> None:
        part = next(self._script.parts, None)
        if part is None:
            self._call.end()
            return
        delay, data = part
        self._timer = (
            self._loop.call_later(delay, self._send, data) if delay else self._loop.call_soon(self._send, data)
        )

    def _send(self, data: bytes) -> None:
        if not self._call.done:
            self._call.last_data = self._loop.time()
            self._call.sink.on_data(data)
            self._next()


def play(loop: asyncio.AbstractEventLoop, call: UpstreamCall, script: Script) -> None:
    """Answer a call by a script."""
    player = Player(loop, call, script)
    call.channel = player
    call.sent_at = loop.time()
    loop.call_soon(player.begin)
