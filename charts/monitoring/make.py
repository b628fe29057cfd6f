"""Makes dashboards/*.json for Grafana from dashboards.yaml: `python charts/monitoring/make.py` (part of `make fix`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
SCHEMA = 39
"""Of Grafana 10.4 and 11; newer ones migrate it when they load it."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
VARIABLES = {
    "gateway": ("Gateway", "label_values(tunegate_in_flight_requests, instance)"),
    "route": ("Route", "label_values(tunegate_requests_total, route)"),
    "model": ("Model", "label_values(vllm:num_requests_running, model_name)"),
}
"""Name -> label, and where its values come from."""
SIZES = {"timeseries": (8, 8), "stat": (4, 4), "table": (12, 8)}
"""Kind of panel -> width and height; the grid is 24 wide."""


def dashboards() -> Iterator[tuple[str, str]]:
    """(file name, JSON) of each."""
    for described in yaml.safe_load((HERE / "dashboards.yaml").read_text(encoding="utf-8")):
        text = json.dumps(_dashboard(described), indent=1, ensure_ascii=False)
        yield f"{described['name']}.json", text + "\n"


def _dashboard(described: dict[str, Any]) -> dict[str, Any]:
    return {
        "uid": f"tunegate-{described['name']}",
        "title": described["title"],
        "tags": ["tunegate"],
        "schemaVersion": SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {"list": [_datasource(), *map(_variable, described["variables"])]},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "title": "Tunegate", "tags": ["tunegate"], "asDropdown": True}],
        "panels": list(_panels(described["rows"])),
    }


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _variable(name: str) -> dict[str, Any]:
    label, query = VARIABLES[name]
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "refresh": 2, "sort": 1,
        "query": {"query": query, "refId": name}, "definition": query, "includeAll": True, "multi": True,
        "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]},
    }  # fmt: skip


def _panels(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each row under the one before, its panels from left to right."""
    number = top = 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": top, "w": 24, "h": 1}
        yield {"id": number, "type": "row", "title": row["title"], "collapsed": False, "panels": [], "gridPos": place}
        top, left, tallest = top + 1, 0, 0
        for described in row["panels"]:
            width, height = SIZES[described.get("kind", "timeseries")]
            if left + width > 24:
                top, left, tallest = top + tallest, 0, 0
            number += 1
            yield _panel(number, described, {"x": left, "y": top, "w": width, "h": height})
            left, tallest = left + width, max(tallest, height)
        top += tallest


def _panel(number: int, described: dict[str, Any], place: dict[str, int]) -> dict[str, Any]:
    kind = described.get("kind", "timeseries")
    targets = [
        {
            "refId": chr(ord("A") + index), "datasource": SOURCE,
            "expr": expression, "legendFormat": legend or "__auto",
            "instant": kind != "timeseries", "range": kind == "timeseries",
            **({"format": "table"} if kind == "table" else {}),
        }
        for index, (legend, expression) in enumerate(described["queries"].items())
    ]  # fmt: skip
    return {
        "id": number,
        "type": kind,
        "title": described["title"],
        "description": described.get("help", ""),
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": described["unit"]}, "overrides": []},
        "options": _options(kind),
        "targets": targets,
    }


def _options(kind: str) -> dict[str, Any]:
    if kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    if kind == "table":
        return {"showHeader": True}
    legend = {"showLegend": True, "displayMode": "list", "placement": "bottom"}
    return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}


if __name__ == "__main__":
    for name, text in dashboards():
        (HERE / "dashboards" / name).write_text(text, encoding="utf-8")
