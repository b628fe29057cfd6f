"""Logs of control: one JSON object a line on standard error, as the other planes write them (docs/logs.md).

No record may hold a credential or a prompt: there is no redaction to rely on, nothing secret is ever passed in.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from control.kit.tracing import current


class JsonFormatter(logging.Formatter):
    """`{"ts", "level", "logger", "event"}`, and `trace` where the request that it is about is traced."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        if (trace := current.get()) is not None:
            line["trace"] = f"{trace.id:032x}"
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure() -> None:
    """Send all logging to standard error as JSON: control's own from `info` up, that of libraries from `warning` up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("tunegate").setLevel(logging.INFO)
