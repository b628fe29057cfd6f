"""Questions from a file: JSONL, or CSV with the columns `question`, `document` and `text`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import ValidationError

from control.errors import Problem
from control.knowledge.evaluation.schemas import MOST_QUESTIONS, NewQuestion

Format = Literal["jsonl", "csv"]
_COLUMNS = {"question", "document", "text"}


def read(content: bytes, kind: Format) -> list[NewQuestion]:
    """Every question of a file.

    Raises:
        Problem: 422 `bad_file`, which names the first line that is wrong.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise Problem(422, "bad_file", "the file is not UTF-8") from exc
    found: list[NewQuestion] = []
    for line, values in _jsonl(text) if kind == "jsonl" else _csv(text):
        if len(found) == MOST_QUESTIONS:
            raise Problem(422, "bad_file", f"the file has more than {MOST_QUESTIONS} questions: split it")
        try:
            found.append(NewQuestion.model_validate(values))
        except ValidationError as exc:
            error = exc.errors()[0]
            where = ".".join(str(part) for part in error["loc"])
            raise _wrong(line, f"{where + ': ' if where else ''}{error['msg']}") from exc
    if not found:
        raise Problem(422, "bad_file", "the file has no questions")
    return found


def _jsonl(text: str) -> Iterator[tuple[int, Any]]:
    for line, row in enumerate(text.split("\n"), 1):
        if row.strip():
            try:
                yield line, json.loads(row)
            except (ValueError, RecursionError) as exc:
                raise _wrong(line, "it is no JSON") from exc


def _csv(text: str) -> Iterator[tuple[int, Any]]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = set(rows.fieldnames or ())
        if "question" not in columns or columns - _COLUMNS:
            raise _wrong(1, "the columns are `question`, and `document`, `text` or both")
        for row in rows:
            if None in row:
                raise _wrong(rows.line_num, "it has more fields than there are columns")
            expected = {name: row[name] or "" for name in ("document", "text") if name in columns}
            yield rows.line_num, {"question": row["question"] or "", "expected": [expected]}
    except csv.Error as exc:
        raise _wrong(rows.line_num, str(exc)) from exc


def _wrong(line: int, why: str) -> Problem:
    return Problem(422, "bad_file", f"line {line}: {why}")
