"""The fixtures themselves: everybody can sign in, each test has its own database."""

from __future__ import annotations

from typing import get_args

import pytest

from control.kit.permissions import Role
from tests.control.api.conftest import Running


@pytest.mark.parametrize("role", get_args(Role))
def test_a_person_of_each_role_signs_in(control: Running, role: Role) -> None:
    me = control.as_(role).get("/api/v1/auth/me").json()
    assert (me["username"], me["role"]) == (role, role)


def test_each_test_has_its_own_database(control: Running) -> None:
    assert control.admin.post("/api/v1/teams", json={"name": "mine"}).status_code == 201
    assert control.sql("SELECT name FROM team") == [("mine",)]
    assert control.service().get("/internal/v1/spend").status_code == 200
