"""Work that is done now and then as long as the process lives, such as deleting what is old."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger("tunegate.control.periodic")


async def every(seconds: float, work: Callable[[], Awaitable[object]], trouble: str) -> None:
    """Do it at once and every so many seconds, until cancelled. A failure, such as a database that is down, ends
    nothing: `trouble` says it in the log once, and the work is tried again at its next time.
    """
    failing = False
    while True:
        try:
            await work()
            failing = False
        except Exception as exc:  # noqa: BLE001 - whatever it is, the next try is the answer
            if not failing:
                log.error("%s: %s: %s", trouble, type(exc).__name__, exc)
            failing = True
        await asyncio.sleep(seconds)
