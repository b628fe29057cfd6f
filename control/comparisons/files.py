"""Cases in files: CSV with a header, or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import ValidationError

from control.comparisons.schemas import MOST_CASES, SuiteCase
from control.errors import FieldError, fields

_OWN = ("messages", "prompt", "expected", "tags", "document")
_FIELD = 1_000_000
"""Characters of one field of a CSV file."""


class Unreadable(Exception):
    """These are no cases; `errors` says where and why."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{error.at}: {error.message}" for error in errors[:5]))
        self.errors = errors


def read(kind: Literal["csv", "jsonl"], text: str, at: str) -> list[SuiteCase]:
    """Every case of a file; `at` is where the file is, for messages.

    Raises:
        Unreadable: some lines are no cases.
    """
    found, errors = [], []
    for line, row in _csv(text, at) if kind == "csv" else _jsonl(text, at):
        try:
            found.append(SuiteCase.model_validate(_case(row)))
        except ValidationError as exc:
            errors += fields(exc, f"{at}.{line}")
        except ValueError as exc:
            errors.append(FieldError(at=f"{at}.{line}", message=str(exc)))
        if len(errors) > 50:
            break
        if len(found) > MOST_CASES:
            errors.append(FieldError(at=at, message=f"there are more than {MOST_CASES} cases"))
            break
    if errors:
        raise Unreadable(errors)
    if not found:
        raise Unreadable([FieldError(at=at, message="there is no case in it")])
    return found


def _csv(text: str, at: str) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(_FIELD)
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        if not rows.fieldnames or len(set(rows.fieldnames)) != len(rows.fieldnames):
            raise Unreadable([FieldError(at=at, message="the first line must name every column, each once")])
        for row in rows:
            if None in row or None in row.values():
                message = f"line {rows.line_num} has another number of columns than the first one"
                raise Unreadable([FieldError(at=f"{at}.{rows.line_num}", message=message)])
            yield rows.line_num, {key: value for key, value in row.items() if key not in _OWN or value != ""}
    except csv.Error as exc:
        raise Unreadable([FieldError(at=f"{at}.{rows.reader.line_num}", message=f"no CSV: {exc}")]) from exc


def _jsonl(text: str, at: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise Unreadable([FieldError(at=f"{at}.{number}", message=f"no JSON: {exc}")]) from exc
        if not isinstance(row, dict):
            raise Unreadable([FieldError(at=f"{at}.{number}", message="must be an object")])
        yield number, row


def _case(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a case: `variables` may be a member of its own, or all members that have no other meaning."""
    case: dict[str, Any] = {key: row[key] for key in ("expected", "document") if row.get(key) is not None}
    messages = row.get("messages") or []
    case["messages"] = json.loads(messages) if isinstance(messages, str) else messages
    if row.get("prompt") is not None:
        if case["messages"]:
            raise ValueError("has both `messages` and `prompt`")
        case["messages"] = [{"role": "user", "content": row["prompt"]}]
    tags = row.get("tags") or []
    case["tags"] = [tag.strip() for tag in tags.split(",") if tag.strip()] if isinstance(tags, str) else tags
    variables = row.get("variables")
    others = {key: value for key, value in row.items() if key not in (*_OWN, "variables")}
    if variables is not None and not isinstance(variables, dict):
        raise ValueError("`variables` must be an object")
    case["variables"] = {key: _text(value) for key, value in {**others, **(variables or {})}.items()}
    return case


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
