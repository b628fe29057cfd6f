"""Logs: one JSON object a line on stderr. Records say an event's name; what belongs to it is in `extra={"data": …}`.

No record may hold a credential or a prompt: there is no redaction to rely on, nothing secret is ever passed in.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson


class JsonFormatter(logging.Formatter):
    """`{"ts", "level", "logger", "event", …data}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update(getattr(record, "data", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # half of a character, such as of a file name that is not UTF-8
            return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Send all logging to stderr as JSON; uvicorn's and asyncio's own records pass from `warning` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gateway").setLevel(level.upper())
