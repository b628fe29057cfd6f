"""Every operation as every role: what the table says, and nothing else, decides."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from control.api import Operation, operations
from control.kit.permissions import PUBLIC, ROLES, SERVICE, Role
from tests.control.api.conftest import Running


def call(control: Running, operation: Operation, who: str) -> int:
    path = re.sub(r"\{[^}]*digest[^}]*\}", "0" * 64, operation.path)
    path = re.sub(r"\{[^}]*(number|version)[^}]*\}", "1", path)
    path = re.sub(r"\{[^}]+\}", "no-such-thing", path)
    client = (
        control.as_(who) if who in get_args(Role) else control.service() if who == "service" else control.anonymous()
    )
    answer = client.request(operation.method, path, json=None if operation.method == "GET" else {})
    assert answer.status_code < 500, f"{operation.method} {path} as {who}: {answer.text}"
    return answer.status_code


def test_every_operation_lets_in_exactly_the_roles_of_its_permission(control: Running) -> None:
    found = operations(control.app)
    assert len(found) >= 36
    wrong = []
    for operation in found:
        for role in get_args(Role):
            if operation.permission == PUBLIC:
                continue
            allowed = operation.permission in ROLES[role]
            status = call(control, operation, role)
            # a person's token is no service token: 401; a role without the permission: 403
            refused = status == (401 if operation.permission == SERVICE else 403)
            if allowed == refused or (not allowed and not refused):
                wrong.append((operation.method, operation.path, role, operation.permission, status))
    assert wrong == []


def test_nobody_and_gateways_get_nothing_that_is_for_people(control: Running) -> None:
    for operation in operations(control.app):
        if operation.permission == PUBLIC:
            continue
        assert call(control, operation, "nobody") == 401, operation
        if operation.permission != SERVICE:
            assert call(control, operation, "service") == 401, operation


def test_what_needs_no_login_is_a_short_list(control: Running) -> None:
    open_to_all = {operation.name for operation in operations(control.app) if operation.permission == PUBLIC}
    assert open_to_all == {
        "login", "refresh", "logout", "healthz", "get_methods", "start_oidc", "finish_oidc", "end_oidc_sessions",
    }  # fmt: skip


def test_permissions_in_use_are_those_of_the_table(control: Running) -> None:
    known = frozenset[str]().union(*ROLES.values()) | {PUBLIC, SERVICE}
    assert {operation.permission for operation in operations(control.app)} <= known


@pytest.mark.parametrize("role", get_args(Role))
def test_nobody_but_the_admin_may_change_people_or_service_tokens(role: Role) -> None:
    assert ROLES[role] & {"users:write", "tokens:write"} == (
        {"users:write", "tokens:write"} if role == "admin" else frozenset()
    )
