"""Signing in: rotation with reuse detection, revocation, throttling, forced password change."""

from __future__ import annotations

import httpx2 as httpx
import pytest

from tests.control.api.conftest import PASSWORD, Running

COOKIE = "tunegate_refresh"


def login(client: httpx.Client, username: str = "member", password: str = PASSWORD) -> httpx.Response:
    return client.post("/api/v1/auth/login", json={"username": username, "password": password})


def fresh(control: Running) -> httpx.Client:
    return httpx.Client(base_url=control.url, timeout=30, trust_env=False)


def me(client: httpx.Client, token: str) -> int:
    return client.get("/api/v1/auth/me", headers={"authorization": f"Bearer {token}"}).status_code


def test_a_login_says_who_one_is_and_keeps_the_refresh_token_from_scripts(control: Running) -> None:
    with fresh(control) as client:
        answer = login(client)
        cookie = answer.headers["set-cookie"]
        assert all(word in cookie for word in ("HttpOnly", "SameSite=strict", "Path=/api/v1/auth"))
        assert answer.headers["cache-control"] == "no-store"
        assert answer.json()["expires_in"] == 900
        headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
        body = client.get("/api/v1/auth/me", headers=headers).json()
        assert (body["username"], body["role"], body["teams"]) == ("member", "member", [])
        assert "keys:own" in body["permissions"]


def test_a_refresh_token_works_once_and_its_reuse_ends_the_whole_login(control: Running) -> None:
    with fresh(control) as client, fresh(control) as thief:
        login(client)
        stolen = client.cookies[COOKIE]
        assert client.post("/api/v1/auth/refresh").status_code == 200
        latest = client.cookies[COOKIE]
        assert latest != stolen
        thief.cookies.set(COOKIE, stolen, path="/api/v1/auth")
        assert thief.post("/api/v1/auth/refresh").status_code == 401
        assert client.post("/api/v1/auth/refresh").status_code == 401, "the rightful holder is signed out too"
    assert control.sql("SELECT count(*) FROM audit_log WHERE action = 'refresh_reused'") == [(1,)]


def test_logout_ends_the_login(control: Running) -> None:
    with fresh(control) as client:
        login(client)
        token = client.cookies[COOKIE]
        assert client.post("/api/v1/auth/logout").status_code == 204
        client.cookies.set(COOKIE, token, path="/api/v1/auth")
        assert client.post("/api/v1/auth/refresh").status_code == 401
        assert client.post("/api/v1/auth/logout").status_code == 204, "twice is no error"


def test_a_wrong_name_and_a_wrong_password_read_the_same(control: Running) -> None:
    with fresh(control) as client:
        wrong_password, wrong_name = login(client, "member", "no"), login(client, "nobody", "no")
    assert wrong_password.status_code == wrong_name.status_code == 401
    assert wrong_password.json() == wrong_name.json()


def test_wrong_passwords_pause_the_account_also_for_the_right_one(control: Running) -> None:
    with fresh(control) as client:
        assert [login(client, "member", "no").status_code for _ in range(5)] == [401] * 5
        paused = login(client)
        assert (paused.status_code, paused.json()["code"]) == (429, "login_paused")
        assert 1 <= int(paused.headers["retry-after"]) <= 6
        assert login(client, "viewer").status_code == 200, "others are not held up"
        control.sql("UPDATE user_account SET locked_until = '2020-01-01 00:00:00' WHERE username = 'member'")
        assert login(client).status_code == 200


def test_a_new_password_ends_every_login(control: Running) -> None:
    with fresh(control) as client, fresh(control) as elsewhere:
        old = login(elsewhere).json()["access_token"]
        headers = {"authorization": f"Bearer {login(client).json()['access_token']}"}
        change = {"current": PASSWORD, "new": "another long password"}
        refused = client.post("/api/v1/auth/password", headers=headers, json=change | {"current": "wrong"})
        assert (refused.status_code, refused.json()["code"]) == (403, "bad_password")
        answer = client.post("/api/v1/auth/password", headers=headers, json=change)
        assert answer.status_code == 200
        assert me(client, answer.json()["access_token"]) == 200
        assert me(client, old) == 401
        assert elsewhere.post("/api/v1/auth/refresh").status_code == 401
        assert login(client).status_code == 401
        assert login(client, password="another long password").status_code == 200


def test_a_made_password_must_be_changed_before_anything_else(control: Running) -> None:
    created = control.admin.post("/api/v1/users", json={"username": "carol", "role": "operator"})
    password = created.json()["generated_password"]
    with fresh(control) as client:
        headers = {"authorization": f"Bearer {login(client, 'carol', password).json()['access_token']}"}
        refused = client.get("/api/v1/keys", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "password_change_required")
        change = {"current": password, "new": "a password of my own"}
        token = client.post("/api/v1/auth/password", headers=headers, json=change).json()["access_token"]
        assert client.get("/api/v1/keys", headers={"authorization": f"Bearer {token}"}).status_code == 200
    assert password not in control.everything()


def test_another_role_or_being_disabled_ends_access_at_once(control: Running) -> None:
    member = control.as_("member")
    assert member.get("/api/v1/keys").status_code == 200
    user = control.admin.get("/api/v1/users/member").json()
    change = {"row_version": user["row_version"], "enabled": False}
    assert control.admin.patch("/api/v1/users/member", json=change).status_code == 200
    assert member.get("/api/v1/keys").status_code == 401
    with fresh(control) as client:
        assert login(client).status_code == 401


def test_the_last_admin_stays(control: Running) -> None:
    version = control.admin.get("/api/v1/users/admin").json()["row_version"]
    for change in ({"enabled": False}, {"role": "viewer"}):
        refused = control.admin.patch("/api/v1/users/admin", json={"row_version": version} | change)
        assert (refused.status_code, refused.json()["code"]) == (409, "last_admin")


@pytest.mark.parametrize("token", ["x", "a.b.c", "Bearer", "x y", "é"])
def test_a_token_that_is_none_is_401(control: Running, token: str) -> None:
    answer = control.anonymous().get("/api/v1/auth/me", headers={"authorization": f"Bearer {token}".encode()})
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
