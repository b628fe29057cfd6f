"""Runs a request's coroutine without an asyncio.Task, which saves 4.5 of 69 µs (docs/bench/what-paid.md).

A Task registers itself in a weak set, copies a context, is named, and takes a turn of the event loop to start and one
for each future. A request needs none of that: it starts where its last byte was parsed, and goes on where the last
byte of its answer was. What `asyncio.current_task` is needed for (`asyncio.timeout`, task groups) works only in tasks,
so not in the pipeline itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from typing import Any

log = logging.getLogger("gateway.server")


class Moment:
    """Something that one coroutine waits for, once: `done`, perhaps with an error."""

    __slots__ = ("_error", "_loop", "_wake", "done")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.done = False
        self._error: Exception | None = None
        self._loop = loop
        self._wake: Callable[[], None] | None = None

    def come(self, error: Exception | None = None, *, at_once: bool = False) -> None:
        """Be done. Whoever waits goes on soon, or inside this very call: then it must be the last thing one does."""
        self.done = True
        self._error = error
        if self._wake is not None:
            if at_once:
                self._wake()
            else:
                self._loop.call_soon(self._wake)

    def __await__(self) -> Generator[Moment, None, None]:
        if not self.done:
            yield self
        if self._error is not None:
            raise self._error

    def wake(self, resume: Callable[[], None]) -> None:
        """Whom to wake."""
        self._wake = resume


class Running:
    """A coroutine on its way, and a member of `registry` until it ends. It may await Moments and asyncio's futures."""

    __slots__ = ("_coroutine", "_registry", "_waits")

    def __init__(self, coroutine: Coroutine[Any, Any, None], registry: set[Any]) -> None:
        self._coroutine = coroutine
        self._registry = registry
        self._waits = False
        """Whether it has been suspended ever: one that runs through at once is never registered."""

    def step(self, _: object = None) -> None:
        """Run to the next suspension, or the end."""
        try:
            awaited = self._coroutine.send(None)
        except StopIteration:
            if self._waits:
                self._registry.discard(self)
        except BaseException as exc:  # noqa: BLE001
            self._died(exc)
        else:
            if not self._waits:
                self._waits = True
                self._registry.add(self)
            if type(awaited) is Moment:
                awaited.wake(self.step)
            else:
                awaited._asyncio_future_blocking = False  # the future protocol, as asyncio.Task speaks it
                awaited.add_done_callback(self.step)

    def cancel(self, msg: str = "") -> None:
        """Raise CancelledError where it waits (uvicorn asks for this when the time to drain is over), soon: the
        caller is going through the registry.
        """
        asyncio.get_running_loop().call_soon(self._throw, msg)

    def _throw(self, msg: str) -> None:
        try:
            self._coroutine.throw(asyncio.CancelledError(msg))
        except BaseException as exc:  # noqa: BLE001  (as a task does, which is what this stands for)
            self._died(exc)

    def _died(self, exc: BaseException) -> None:
        self._registry.discard(self)
        if not isinstance(exc, asyncio.CancelledError | StopIteration):
            log.critical("request.died", exc_info=exc)
