"""The rules say what they should: promtool accepts them, each alert fires and keeps quiet, each has its runbook."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from control.kit.metrics import TABLE as OF_CONTROL
from gateway.telemetry.metrics import TABLE as OF_GATEWAY
from tests.monitoring.cases import CASES, Series

ROOT = Path(__file__).parents[2]
CHARTS = ROOT / "charts/monitoring"
VLLM_PAGE = Path(__file__).with_name("vllm-0.32.0.prom")
"""A real page: of vLLM 0.32.0 for the CPU with the tiny model and its adapters, after twelve requests through a
gateway. Its names are those that dashboards may use."""
GROUPS = yaml.safe_load((CHARTS / "rules.yaml").read_text(encoding="utf-8"))["groups"]
ALERTS: dict[str, dict[str, Any]] = {r["alert"]: r for group in GROUPS for r in group["rules"] if "alert" in r}
RECORDS = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}
DASHBOARDS = sorted((CHARTS / "dashboards").glob("*.json"))


def promtool(*arguments: str) -> str:
    """What promtool says; it must be content."""
    program = shutil.which("promtool")
    if program is None:
        if os.environ.get("REQUIRE_PROMETHEUS"):
            pytest.fail("promtool is not installed: requirements/install-servers.sh")
        pytest.skip("promtool is not installed: as root on Debian, make test installs it")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expressions() -> list[tuple[str, str]]:
    """(where, PromQL) of every rule and panel."""
    rules = [(r.get("alert") or r["record"], r["expr"]) for group in GROUPS for r in group["rules"]]
    return rules + [(where, expression) for where, expression in panels()]


def panels() -> list[tuple[str, str]]:
    """(dashboard / panel / legend, PromQL) of every query of the dashboards."""
    found = []
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", []):
                found.append((f"{path.stem} / {panel['title']} / {target['legendFormat']}", target["expr"]))
    return found


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "config", str(CHARTS / "prometheus.yaml"))
    promtool("check", "rules", str(CHARTS / "rules.yaml"))


def _unit(series: Series, alert: str, minutes: int, fires: int) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": fires}],
            }
        ],
    }


def _add(units: list[dict[str, Any]], unit: dict[str, Any]) -> None:
    """Put a unit to another that lasts as long and has none of its metrics: each takes a tenth of a second."""

    def metrics(one: dict[str, Any]) -> set[str]:
        return {series["series"].partition("{")[0] for series in one["input_series"]}

    for other in units:
        as_long = other["promql_expr_test"][0]["eval_time"] == unit["promql_expr_test"][0]["eval_time"]
        if as_long and not metrics(other) & metrics(unit):
            other["input_series"] += unit["input_series"]
            other["promql_expr_test"] += unit["promql_expr_test"]
            return
    units.append(unit)


def _tested(folder: Path, group: dict[str, Any], units: list[dict[str, Any]]) -> str:
    """A file of units for one group; with the recorded ratios where it needs them, since each rule takes its time."""
    needed = [GROUPS[0], group] if "tunegate:" in json.dumps(group) and group is not GROUPS[0] else [group]
    rules, tests = folder / f"{group['name']}-rules.json", folder / f"{group['name']}.json"  # JSON is YAML
    rules.write_text(json.dumps({"groups": needed}))
    tests.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": units}))
    return str(tests)


def test_every_alert_fires_when_it_should_and_keeps_quiet_when_it_should_not(tmp_path: Path) -> None:
    assert CASES.keys() == ALERTS.keys(), "each alert has its cases"
    files = []
    for group in GROUPS[1:]:
        units: list[dict[str, Any]] = []
        for name in (rule["alert"] for rule in group["rules"]):
            case = CASES[name]
            _add(units, _unit(case.fires, name, case.minutes, 1))
            _add(units, _unit(case.quiet, name, case.minutes, 0))
        files.append(_tested(tmp_path, group, units))
    promtool("test", "rules", *files)


def test_an_alert_for_one_budget_window_needs_both_windows(tmp_path: Path) -> None:
    """Errors that are over: the long window still holds them, the short one does not, and nobody is called."""
    over = {
        'tunegate_errors_total{error="provider_5xx", route="m"}': "0+20x20 400x40",
        'tunegate_requests_total{route="m"}': "0+100x60",
    }
    unit = _unit(over, "TunegateAvailabilityBurnsFast", 59, 0)
    unit["promql_expr_test"].append(
        {"expr": "tunegate:requests_failed:ratio_rate1h > bool 0.05", "eval_time": "59m",
         "exp_samples": [{"labels": "{}", "value": 1}]}
    )  # fmt: skip
    promtool("test", "rules", _tested(tmp_path, GROUPS[1], [unit]))


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_urgent_it_is_and_where_its_runbook_is(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("page", "ticket", "info")
    said = alert["annotations"]
    assert said["summary"]
    assert said["description"]
    address, _, anchor = said["runbook_url"].partition("#")
    assert address == "https://docs.example.com/tunegate/runbooks.md", "the placeholder that docs/operations.md names"
    headings = re.findall(r"(?m)^### (\w+)$", (ROOT / "docs/runbooks.md").read_text(encoding="utf-8"))
    assert anchor == name.lower()
    assert name in headings, "docs/runbooks.md has no section of it"


def test_the_runbooks_have_no_section_of_an_alert_that_is_gone() -> None:
    headings = set(re.findall(r"(?m)^### (\w+)$", (ROOT / "docs/runbooks.md").read_text(encoding="utf-8")))
    assert headings == ALERTS.keys()


def test_the_log_events_that_runbooks_name_are_logged() -> None:
    told = set(re.findall(r"`([a-z]+\.[a-z_]+)`", (ROOT / "docs/runbooks.md").read_text(encoding="utf-8")))
    code = "".join(
        p.read_text(encoding="utf-8") for plane in ("gateway", "trainer") for p in (ROOT / plane).rglob("*.py")
    )
    assert len(told) >= 4
    assert not {event for event in told if f'"{event}"' not in code}


def test_the_runbooks_say_the_severity_of_the_rules() -> None:
    page = (ROOT / "docs/runbooks.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"(?m)^### (\w+)\n\n\*(\w+)\.\*", page))
    assert told == {name: alert["labels"]["severity"] for name, alert in ALERTS.items()}


def test_the_dashboards_are_what_their_description_says_or_make_fix_was_forgotten() -> None:
    made = dict(runpy.run_path(str(CHARTS / "make.py"))["dashboards"]())
    assert {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS} == made


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_can_be_imported(path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    assert board["uid"] == f"tunegate-{path.stem}"
    assert len(board["uid"]) <= 40
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, f"{panel['title']} lies over another"
        taken |= cells
    variables = {one["name"] for one in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"]))) - {"__rate_interval", "__range"}
    assert used == variables, "each variable is used, and there"


def test_every_metric_that_rules_and_dashboards_name_exists() -> None:
    ours = {
        name + suffix
        for name, spec in {**OF_GATEWAY, **OF_CONTROL}.items()
        for suffix in {"counter": ("_total",), "gauge": ("",)}.get(spec.kind, ("_bucket", "_sum", "_count"))
    }
    theirs = set(re.findall(r"(?m)^([\w:]+)[{ ]", VLLM_PAGE.read_text(encoding="utf-8")))
    found: dict[str, str] = {}
    for where, expression in expressions():
        bare = re.sub(r'"[^"]*"', "", expression)
        for name in re.findall(r"\b(?:tunegate_|gen_ai_server_|vllm:|process_|tunegate:)[\w:]+", bare):
            found.setdefault(name, where)
    unknown = {name: where for name, where in found.items() if name not in ours | theirs | RECORDS}
    assert not unknown
    named = ours - {name + "_bucket" for name in ours}
    unseen = {n for n in named if n not in found and not n.endswith(("_sum", "_count", "_bucket"))}
    assert not unseen, "metrics of ours that no dashboard and no rule shows"
