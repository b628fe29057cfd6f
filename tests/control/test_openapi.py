"""The committed openapi.json is what the code says, and says what clients need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from control.commands import describe

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


def operations() -> list[tuple[str, dict[str, Any]]]:
    document = json.loads(COMMITTED.read_text(encoding="utf-8"))
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_it_is_what_the_code_says_or_make_fix_was_forgotten() -> None:
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == json.loads(json.dumps(describe()))


def test_operation_ids_are_unique_and_stable_words() -> None:
    ids = [operation["operationId"] for _, operation in operations()]
    assert len(set(ids)) == len(ids)
    assert all(name.isidentifier() for name in ids)


@pytest.mark.parametrize(("name", "operation"), operations(), ids=[name for name, _ in operations()])
def test_every_operation_says_what_it_does_and_types_its_errors(name: str, operation: dict[str, Any]) -> None:
    assert operation["description"], name
    for status in ("401", "403", "422"):
        content = operation["responses"][status]["content"]
        assert content["application/problem+json"]["schema"]["$ref"].endswith("/ProblemBody")
        assert list(content) == ["application/problem+json"]
