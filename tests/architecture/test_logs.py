"""docs/logs.md names every event that gateway and trainer log, with its fields; control's lines are alike."""

from __future__ import annotations

import ast
import json
import logging
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.kit.logs import JsonFormatter as OfControl
from control.kit.tracing import current
from gateway.contract.trace import Trace
from gateway.telemetry.logging import JsonFormatter as OfGateway

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/logs.md"
EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
COMMON = {"ts", "level", "event"}


def _functions(plane: str) -> Iterator[ast.AST]:
    for path in (ROOT / plane).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _keys(node: ast.AST | None, function: ast.AST) -> set[str]:
    """Of a dictionary, or of what the function puts into the variable."""
    if isinstance(node, ast.Dict):
        return {key.value for key in node.keys if isinstance(key, ast.Constant)}
    if not isinstance(node, ast.Name):
        return set()
    found: set[str] = set()
    for one in ast.walk(function):
        for target in one.targets if isinstance(one, ast.Assign) else ():
            if isinstance(target, ast.Name) and target.id == node.id:
                found |= _keys(one.value, function)
            part = target.slice if isinstance(target, ast.Subscript) else None
            if isinstance(part, ast.Constant) and ast.unparse(target.value) == node.id:  # type: ignore[attr-defined]
                found.add(str(part.value))
    return found


def logged() -> dict[str, set[str]]:
    """Event -> its fields, beside those that every line has."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for plane in ("gateway", "trainer"):
        for function in _functions(plane):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                if not ast.unparse(call.func).startswith("log.") or not call.args:
                    continue
                first = call.args[0]
                if not isinstance(first, ast.Constant) or not EVENT.fullmatch(str(first.value)):
                    continue
                for word in call.keywords:
                    if plane == "trainer" and word.arg not in (None, "level"):
                        found[first.value].add(str(word.arg))
                    if plane == "gateway" and word.arg == "extra" and isinstance(word.value, ast.Dict):
                        found[first.value] |= _keys(word.value.values[0], function)
                found[first.value]  # has no fields of its own
    return dict(found)


def described() -> dict[str, set[str]]:
    rows = re.findall(r"(?m)^\| `([a-z_]+\.[a-z_]+)` \|([^|]*)\|", PAGE.read_text(encoding="utf-8"))
    return {event: set(re.findall(r"`(\w+)`", fields)) for event, fields in rows}


def test_the_page_names_every_event_with_its_fields() -> None:
    assert described() == logged()


@pytest.mark.parametrize("formatter", [OfControl(), OfGateway()], ids=["control", "gateway"])
def test_a_line_is_one_json_object_whatever_is_in_it(formatter: logging.Formatter) -> None:
    record = logging.LogRecord(
        "x", logging.ERROR, "f", 1, 'two\nlines, "quoted", 中文 and \x00: %s', ("\ud800?",), None
    )
    try:
        raise ValueError("why")
    except ValueError:
        record.exc_info = sys.exc_info()
    text = formatter.format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert line.keys() == COMMON | {"logger", "exception"}
    assert (line["level"], line["event"][:9]) == ("error", "two\nlines")
    assert line["ts"].endswith("+00:00")


def test_a_line_of_control_about_a_traced_request_names_its_trace() -> None:
    token = current.set(Trace(0xAB, 1))
    try:
        line = json.loads(OfControl().format(logging.LogRecord("x", logging.INFO, "f", 1, "said", (), None)))
    finally:
        current.reset(token)
    assert line["trace"] == "0" * 30 + "ab"


def test_control_that_cannot_start_says_so_in_json(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[console]\nlisten = "192.0.2.1:80"\ndata_dir = "{tmp_path}"\n[secrets]\nkey = "file:{tmp_path}/k"\n'
    )
    (tmp_path / "k").write_text("A" * 43 + "=")
    argv = [sys.executable, "-m", "control.commands", "serve", "--config", str(config)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode != 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any(line["level"] == "error" and "192.0.2.1" in line["event"] for line in lines), done.stderr
    assert all(line.keys() >= COMMON for line in lines)
