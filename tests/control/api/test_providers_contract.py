"""The kinds of provider that forms offer are exactly those that the gateway has an adapter for."""

from __future__ import annotations

from datetime import date

import pytest

from gateway.contract import snapshot as wire
from gateway.contract.providers import KINDS
from gateway.providers.registry import PROVIDERS
from gateway.snapshot.compile import compile_snapshot
from tests.control.api.conftest import Running


def test_the_gateways_registry_knows_exactly_these_kinds() -> None:
    assert set(KINDS) == set(PROVIDERS)
    assert all(name == kind.kind for name, kind in KINDS.items())


@pytest.mark.parametrize("kind", KINDS)
def test_the_gateway_compiles_an_endpoint_that_has_only_what_is_required(kind: str) -> None:
    needs = KINDS[kind].needs_base_url
    url = (KINDS[kind].base_url or "http://engine.example/v1") if needs else ""
    runtime = compile_snapshot(wire.Snapshot(endpoint=(wire.Endpoint(name="e", provider=kind, base_url=url),)))
    assert set(runtime.endpoints) == {"e"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_has_every_setting_but_name_provider_and_secret(kind: str) -> None:
    form = KINDS[kind].form()
    assert set(form["properties"]) == set(wire.Endpoint.model_fields) - {"name", "provider", "api_key"}
    assert set(form["properties"]["options"].get("properties", {})) == set(KINDS[kind].options.model_fields)
    assert ("base_url" in form["required"]) == KINDS[kind].needs_base_url


def test_the_api_lists_them(control: Running) -> None:
    listed = control.as_("engineer").get("/api/v1/providers").json()["items"]
    assert [item["kind"] for item in listed] == list(KINDS)
    assert control.as_("member").get("/api/v1/providers").status_code == 403


def test_prices_have_a_source_and_a_date_and_can_be_searched(control: Running) -> None:
    listed = control.as_("member").get("/api/v1/prices/defaults").json()["items"]
    assert 20 <= len(listed) <= 40
    assert all(entry["source"] and date.fromisoformat(entry["as_of"]) for entry in listed)
    assert {entry["vendor"] for entry in listed} == {"openai", "anthropic", "deepseek", "qwen", "glm", "gemini"}
    found = control.admin.get("/api/v1/prices/defaults", params={"search": "GPT-4o"}).json()["items"]
    assert [entry["model"] for entry in found] == ["gpt-4o", "gpt-4o-mini"]
    assert control.admin.get("/api/v1/prices/defaults", params={"search": "%"}).json()["items"] == []
    assert control.admin.get("/api/v1/prices/defaults", params={"search": "x" * 201}).status_code == 422
