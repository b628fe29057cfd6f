"""Tests that a page names, so that people can look: FILE, or FILE::TEST."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def missing(tests: Iterable[str]) -> list[str]:
    """Those that are not there."""
    return [test for test in tests if not _is_there(*test.partition("::")[::2])]


def _is_there(path: str, name: str) -> bool:
    file = ROOT / path
    if not file.is_file():
        return False
    tree = ast.parse(file.read_text(encoding="utf-8"))
    there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return name in there if name else any(one.startswith("test_") for one in there)
