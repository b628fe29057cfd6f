"""JSON log lines on standard error, one event each."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime


def event(name: str, *, level: str = "info", **fields: object) -> None:
    """Write one line: when, what happened, and the facts that belong to it."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = json.dumps({"ts": at, "level": level, "event": name, **fields}, ensure_ascii=False, default=str)
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
