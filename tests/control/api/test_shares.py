"""Links to a run's report: for whoever is signed in, for so long, until somebody ends them, and of nothing else."""

from __future__ import annotations

import hashlib

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running
from tests.control.api.test_runs import RUNS, client, control, done, gateway, suite

__all__ = ["client", "control", "gateway"]
SHARED = "/api/v1/shared"


@pytest.fixture
def run(client: httpx.Client) -> str:
    suite(client, 2)
    return done(client, "good")


def test_a_link_shows_the_report_and_nothing_else_to_whoever_is_signed_in(
    control: Running, client: httpx.Client, run: str
) -> None:
    member = control.as_("member")
    made = client.post(f"{RUNS}/{run}/shares", json={"days": 7})
    assert made.status_code == 201, made.text
    token = made.json()["token"]
    shown = member.post(SHARED, json={"token": token}).json()
    assert (shown["suite"], shown["version"], shown["state"], shown["created_by"]) == (
        "questions",
        1,
        "done",
        "engineer",
    )
    assert shown["report"] == client.get(f"{RUNS}/{run}/report").json()
    assert "Answer: yes" not in str(shown)
    assert member.get(f"{RUNS}/{run}/report").status_code == 403
    assert control.anonymous().post(SHARED, json={"token": token}).status_code == 401
    kept = control.sql("SELECT digest FROM comparison_share")
    assert kept == [(hashlib.sha256(token.encode()).hexdigest(),)]
    (listed,) = client.get(f"{RUNS}/{run}/shares").json()["items"]
    assert listed == {name: value for name, value in made.json().items() if name != "token"}
    assert token not in str(control.sql("SELECT * FROM audit_log"))


def test_a_link_ends_when_it_is_revoked_or_too_old_or_its_run_goes(
    control: Running, client: httpx.Client, run: str
) -> None:
    member = control.as_("member")
    one, other, third = (client.post(f"{RUNS}/{run}/shares", json={}).json() for _ in range(3))

    def status(share: dict[str, str]) -> int:
        return member.post(SHARED, json={"token": share["token"]}).status_code

    assert [status(share) for share in (one, other, third)] == [200, 200, 200]
    for _ in range(2):
        assert client.delete(f"{RUNS}/{run}/shares/{one['id']}").status_code == 204
    control.sql("UPDATE comparison_share SET expires_at = '2026-01-01 00:00:00.000000' WHERE id = ?", other["id"])
    assert [status(share) for share in (one, other, third)] == [404, 404, 200]
    noted = control.admin.get("/api/v1/audit", params={"resource_kind": "share"}).json()["items"]
    assert [entry["action"] for entry in noted] == ["revoke", "create", "create", "create"]
    assert control.admin.delete(f"{RUNS}/{run}").status_code == 204
    assert status(third) == 404
    assert control.sql("SELECT count(*) FROM comparison_share") == [(0,)]


def test_links_are_made_and_ended_by_those_whose_run_it_is(control: Running, client: httpx.Client, run: str) -> None:
    share = client.post(f"{RUNS}/{run}/shares", json={}).json()
    viewer = control.as_("viewer")
    assert viewer.post(f"{RUNS}/{run}/shares", json={}).status_code == 403
    assert viewer.delete(f"{RUNS}/{run}/shares/{share['id']}").status_code == 403
    assert len(viewer.get(f"{RUNS}/{run}/shares").json()["items"]) == 1
    assert client.delete(f"{RUNS}/nothing/shares/{share['id']}").status_code == 404
    assert client.delete(f"{RUNS}/{run}/shares/nothing").status_code == 404
    for days in (0, 366, True, "7", 1.5):
        assert client.post(f"{RUNS}/{run}/shares", json={"days": days}).status_code == 422
    for token in ("", "\0", "a b", "x" * 101, 7, None):
        assert client.post(SHARED, json={"token": token}).status_code == 422
    for _ in range(49):
        assert client.post(f"{RUNS}/{run}/shares", json={}).status_code == 201
    full = client.post(f"{RUNS}/{run}/shares", json={})
    assert (full.status_code, full.json()["code"]) == (409, "too_many")
