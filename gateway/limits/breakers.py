"""Circuit breakers shared over the same Redis: a target that rests in one worker rests in all.

Best effort beside the requests. Each worker tells once a second which of its breakers have opened or closed, and
hears what others told. A rest ends for all at the same time; then each worker finds out for itself.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import orjson

from gateway.limits.link import Link, Lost, Script
from gateway.routing.health import HealthBook

SCRIPT = Script(Path(__file__).with_name("breakers.lua").read_text(encoding="utf-8"))
INTERVAL = 1.0


class SharedBreakers:
    """One worker's."""

    def __init__(self, link: Link, health: HealthBook) -> None:
        self._link = link
        self._health = health
        self._told: set[str] = set()
        """Targets that rest by what this worker has told."""

    async def run(self) -> None:
        """Tell and hear each second, while Redis answers."""
        while True:
            await asyncio.sleep(INTERVAL)
            if self._link.up:
                await self.exchange()

    async def exchange(self) -> None:
        """Once; a lost call is counted by the link, and made up for by the next one."""
        now = time.monotonic()
        rests = {target: one.open_until - now for target, one in self._health.items() if one.open_until > now}
        answers = [one for one in self._told if one not in self._health or not self._health[one].open_until]
        flat = [part for target, left in rests.items() for part in (target, int(left * 1000))]
        body = orjson.dumps({"rests": flat, "answers": answers})
        try:
            heard = await self._link.evaluate(SCRIPT, [f"{self._link.root}breakers"], [body])
        except Lost:
            return
        self._told = (self._told | rests.keys()) - set(answers)
        now = time.monotonic()
        for target, left in zip(heard[::2], heard[1::2], strict=True):
            self._health[target.decode()].rest(now + int(left) / 1000.0)
