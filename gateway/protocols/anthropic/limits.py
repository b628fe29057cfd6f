"""Rate limits as Anthropic tells them.

https://docs.anthropic.com/en/api/rate-limits#response-headers (read 2026-11)
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_LINE = re.compile(rb"x-ratelimit-(limit|remaining|reset)-(requests|tokens): ([\d.]+)s?\r\n")


def renamed(lines: bytes, now: float) -> bytes:
    """Header lines with OpenAI's x-ratelimit-* under Anthropic's names, resets as moments; `now` in Unix seconds."""

    def one(found: re.Match[bytes]) -> bytes:
        what, unit, value = found.groups()
        if what == b"reset":
            moment = datetime.fromtimestamp(now + float(value), UTC)
            value = moment.isoformat(timespec="seconds").replace("+00:00", "Z").encode()
        return b"anthropic-ratelimit-%b-%b: %b\r\n" % (unit, what, value)

    return _LINE.sub(one, lines)
