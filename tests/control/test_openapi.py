"""The committed openapi.json is what the code says, and says what clients need."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import BaseModel, TypeAdapter

from control.app import build
from control.audit.endpoints import AuditEntry
from control.auth.schemas import Me, Tokens
from control.commands import describe
from control.configuration.endpoints import Setting, SettingsTable
from control.internal.admin import ServiceToken
from control.keys.schemas import ApiKey, ApiKeyWithSecret
from control.prices.schemas import PriceVersion
from control.providers.schemas import Endpoint
from control.routes.schemas import Route
from control.settings import ConsoleTable, Settings
from control.teams.schemas import Team, TeamDetail
from control.usage.budgets import Spending
from control.usage.daily import DailyUsage
from control.usage.endpoints import LedgerRow
from control.usage.reports import UsageReport
from control.users.schemas import User, UserCreated
from gateway.contract.usage import UsageEvent

COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"
DOCUMENT: dict[str, Any] = json.loads(COMMITTED.read_text(encoding="utf-8"))
OPERATIONS = [
    pytest.param(method, path, operation, id=f"{method.upper()} {path}")
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
ANSWERS: tuple[type[BaseModel], ...] = (
    ApiKey, ApiKeyWithSecret, AuditEntry, Endpoint, LedgerRow, Me, PriceVersion, Route, ServiceToken, Team, TeamDetail,
    Tokens, UsageReport, User, UserCreated, DailyUsage, Setting, SettingsTable, Spending,
)  # fmt: skip
"""Main answers."""
each_operation = pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)


def schema(operation: dict[str, Any], status: str) -> dict[str, Any]:
    found: dict[str, Any] = operation["responses"][status]["content"]["application/json"]["schema"]
    return found


def test_it_is_what_the_code_says_or_make_fix_was_forgotten() -> None:
    assert json.loads(json.dumps(describe())) == DOCUMENT


def test_operation_ids_are_unique_and_stable_words() -> None:
    ids = [parameter.values[2]["operationId"] for parameter in OPERATIONS]  # type: ignore[index,call-overload]
    assert len(set(ids)) == len(ids)
    assert all(name.isidentifier() for name in ids)


def test_components_have_names_that_a_typescript_developer_expects() -> None:
    names = set(DOCUMENT["components"]["schemas"])
    assert {"ApiKey", "Endpoint", "Route", "Team", "User", "RouteSpec", "RoutePage", "Price", "Budget"} <= names
    assert [name for name in names if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name)] == []
    refs = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DOCUMENT)))
    assert refs <= names, "a reference leads nowhere"
    assert names <= refs, "a component that nothing refers to"


@each_operation
def test_every_operation_says_what_it_does(method: str, path: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    assert len(operation["tags"]) == 1


@each_operation
def test_every_success_is_typed(method: str, path: str, operation: dict[str, Any]) -> None:
    (status,) = [status for status in operation["responses"] if status < "300" or status == "303"]
    response = operation["responses"][status]
    if status in ("204", "303"):
        assert "content" not in response
    elif path.endswith("/backchannel-logout"):
        assert "content" not in response, "the standard asks for 200 without a body"
    elif path.endswith("/export"):
        assert all(content["schema"] == {"type": "string"} for content in response["content"].values())
    elif path.endswith(("/download", "/archive", "/files/{path}", "/{split}")) and method == "get":
        (content,) = response["content"].values()
        assert content["schema"] == {"type": "string", "format": "binary"}
    else:
        assert set(schema(operation, status)) == {"$ref"}


@each_operation
def test_every_operation_names_the_errors_that_it_can_have(method: str, path: str, operation: dict[str, Any]) -> None:
    errors = {status for status in operation["responses"] if status >= "400"}
    for status in errors:
        content = operation["responses"][status]["content"]
        assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}}
    people = "security" in operation and not path.startswith("/internal/")
    assert ("401" in errors) == ("security" in operation or path.endswith(("/login", "/refresh")))
    assert ("403" in errors) == people
    assert ("404" in errors) == (
        "{" in path or path.endswith(("/keys/revoke", "/prices/costs", "/retrieval", "/shared"))
    )
    of_attempt = path.startswith("/internal/v1/trainer/attempts/")
    unfinished = method == "get" and path.startswith("/api/v1/datasets/") and path.endswith("/download")
    assert ("409" in errors) == ((people and method != "get") or of_attempt or unfinished)
    assert ("413" in errors) == ("400" in errors) == ("requestBody" in operation)
    assert ("422" in errors) == bool("requestBody" in operation or operation.get("parameters"))
    assert ("429" in errors) == path.endswith(("/login", "/password", "/backchannel-logout"))


def test_every_request_body_has_an_example_that_is_valid(tmp_path: Path) -> None:
    app = build(Settings(console=ConsoleTable(data_dir=tmp_path)))
    bodies = 0
    for context in iter_route_contexts(app.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and route.body_field is not None:
            model = route.body_field.field_info.annotation
            examples = model.model_json_schema().get("examples", []) if model is not None else []
            assert examples, f"{route.name}: the body has no example"
            for example in examples:
                TypeAdapter(model).validate_python(example)
            bodies += 1
    assert bodies > 20


def test_every_example_of_an_answer_is_valid() -> None:
    for model in ANSWERS:
        for example in model.model_json_schema()["examples"]:
            model.model_validate(example)
    for event in DOCUMENT["components"]["schemas"]["UsageBatch"]["examples"][0]["events"]:
        UsageEvent.model_validate(event)
