"""A module has one job that its docstring states, and stays small enough to be read in one go."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path
    for plane in ("gateway", "control", "trainer", "tests")
    for path in (ROOT / plane).rglob("*.py")
    if path.parent.name != "versions"  # a migration is a list of statements, written once
)
FILE_LINES, FUNCTION_LINES = 400, 60


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_short_has_short_functions_and_says_what_it_is_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    assert lines <= FILE_LINES, f"{name(path)} has {lines} lines; more than {FILE_LINES} is two modules"
    tree = ast.parse(text)
    long = [
        f"{name(path)}:{node.lineno}: {node.name} has {length} lines; at most {FUNCTION_LINES} fit on a screen"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert not long, "\n".join(long)
    if tree.body and path.relative_to(ROOT).parts[0] != "tests":
        assert ast.get_docstring(tree), f"{name(path)} has no docstring that says what the module is for"
