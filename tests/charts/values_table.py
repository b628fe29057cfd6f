"""The table of values in the chart's README, made from values.yaml and values.schema.json (`make fix`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from tests.charts.rendering import CHART

README = CHART / "README.md"
BEGIN, END = "<!-- values: made by make fix -->\n", "<!-- end of values -->\n"


def schema() -> dict[str, Any]:
    """values.schema.json."""
    told: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    return told


def rows(values: dict[str, Any], told: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any, str]]:
    """Path, default and meaning of each value; tables that take any key are one value."""
    for key, value in values.items():
        known = told["properties"][key]
        if isinstance(value, dict) and "properties" in known:
            yield from rows(value, known, f"{before}{key}.")
        else:
            yield before + key, value, known["description"]
    for key in told["properties"].keys() - values.keys():
        raise KeyError(f"values.yaml does not have {before}{key}")


def table() -> str:
    """As Markdown."""
    told = schema()
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for path, value, meaning in rows(values, told):
        lines.append(f"| `{path}` | `{json.dumps(value)}` | {meaning} |")
    lines += ["", "Of each of `engines`:", "", "| key | meaning |", "|---|---|"]
    engine = told["properties"]["engines"]["items"]
    for key, known in engine["properties"].items():
        needed = " Needed." if key in engine["required"] else ""
        lines.append(f"| `{key}` | {known['description']}{needed} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """The README with the table of today."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, "the README has both marks"
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    README.write_text(page(README.read_text(encoding="utf-8")), encoding="utf-8")
