"""Usage and cost: the page says what the API says, keeps what was asked in its address, and gives it away as CSV."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.console.browsing import Console
from tests.control.api.conftest import Running
from tests.control.api.test_usage import report, send
from tests.control.test_ledger import event

ROWS = (("gpt", "k@member", 3), ("gpt", "k@engineer", 5), ("qwen", "k@member", 2))


def used(control: Running) -> None:
    for who in ("member", "engineer"):
        control.as_(who).post("/api/v1/keys", json={"name": "k"})
    moment = time.time() - 120
    send(
        control,
        *(
            event(route=route, key=key, ts=moment, cost_nano=100_000_000, endpoint=f"{route}-eu")
            for route, key, count in ROWS
            for _ in range(count)
        ),
    )


def cells(page: Page, name: str, row: str = "line") -> list[str]:
    return [text.strip() for text in page.locator(f"[data-test={row}] [data-test={name}]").all_inner_texts()]


def names(page: Page) -> list[str]:
    return page.locator("[data-test=usage-table] [data-test=line] th").all_inner_texts()


def choose(page: Page, where: str, option: str) -> None:
    field = page.locator(f"[data-test={where}]")
    field.click()
    page.locator(".el-select-dropdown__item:visible", has_text=option).first.click()
    expect(field).to_contain_text(option)


def test_lines_and_total_are_those_of_the_api(console: Console, page: Page, control: Running) -> None:
    used(control)
    console.open("/usage")
    console.sign_in("admin")
    lines = report(control, by="route")
    assert names(page) == [line["group"]["route"] for line in lines] == ["gpt", "qwen"]
    assert cells(page, "requests") == [str(line["requests"]) for line in lines] == ["8", "2"]
    assert cells(page, "cost") == ["0.80", "0.20"]
    assert cells(page, "tokens") == [str(line["total_tokens"]) for line in lines]
    assert (cells(page, "requests", "total"), cells(page, "cost", "total")) == (["10"], ["1.00"])


def test_what_is_asked_is_in_the_address(console: Console, page: Page, control: Running) -> None:
    used(control)
    console.open("/usage")
    console.sign_in("admin")
    choose(page, "filter-key", "k@member")
    expect(page).to_have_url(f"{console.url}/usage?key=k@member")
    choose(page, "by", "Endpoint")
    page.get_by_text("30 days", exact=True).click()
    console.settled()
    for _ in range(2):
        assert names(page) == ["gpt-eu", "qwen-eu"]
        assert cells(page, "requests") == ["3", "2"]
        page.reload()
        console.settled()
    assert "by=endpoint" in page.url
    assert "range=30d" in page.url
    page.locator("[data-test=clear]").click()
    console.settled()
    assert cells(page, "requests", "total") == ["10"]


def test_one_looks_into_a_line_down_to_its_requests(console: Console, page: Page, control: Running) -> None:
    used(control)
    console.open("/usage")
    console.sign_in("admin")
    page.get_by_role("button", name="gpt", exact=True).click()
    console.settled()
    assert names(page) == ["k@engineer", "k@member"]
    page.locator("[data-test=line] [data-test=requests] a").first.click()
    console.settled()
    expect(page).to_have_url(re.compile(rf"^{re.escape(console.url)}/requests\?"))
    expect(page.locator(".el-table__row")).to_have_count(5)


def test_the_csv_has_every_line(console: Console, page: Page, control: Running, tmp_path: Path) -> None:
    used(control)
    console.open("/usage?by=key")
    console.sign_in("admin")
    with page.expect_download() as download:
        page.locator("[data-test=export]").click()
    file = tmp_path / "usage.csv"
    download.value.save_as(file)
    rows: list[dict[str, Any]] = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert {(row["key"], int(row["requests"])) for row in rows} == {("k@member", 5), ("k@engineer", 5)}
    assert sum(int(row["cost_nano"]) for row in rows) == 1_000_000_000
    assert download.value.suggested_filename.endswith(".csv")


def test_a_member_sees_only_their_own(console: Console, page: Page, control: Running) -> None:
    used(control)
    console.open("/usage?by=key")
    console.sign_in("member")
    assert names(page) == ["k@member"]
    assert cells(page, "requests", "total") == ["5"]


@pytest.mark.parametrize("address", ["range=custom&since=x&until=y", "zone=Mars/Base&by=nothing&top=1e9&step=minute"])
def test_an_address_that_makes_no_sense_shows_the_last_week(
    console: Console, page: Page, control: Running, address: str
) -> None:
    used(control)
    console.open(f"/usage?{address}")
    console.sign_in("admin")
    assert cells(page, "requests", "total") == ["10"]
