"""The page of an endpoint tells how it did over time: breakers that were open, requests, errors, times."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.control.api.conftest import Running
from tests.control.api.test_usage import send
from tests.control.test_gateways import target
from tests.control.test_ledger import event


def report(control: Running, gateway: str, *targets: dict[str, Any]) -> None:
    body = {"gateway": gateway, "version": "1", "snapshot": "c1", "started": 1.5, "targets": targets}
    assert control.service().post("/internal/v1/status", json=body).status_code == 204


def filled(control: Running) -> None:
    """Two breakers: one was open for half an hour, three hours ago, the other one still is."""
    body = {"name": "up", "provider": "openai", "spec": {"base_url": "https://one.example/v1"}}
    assert control.admin.post("/api/v1/endpoints", json=body).status_code == 201
    report(control, "gw-1/w0", target("up", "one", breaker="open", error="provider_timeout"))
    report(control, "gw-1/w0", target("up", "one", breaker="half_open", error="provider_timeout"))
    moment = datetime.now(UTC)
    for column, hours in (("began_at", 3.0), ("ended_at", 2.5)):
        stamp = (moment - timedelta(hours=hours)).strftime("%Y-%m-%d %H:%M:%S.%f")
        control.sql(f"UPDATE breaker_span SET {column} = ? WHERE state = 'open'", stamp)
    report(control, "gw-1/w0", target("up", "one"), target("up", "two", breaker="open", error="provider_5xx"))
    send(
        control,
        *(event(endpoint="up", ts=time.time() - 60) for _ in range(3)),
        event(endpoint="up", ts=time.time() - 60, end="upstream_error", status=502),
        *(event(endpoint="other", ts=time.time() - 60) for _ in range(5)),
    )


def test_breakers_and_requests_are_shown_for_the_time_that_is_chosen(
    console: Console, page: Page, control: Running
) -> None:
    filled(control)
    console.open("/endpoints/up")
    console.sign_in("admin")
    health = page.locator("[data-test=endpoint-health]")
    expect(health.locator("[data-test=band]")).to_have_count(2)
    expect(health.locator("[data-test=band]").first).to_contain_text("up/one")
    rows = health.locator("[data-test=breakers] tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("not yet")
    expect(rows.first).to_contain_text("Error of the server")
    expect(rows.last).to_contain_text("No answer in time")
    chart = health.locator("[data-test=chart-requests]")
    chart.get_by_role("button", name="Requests: show as a table").click()
    expect(chart.locator("tbody tr").last.locator("td").nth(1)).to_have_text("3")
    expect(chart.locator("tbody tr").last.locator("td").nth(2)).to_have_text("1")
    expect(health.locator("[data-test=chart-duration]")).to_be_visible()
    expect(health.locator("[data-test=chart-cost]")).to_have_count(0)
    page.get_by_text("7 days", exact=True).click()
    expect(page).to_have_url(f"{console.url}/endpoints/up?range=7d")
    expect(chart.locator("tbody tr")).to_have_count(7)


def test_who_may_not_see_all_usage_sees_breakers_only(console: Console, page: Page, control: Running) -> None:
    filled(control)
    console.open("/endpoints/up")
    console.sign_in("engineer")
    health = page.locator("[data-test=endpoint-health]")
    expect(health.locator("[data-test=band]")).to_have_count(2)
    expect(health.locator("[data-test=chart-requests]")).to_have_count(0)


def test_a_quiet_endpoint_says_so(console: Console, page: Page, control: Running) -> None:
    control.admin.post("/api/v1/endpoints", json={"name": "quiet", "provider": "dummy", "spec": {}})
    console.open("/endpoints/quiet")
    console.sign_in("admin")
    expect(page.locator("[data-test=breakers-none]")).to_be_visible()
    expect(page.locator("[data-test=endpoint-health]")).to_contain_text("No requests in this time.")
