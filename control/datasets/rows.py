"""Files of a dataset version, and reading some of their lines.

datasets/<id>/source.<ending>   as it was sent
datasets/<id>/rows.jsonl        accepted rows in the canonical form, each with `_line`, its line in the source
datasets/<id>/rejected.jsonl    the others: line, code, message, text
datasets/<id>/report.json       where every row went
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from control.kit.files import Files
from control.models import DatasetVersion

LINE = "_line"


def folder(files: Files, version: DatasetVersion) -> Path:
    """Of a version."""
    return files.path("datasets", version.id)


def source(files: Files, version: DatasetVersion) -> Path:
    """What was sent."""
    return folder(files, version) / f"source{Path(version.filename).suffix.lower()}"


def accepted(files: Files, version: DatasetVersion) -> Path:
    """The canonical rows: what jobs read."""
    return folder(files, version) / "rows.jsonl"


def rejected(files: Files, version: DatasetVersion) -> Path:
    """What was not accepted, with reasons."""
    return folder(files, version) / "rejected.jsonl"


def some(path: Path, offset: int, limit: int) -> list[dict[str, Any]]:
    """Lines of a JSONL file, read one after another up to the last one that is wanted."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in islice(file, offset, offset + limit)]


def without(path: Path, lines: Collection[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line in the source, row) of a version's rows, but for those of some lines."""
    with path.open(encoding="utf-8") as file:
        for text in file:
            row = json.loads(text)
            line = int(row.pop(LINE))
            if line not in lines:
                yield line, row
