"""A browser that signs in at a provider on loopback, cookies kept and redirects followed; and the audit log of it."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx

from tests.control.api.conftest import Running

PUBLIC = "http://console.test"
START = "/api/v1/auth/oidc/start"


class Browser:
    """Cookies, and redirects followed; the console's public name leads to the control plane, as a proxy would."""

    def __init__(self, control: Running) -> None:
        self.client = control.browser()
        self.control = control
        self.seen: list[str] = []

    def sign_in(self, start: str = START) -> str:
        """Follow the redirects from `start` until a page of the console; returns its path."""
        return self.follow(self.client.get(self.control.url + start))

    def follow(self, answer: httpx.Response) -> str:
        for _ in range(5):
            assert answer.status_code in (302, 303), answer.text
            where = answer.headers["location"].removeprefix(PUBLIC)
            self.seen.append(where)
            if where.startswith("/") and not where.startswith("/api/"):
                return where
            answer = self.client.get(where if where.startswith("http") else self.control.url + where)
        raise AssertionError(f"redirects without end: {self.seen}")

    def until_callback(self) -> str:
        """Go to the provider and come back, but do not show the answer yet: its path."""
        to_provider = self.client.get(self.control.url + START).headers["location"]
        where: str = self.client.get(to_provider).headers["location"]
        return where.removeprefix(PUBLIC)

    def me(self) -> Any:
        """As the console does: refresh, then ask who is signed in."""
        answer = self.client.post(f"{self.control.url}/api/v1/auth/refresh")
        if answer.status_code != 200:
            return answer.json()["code"]
        headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
        return self.client.get(f"{self.control.url}/api/v1/auth/me", headers=headers).json()


def audited(control: Running, action: str) -> list[str]:
    rows = control.sql("SELECT actor, resource, state_after FROM audit_log WHERE action = ? ORDER BY seq", action)
    return [" ".join(row) for row in rows]


def failed(control: Running, browser: Browser, code: str) -> str:
    """Nobody is signed in, the login page learns the code, the audit log the reason; returns that."""
    assert browser.seen[-1] == f"/login?sso_error={code}"
    assert browser.me() == "not_signed_in"
    (entry,) = [line for line in audited(control, "login_failed") if f" {code} " in line]
    return entry
