"""A real Prometheus scrapes a running installation: every panel of every dashboard and every rule finds its data."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from tests.monitoring.stack import Engine, Installation, installation, written
from tests.monitoring.test_rules import ALERTS, CHARTS, GROUPS, RECORDS, VLLM_PAGE, panels
from tests.processes import eventually, free_port

EMPTY = {
    "cost / Blocked / {{route}} {{kind}}": "no route here has a guard",
    "cost / Masked finds / {{kind}}": "as above",
    "cost / Unanswered by moderation or webhook / {{route}} {{kind}}": "as above",
    "gateway / Credentials that could not be renewed / {{endpoint}}": "no endpoint here has a credential that expires",
    "gateway / Calls to Redis for answers / {{outcome}}": "this gateway has no Redis",
    "gateway / Calls to Redis / {{outcome}}": "this gateway counts limits in memory",
    "gateway / Time of calls / 99 %": "as above",
    "gateway / Breaker before Redis / {{instance}}": "as above",
    "gateway / Requests that no lease covered / {{outcome}}": "as above",
    "gateway / Scopes with a lease / {{instance}}": "as above",
}
"""Panels without data in this installation, and why."""
EMPTY_SELECTORS = {
    'tunegate_retrieval_seconds_count{outcome="failed"}': "no look-up fails here; the rule takes none for 0",
    'tunegate_rejected_total{error=~"tunegate_.+"}': "the gateway refuses nothing by its own fault here",
    "tunegate_credential_failures_total": "no endpoint here has a credential that expires",
    "tunegate_limits_redis_breaker": "this gateway counts limits in memory",
    'tunegate_api_requests_total{status=~"5.."}': "control makes no mistake here",
    'tunegate_api_requests_total{operation="login", status=~"401|429"}': "nobody mistypes a password here",
}
"""Selectors of rules that find nothing here, and why."""
Query = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("monitoring")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Installation]:
    if shutil.which("prometheus") is None:
        if os.environ.get("REQUIRE_PROMETHEUS"):
            pytest.fail("prometheus is not installed: requirements/install-servers.sh")
        pytest.skip("prometheus is not installed: as root on Debian, make test installs it")
    with pytest.MonkeyPatch.context() as patch:
        environment: dict[str, str] = {}
        with installation(folder, _Set(patch, environment)) as one:
            yield one


class _Set(dict[str, str]):
    """Sets variables of this process, whose environment control inherits."""

    def __init__(self, patch: pytest.MonkeyPatch, start: dict[str, str]) -> None:
        super().__init__(start)
        self._patch = patch

    def __setitem__(self, name: str, text: str) -> None:
        super().__setitem__(name, text)
        self._patch.setenv(name, text)


@pytest.fixture(scope="module")
def query(folder: Path, running: Installation) -> Iterator[Query]:
    """Asks the Prometheus that has scraped this installation under traffic for some seconds."""
    port = free_port()
    with Engine(VLLM_PAGE).running() as engine:
        template = (CHARTS / "prometheus.yaml").read_text(encoding="utf-8")
        addresses = {
            "gateway": running.gateway.url.removeprefix("http://"),
            "control": running.control.url.removeprefix("http://"),
            "engine": engine.address,
        }
        config = folder / "prometheus.yml"
        config.write_text(written(template, CHARTS / "rules.yaml", **addresses))
        argv = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]  # fmt: skip
        with (folder / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30, trust_env=False)

        def ask(expression: str) -> list[dict[str, Any]]:
            answer = client.get("/query", params={"query": expression})
            assert answer.status_code == 200, f"{expression}: {answer.text}"
            found: list[dict[str, Any]] = answer.json()["data"]["result"]
            return found

        def answers() -> bool:
            assert process.poll() is None, (folder / "prometheus.log").read_text()
            try:
                return client.get("/status/buildinfo").status_code == 200
            except httpx.TransportError:
                return False

        try:
            eventually(answers, 20)
            eventually(lambda: len(ask("up == 1")) == 3, 20)  # its first look at targets comes after five seconds
            for _ in range(6):
                running.traffic()
                time.sleep(0.6)
            yield ask
        finally:
            process.terminate()
            process.wait(10)
            client.close()


def numbers(found: list[dict[str, Any]]) -> list[float]:
    return [float(one["value"][1]) for one in found]


def shown(expression: str) -> str:
    """As Grafana would ask, with all gateways, routes and models chosen."""
    return re.sub(r"\$(gateway|route|model)\b", ".*", expression).replace("$__rate_interval", "10s").replace(
        "$__range", "1m"
    )  # fmt: skip


def test_every_panel_of_every_dashboard_shows_something(query: Query) -> None:
    silent = []
    for where, expression in panels():
        if not any(math.isfinite(one) for one in numbers(query(shown(expression)))):
            silent.append(where)
    assert silent == list(EMPTY)


def test_every_rule_is_evaluated_without_an_error_and_every_recorded_ratio_is_there(query: Query) -> None:
    eventually(lambda: all(map(math.isfinite, numbers(query("tunegate:requests_failed:ratio_rate3d")))), 10)
    ratios = {record: numbers(query(record)) for record in RECORDS}
    assert ratios.keys() == RECORDS
    assert all(0 <= one <= 1 for found in ratios.values() for one in found), ratios
    (failed,) = ratios["tunegate:requests_failed:ratio_rate5m"]
    assert failed > 0, "the route `fails` fails"
    targets = {one["metric"]["target"]: float(one["value"][1]) for one in query("tunegate:target_failed:ratio_rate5m")}
    assert {target.partition("/")[0]: part for target, part in targets.items() if part > 0.9}.keys() == {"bad"}


def test_every_selector_of_every_rule_finds_its_metric(query: Query) -> None:
    rules = [rule for group in GROUPS for rule in group["rules"]]
    selectors = {
        name + labels
        for rule in rules
        for name, labels in re.findall(
            r'\b((?:tunegate_|gen_ai_|vllm:)[\w:]+|up)(\{(?:[^}"]|"[^"]*")*\})?', rule["expr"]
        )
    }
    assert len(selectors) >= 30
    missing = {selector for selector in selectors if not query(selector)}
    assert missing == set(EMPTY_SELECTORS)


def test_nothing_cries_while_all_is_well_but_what_is_made_to_fail(query: Query) -> None:
    crying = {one["metric"]["alertname"] for one in query("ALERTS")}
    expected = {"TunegateTargetFailing", "TunegateBreakerOpen", "TunegateAvailabilityBurnsFast",
                "TunegateAvailabilityBurnsSlow", "TunegateBudgetsNearlySpent", "TunegateEndpointUnusable"}  # fmt: skip
    assert crying <= expected | {"TunegateDiskFilling"}, "this machine's disk may be what it is"
    assert "TunegateAvailabilityBurnsFast" in crying, "a sixth of the requests fail"
    assert ALERTS.keys() >= crying


def test_control_that_is_gone_is_noticed_by_scrape_and_by_gateway(query: Query, running: Installation) -> None:
    running.control.kill9()
    wanted = {"TunegateControlDown", "TunegateControlUnreachable", "TunegateSnapshotStale"}

    def crying() -> set[str]:
        return {one["metric"]["alertname"] for one in query('ALERTS{alertstate="pending"}')}

    eventually(lambda: wanted <= crying(), 15)
