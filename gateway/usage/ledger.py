"""Reads the stand-alone ledger (daily JSONL files) again: for `tunegate usage`, and for budgets at start."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from gateway.runtime import Runtime, Scope

DAY = 86_400.0


def events(directory: Path, since: float = 0.0) -> Iterator[dict[str, Any]]:
    """Every usage event since a Unix time, as decoded JSON; a torn last line is left out."""
    first = datetime.fromtimestamp(max(0.0, since - DAY), UTC).strftime("%Y-%m-%d")
    for path in sorted(directory.glob("*.jsonl")):
        if path.name[:10] < first:
            continue
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    event = orjson.loads(line)
                    if event["ts"] >= since:
                        yield event


def spent(directory: Path, runtime: Runtime, now: float) -> dict[tuple[str, str, str], int]:
    """Nano-units spent in the current window of every budget: (scope kind, name, window key) -> amount.

    Reads only as far back as the widest window asks, and nothing if there are no budgets.
    """
    scopes: dict[tuple[str, str], Scope] = {}
    for key in runtime.keys.values():
        for scope in key.scopes:
            if scope.budgets:
                scopes[scope.kind, scope.name] = scope
    if not scopes:
        return {}
    starts = {
        (kind, name, budget.key): budget.bounds(now)[0]
        for (kind, name), scope in scopes.items()
        for budget in scope.budgets
    }
    sums = dict.fromkeys(starts, 0)
    for event in events(directory, min(starts.values())):
        if event.get("shadow_of"):
            continue
        for kind in ("key", "team"):
            scope_of_event = scopes.get((kind, event[kind] or ""))
            for budget in scope_of_event.budgets if scope_of_event else ():
                identity = (kind, event[kind], budget.key)
                if event["ts"] >= starts[identity]:
                    sums[identity] += event["cost_nano"]
    return sums


def summarise(directory: Path, by: tuple[str, ...], since: float = 0.0, shadow: bool = False) -> list[dict[str, Any]]:
    """Requests, errors, tokens and cost grouped by `key`, `team`, `model`, `route`, `endpoint`, `day` (UTC).

    Of what clients asked for, or else of the copies that went to shadow targets: never both in one sum.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for event in events(directory, since):
        if bool(event.get("shadow_of")) != shadow:
            continue
        event["day"] = datetime.fromtimestamp(event["ts"], UTC).strftime("%Y-%m-%d")
        group = tuple(str(event[name] or "-") for name in by)
        row = rows.setdefault(
            group,
            {**dict(zip(by, group, strict=True)), "requests": 0, "errors": 0, "input": 0, "output": 0, "cost_nano": 0},
        )
        tokens = event["tokens"]
        row["requests"] += 1
        row["errors"] += event["end"] not in ("success", "client_gone", "client_gone_partial")
        row["input"] += tokens["input"] + tokens["cache_read"] + tokens["cache_write"]
        row["output"] += tokens["output"] + tokens["reasoning"]
        row["cost_nano"] += event["cost_nano"]
    return [rows[group] for group in sorted(rows)]
