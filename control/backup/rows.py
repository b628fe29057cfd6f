"""Rows of any table as JSON, and back: the same on every database."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import LargeBinary, Table

from control.models.base import Utc


def written(table: Table, row: Mapping[str, Any]) -> bytes:
    """One line."""
    values = {}
    for column in table.columns:
        value = row[column.name]
        if isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, bytes | memoryview):
            value = base64.b64encode(bytes(value)).decode()
        values[column.name] = value
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass") + b"\n"


def read(table: Table, line: bytes) -> dict[str, Any]:
    """The row of a line. ValueError if it is none of this table."""
    values = json.loads(line.decode("utf-8", "surrogatepass"))
    if not isinstance(values, dict) or values.keys() != {column.name for column in table.columns}:
        raise ValueError("other columns")
    for column in table.columns:
        value = values[column.name]
        if value is None:
            continue
        if isinstance(column.type, Utc):
            values[column.name] = datetime.fromisoformat(value)
        elif isinstance(column.type, LargeBinary):
            values[column.name] = base64.b64decode(value, validate=True)
    return values
