"""Keeps budgets level with control's ledger, which knows what every gateway has spent: asked once a second.

A figure is taken only for the window that runs here, and only upwards (see `Purse.learn`). What remains possible is
stated in docs/architecture.md: between two questions, one gateway does not see what the others settle.
"""

from __future__ import annotations

import asyncio
import time

import orjson
from pydantic import TypeAdapter, ValidationError

from gateway.contract.internal import Spent
from gateway.internal import Control, ControlError, Line
from gateway.limits.memory import MemoryLimiter

INTERVAL = 1.0
MAX_BYTES = 67_108_864
EVERYTHING = 60.0
"""Seconds after which all figures are asked for again: the cursor of a ledger restored from a backup is a lower one."""
AT_ONCE = 500
"""Figures that are decoded without giving the event loop a turn."""
_FIGURES = TypeAdapter(list[Spent])


class SpendPoll:
    """Follows `GET /internal/v1/spend` for one worker."""

    def __init__(self, control: Control, limiter: MemoryLimiter) -> None:
        self._control = control
        self._limiter = limiter
        self._cursor = 0
        self._begun = 0
        self._asked_all = 0.0
        """Monotonic time."""
        self._wake = asyncio.Event()
        self.line = Line("spend")

    def applied(self) -> None:
        """The limits have changed. A new budget may have been spent from long ago: everything is asked for again."""
        if self._begun != self._limiter.budgets_begun:
            self._begun, self._cursor = self._limiter.budgets_begun, 0
            self._wake.set()

    async def run(self) -> None:
        """Ask each second, or when a budget has come; with patience while control does not answer."""
        while True:
            await self.ask()
            pause = self.line.pause if self.line.in_a_row else INTERVAL
            try:
                await asyncio.wait_for(self._wake.wait(), pause)
            except TimeoutError:
                continue
            if self.line.in_a_row:
                await asyncio.sleep(pause)

    async def ask(self) -> None:
        """Ask once; a failure is counted and changes nothing."""
        self._wake.clear()
        now = time.monotonic()
        asked = self._cursor if now < self._asked_all + EVERYTHING else 0
        if not asked:
            self._asked_all = now
        try:
            answer = await self._control.call("GET", f"/spend?after={asked}", most=MAX_BYTES, silent=3.0, total=10.0)
            cursor, complete = await self._learn(answer.body)
        except ControlError as exc:
            self.line.failed(exc)
            return
        self.line.worked()
        if not self._wake.is_set():  # otherwise a budget came meanwhile, and everything is asked for again
            self._cursor = cursor if complete else 0

    async def _learn(self, body: bytes) -> tuple[int, bool]:
        """(cursor, whether every figure could be used now)."""
        try:
            document = orjson.loads(body)
            cursor, figures = document["cursor"], document["spent"]
            if not isinstance(cursor, int) or cursor < 0 or not isinstance(figures, list) or len(document) > 2:
                raise ValueError("not the members of Spend")
            complete = True
            for start in range(0, len(figures), AT_ONCE):
                for spent in _FIGURES.validate_python(figures[start : start + AT_ONCE]):
                    complete &= self._take(spent, time.time())
                await asyncio.sleep(0)
        except (ValidationError, ValueError, KeyError, TypeError) as exc:
            raise ControlError("bad_reply", "the answer about budgets is no Spend") from exc
        return cursor, complete

    def _take(self, spent: Spent, now: float) -> bool:
        """False if it belongs to a window that has not begun by this machine's clock: it must be asked for again."""
        purse = self._limiter.purse(spent.scope, spent.name, f"{spent.window} {spent.timezone}")
        if purse is None:  # the configuration that it belongs to has not arrived, or is gone
            return True
        ahead = spent.start - purse.budget.bounds(now)[0]
        if abs(ahead) < 1.0:
            purse.learn(self._limiter.part(spent.nano), now)
        return ahead < 1.0
