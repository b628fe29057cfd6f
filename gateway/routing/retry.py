"""When a failed attempt is followed by another one, and after what pause."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

from gateway.contract.snapshot import Retry


def backoff(policy: Retry, attempt: int, roll: Callable[[], float] = random.random) -> float:
    """Seconds before going back to a target that was already tried: doubling, capped, with full jitter.

    `attempt` counts from 1. Full jitter spreads a crowd of retries evenly instead of in waves.
    """
    return min(policy.backoff * 2.0 ** (attempt - 1), policy.max_backoff) * roll()


def pause(policy: Retry, attempt: int, retry_after: float | None) -> float | None:
    """Seconds to wait before the same targets are asked again; None if the upstream asks for more than allowed."""
    if retry_after is None:
        return backoff(policy, attempt)
    if retry_after > policy.max_retry_after:
        return None
    return max(retry_after, backoff(policy, attempt))


def retry_after_seconds(value: bytes | None, now: Callable[[], float] = time.time) -> float | None:
    """The seconds of a Retry-After header; None if it is absent or nonsense (a hostile value is no order).

    It may be a date: one that has passed asks for no wait, and one that is far away for a day at most.
    """
    if value is None:
        return None
    try:
        text = value.decode("ascii")
        if text[:1].isalpha() and "," in text:
            return min(max(parsedate_to_datetime(text).timestamp() - now(), 0.0), 86_400.0)
        seconds = float(text)
    except (ValueError, OverflowError):
        return None
    return seconds if 0.0 <= seconds < 86_400.0 else None
