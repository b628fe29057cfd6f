"""Scores of a run as OpenTelemetry events: OTLP/JSON logs, one `gen_ai.evaluation.result` for each score.

The file is what `POST /v1/logs` of a collector takes, by the semantic conventions for generative AI.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

EVENT = "gen_ai.evaluation.result"
SCOPE = {"name": "tunegate.comparisons"}
INFO = 9
"""Number of the severity."""


def head(run: str, suite: str) -> str:
    """Everything before the first event."""
    resource = {
        "attributes": [_text("service.name", "tunegate"), _text("tunegate.run", run), _text("tunegate.suite", suite)]
    }
    start = json.dumps({"resource": resource}, ensure_ascii=False)[:-1]
    return f'{{"resourceLogs": [{start}, "scopeLogs": [{{"scope": {json.dumps(SCOPE)}, "logRecords": ['


def foot() -> str:
    """Everything after the last one."""
    return "]}]}]}\n"


def events(cell: Mapping[str, Any]) -> Iterator[str]:
    """One event for each of a cell's scores; a scorer that could not decide says why."""
    nanos = str(int(datetime.fromisoformat(cell["finished_at"]).timestamp() * 1_000_000) * 1000)
    for name, score in cell["scores"].items():
        attributes = [
            _text("gen_ai.evaluation.name", name), _text("gen_ai.response.id", cell["request_id"]),
            _text("gen_ai.request.model", cell["route"]), _text("tunegate.candidate", cell["candidate"]),
            _number("tunegate.case", cell["case"]), _number("tunegate.repeat", cell["repeat"]),
        ]  # fmt: skip
        if score["value"] is None:
            attributes.append(_text("error.type", "not_scored"))
        else:
            attributes.append(_double("gen_ai.evaluation.score.value", float(score["value"])))
        if score["passed"] is not None:
            attributes.append(_text("gen_ai.evaluation.score.label", "pass" if score["passed"] else "fail"))
        if score["note"]:
            attributes.append(_text("gen_ai.evaluation.explanation", score["note"]))
        record = {
            "timeUnixNano": nanos, "observedTimeUnixNano": nanos, "severityNumber": INFO, "eventName": EVENT,
            "attributes": attributes,
        }  # fmt: skip
        yield json.dumps(record, ensure_ascii=False)


def _text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def _number(key: str, value: int) -> dict[str, Any]:
    """64-bit integers are texts in protobuf's JSON."""
    return {"key": key, "value": {"intValue": str(value)}}


def _double(key: str, value: float) -> dict[str, Any]:
    return {"key": key, "value": {"doubleValue": value}}
