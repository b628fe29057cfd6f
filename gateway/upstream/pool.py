"""The connections to one endpoint: reused last-in first-out, bounded, with a bounded queue in front.

Many a fault is invisible until a connection is used again: a reused connection that closes before any byte of the
answer costs one silent retry on a new one (RFC 9110, section 9.2.2 leaves that to whoever knows the application; an
upstream that closes an idle connection has not read the request).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

from gateway.errors import UpstreamFailure
from gateway.runtime import Endpoint
from gateway.upstream.call import UpstreamCall
from gateway.upstream.connect import connect, tls_context
from gateway.upstream.connection import UpstreamConnection


class Waiting:
    """A call's channel while it has no connection: aborting it leaves the queue."""

    __slots__ = ("call", "since")

    def __init__(self, call: UpstreamCall, since: float) -> None:
        self.call = call
        self.since = since

    def abort(self) -> None:
        """Nothing to close: whoever serves the queue skips calls that are done."""

    def pause(self) -> None:
        """Nothing is read yet."""

    def resume(self) -> None:
        """Nothing is read yet."""


class Pool:
    """See the module. `endpoint` is replaced when a snapshot changes only what connections do not depend on."""

    def __init__(self, endpoint: Endpoint, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint = endpoint
        self.now = loop.time
        self.soon = loop.call_soon
        self._loop = loop
        self._tls = tls_context(endpoint)
        self._idle: list[UpstreamConnection] = []
        self._open = 0
        """Connections that exist or are being made."""
        self._queue: deque[Waiting] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self.active: set[UpstreamCall] = set()
        self.forget = self.active.discard
        self.retired = False
        self.certificate_expires: float | None = None
        """Unix seconds, of the endpoint's certificate at the last handshake; None: there was none yet."""

    @property
    def open_connections(self) -> int:
        """Connections that exist or are being made."""
        return self._open

    @property
    def queued(self) -> int:
        """Calls that wait for a connection."""
        return len(self._queue)

    def submit(self, call: UpstreamCall) -> None:
        """Send a call now, or when a connection is free. UpstreamFailure(tunegate_overloaded) if too many wait."""
        self.active.add(call)
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and not connection.transport.is_closing():
                connection.send(call)
                return
        if self._open >= self.endpoint.spec.max_connections:
            if len(self._queue) >= self.endpoint.spec.max_queue:
                self.active.discard(call)
                raise UpstreamFailure(
                    "tunegate_overloaded",
                    f"The endpoint {self.endpoint.name!r} has all {self._open} connections in use, and "
                    f"{len(self._queue)} requests wait already. Try again in a moment.",
                    blames_target=False,
                    headers=((b"retry-after", b"1"),),
                )
            call.channel = waiting = Waiting(call, self.now())
            self._queue.append(waiting)
            return
        call.channel = Waiting(call, self.now())
        self._connect(call)

    def resend(self, call: UpstreamCall) -> None:
        """The reused connection was stale: send the call on a new one."""
        call.sent_at = 0.0
        call.channel = Waiting(call, self.now())
        self._connect(call)

    def release(self, connection: UpstreamConnection) -> None:
        """A connection is free again."""
        call = self._next() if self._queue else None
        if call is not None:
            connection.send(call)
        elif self.retired:
            connection.transport.close()
        else:
            self._idle.append(connection)

    def closed(self, connection: UpstreamConnection) -> None:
        """A connection is gone: its place goes to whoever waits."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        call = self._next()
        if call is not None:
            self._connect(call)

    def sweep(self, now: float) -> None:
        """Time-outs of calls, of waiting ones, and of idle connections; call it a few times a second."""
        for call in tuple(self.active):
            call.check_time(now)
        patience = self.endpoint.spec.queue_timeout
        while self._queue and (self._queue[0].call.done or now - self._queue[0].since > patience):
            text = f"No connection of the endpoint {self.endpoint.name!r} became free within {patience:g} s."
            self._queue.popleft().call.fail(
                UpstreamFailure("tunegate_overloaded", text, blames_target=False, headers=((b"retry-after", b"1"),))
            )
        keepalive = 0.0 if self.retired else self.endpoint.spec.keepalive
        while self._idle and now - self._idle[0].idle_since > keepalive:
            self._idle.pop(0).transport.close()

    def close(self) -> None:
        """End everything at once."""
        for call in tuple(self.active):
            call.abort()
        for task in self._connecting:
            task.cancel()
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()

    def _next(self) -> UpstreamCall | None:
        while self._queue:
            call = self._queue.popleft().call
            if not call.done:
                return call
        return None

    def _connect(self, call: UpstreamCall) -> None:
        self._open += 1
        task = self._loop.create_task(self._connect_and_send(call))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect_and_send(self, call: UpstreamCall) -> None:
        try:
            connection = await connect(
                self.endpoint, self._tls, lambda: UpstreamConnection(self), call.timeouts.connect
            )
        except UpstreamFailure as failure:
            self._open -= 1
            call.fail(failure)
            # whoever else waits would wait for ever if this was the last connection
            if not self._open and (waiting := self._next()) is not None:
                self._connect(waiting)
            return
        except BaseException:
            self._open -= 1
            raise
        if self._tls is not None:
            shown = connection.transport.get_extra_info("peercert")
            self.certificate_expires = float(ssl.cert_time_to_seconds(shown["notAfter"]))
        if call.done:  # the caller left while we connected: the connection serves the next one
            self.release(connection)
        else:
            connection.send(call)
