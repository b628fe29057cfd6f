"""People as other people see them: also those whose row holds what this version does not know."""

from __future__ import annotations

from tests.control.api.conftest import Running

USERS = "/api/v1/users"


def test_a_role_that_is_not_known_here_hides_nobody_and_permits_nothing(control: Running) -> None:
    member = control.as_("member")
    control.sql("UPDATE user_account SET role = 'auditor-of-2031' WHERE username = 'member'")
    shown = {user["username"]: user["role"] for user in control.admin.get(USERS).json()["items"]}
    assert (shown["member"], shown["viewer"]) == (None, "viewer")
    refused = member.get("/api/v1/keys")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert member.get("/api/v1/auth/me").status_code == 403

    version = control.admin.get(f"{USERS}/member").json()["row_version"]
    mended = control.admin.patch(f"{USERS}/member", json={"row_version": version, "role": "member"})
    assert mended.json()["role"] == "member"
    assert control.sql("SELECT role FROM user_account WHERE username = 'member'") == [("member",)]
