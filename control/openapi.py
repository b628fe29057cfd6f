"""How the API describes itself: what FastAPI generates, with short names and the errors that each call can have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from control.errors import TITLES, ProblemBody

_REF = "#/components/schemas/"
_FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")
_PAGE = re.compile(r"^Page_(\w+)_$")
_LONG = re.compile(r"^(?:control__\w+__(?:schemas|endpoints)|gateway__contract__(snapshot))__(\w+)$")
_SNAPSHOTS = ("Key", "KeyPage")
"""Parts of the snapshot that nothing else is named like, but nearly."""


def described(document: dict[str, Any]) -> dict[str, Any]:
    """The finished document. What is part of the snapshot and sounds like a resource is called `Snapshot…`."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _describe_errors(method, path, operation)
    schemas = document["components"]["schemas"]
    for name in _FASTAPIS_OWN:
        schemas.pop(name, None)
    schemas["ProblemBody"] = ProblemBody.model_json_schema(ref_template=_REF + "{model}")
    schemas |= schemas["ProblemBody"].pop("$defs")
    document["components"]["schemas"] = {_short(name): schemas[name] for name in sorted(schemas, key=_short)}
    refs = re.compile(f'"{_REF}(\\w+)"')
    renamed: dict[str, Any] = json.loads(refs.sub(lambda m: f'"{_REF}{_short(m[1])}"', json.dumps(document)))
    return renamed


def _short(name: str) -> str:
    if name in _SNAPSHOTS:
        return f"Snapshot{name}"
    if page := _PAGE.match(name):
        return f"{_short(page[1])}Page"
    if long := _LONG.match(name):
        return f"Snapshot{long[2]}" if long[1] else long[2]
    return name


def _describe_errors(method: str, path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    problem = {"application/problem+json": {"schema": {"$ref": f"{_REF}ProblemBody"}}}
    said = {status for status in responses if status >= "400" and status != "422"}
    for status in sorted(said | set(_errors(method, path, operation))):
        responses[status] = {"description": TITLES[int(status)], "content": problem}


def _errors(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    """Those that follow from what a call is; a route states the others with `responses=`."""
    if operation.get("security"):
        yield from ("401", "503")
        if not path.startswith("/internal/"):
            yield "403"
            if method != "get":
                yield "409"
    if "requestBody" in operation:
        yield from ("400", "413")
    if "requestBody" in operation or operation.get("parameters"):
        yield "422"
    if "{" in path:
        yield "404"
