"""Drafts of routes by the API: nothing leads to one, and only the key of comparisons may call it."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx


def test_nothing_leads_to_a_draft_and_its_key_is_nobodys(admin: httpx.Client) -> None:
    def refused(method: str, path: str, status: int, **body: Any) -> str:
        answer = admin.request(method, f"/api/v1{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.text

    def post(path: str, **body: Any) -> Any:
        answer = admin.post(f"/api/v1{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    post("/endpoints", name="up", provider="dummy", spec={})
    grants = [{"principal_kind": "everyone"}]
    target = {"target": [{"endpoint": "up", "model": "m"}]}
    post("/routes", name="spare", spec=target, grants=grants)
    post("/routes", name="next", spec=target | {"fallback": "spare"}, grants=grants, draft=True)
    spec = target
    assert "is a draft" in refused("POST", "/routes", 422, name="other", spec=spec | {"fallback": "next"})
    assert "cannot end in *" in refused("POST", "/routes", 422, name="any/*", spec=spec, draft=True)
    assert "in_use" in refused("PATCH", "/routes/spare", 409, row_version=1, draft=True)
    refused("POST", "/routes", 422, name="other", spec=spec | {"draft": True})
    checked = post("/routes/validate", name="other", spec=spec | {"draft": True})
    assert checked["problems"][0]["at"] == "body.spec.draft"
    assert "service_key" in refused("POST", "/keys", 409, name="comparisons")
    post("/keys", name="own")
    post("/suites", name="one")
    post(
        "/suites/one/versions", prompts=[{"name": "p", "messages": []}],
        sources=[{"kind": "cases", "cases": [{"messages": [{"role": "user", "content": "?"}]}]}],
    )  # fmt: skip
    body = {"candidates": [{"route": "next"}]}
    assert "body.key" in refused("POST", "/suites/one/runs", 422, key="own@admin", **body)
    post("/suites/one/runs", **body)
    assert admin.get("/api/v1/routes/next").json()["draft"] is True
    assert "service_key" in refused("POST", "/keys/comparisons@admin/rotate", 409)
    explained = {
        key: {
            one["name"]: one["ok"]
            for one in admin.get("/api/v1/routes/next/explain", params={"key": key}).json()["checks"]
        }
        for key in ("own@admin", "comparisons@admin")
    }
    assert explained["own@admin"]["granted"] is False
    assert explained["comparisons@admin"]["granted"] is True
