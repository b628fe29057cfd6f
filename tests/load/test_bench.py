"""The pure parts of the benchmark: /proc parsing, ratios, tables, verdicts on load runs, configurations."""

from __future__ import annotations

import json
import os
import tomllib
from typing import Any

import pytest

from . import chart, install, proc, report, scenarios, systems
from .bench import arguments

STAT = "4242 (a (strange) name) S 17 4242 4242 0 -1 4194560 100 0 0 0 250 50 30 20 20 0 8 0 100 1000 2560 1 1"


def test_stat_line_with_brackets_in_the_name() -> None:
    stat = proc.parse_stat(STAT)
    assert (stat.pid, stat.parent) == (4242, 17)
    assert stat.user_us == 250 * proc.TICK_US
    assert stat.system_us == 50 * proc.TICK_US
    assert stat.ended_us == 50 * proc.TICK_US
    assert stat.rss == 2560 * proc.PAGE


def test_tree_takes_grandchildren_and_no_strangers() -> None:
    pairs = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1}
    stats = {pid: proc.Stat(pid, parent, 1.0, 1.0, 0.0, 1) for pid, parent in pairs.items()}
    assert sorted(stat.pid for stat in proc.tree(10, stats)) == [10, 11, 12]
    assert proc.tree(99, stats) == []


def test_usage_of_this_process_grows() -> None:
    before = proc.usage(os.getpid())
    assert before.rss > 0
    sum(range(200_000))
    assert proc.usage(os.getpid()).cpu_us > before.cpu_us


def test_busy_time_counts_steal_and_not_idle() -> None:
    text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 100 50 4 5 6 0 0\ncpu1 7 0 0 0 0 0 0 0 0 0\n"
    assert proc.busy_us(text, 0) == 21 * proc.TICK_US
    assert proc.busy_us(text, 1) == 7 * proc.TICK_US
    assert proc.busy_us(text, 5) == 0.0


def values(**systems_values: list[float | None]) -> dict[str, dict[str, list[dict[str, float]]]]:
    """One scenario `chat`; None is a round without a number."""
    return {
        name: {"chat": [{"round": i, "cpu_us": v} for i, v in enumerate(row, 1) if v is not None]}
        for name, row in systems_values.items()
    }


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    data = values(nginx=[10, 20, 10], ours=[30, 40, 20])
    assert report.ratio(data, "ours", "chat", "cpu_us") == 2.0


def test_ratio_compares_the_same_round_only() -> None:
    data = values(nginx=[10, None, 40], ours=[None, 50, 80])
    assert report.ratio(data, "ours", "chat", "cpu_us") == 2.0
    assert report.ratio(values(nginx=[None], ours=[5]), "ours", "chat", "cpu_us") is None


def test_added_is_against_the_run_without_a_gateway() -> None:
    assert report.added(values(direct=[100, 110], ours=[150, 170]), "ours", "chat", "cpu_us") == 55.0


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(None, 1, "–"), (13.25, 1, "13.2"), (75_432.1, 1, "75,432"), (0.5, 2, "0.50")],
)
def test_number(value: float | None, digits: int, text: str) -> None:
    assert report.number(value, digits) == text


def test_table_escapes_bars() -> None:
    assert report.table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n|---|--:|\n| x\\|y | 1 |"


def test_report_ranks_and_gives_reasons() -> None:
    entry = {"user_us": 1.0, "system_us": 1.0, "rps": 100.0, "core": 0.95, "p50_us": 1.0, "p99_us": 2.0}
    data: dict[str, Any] = {
        name: {"chat": [{"round": 1, "cpu_us": cpu, **entry, "core": core}]}
        for name, cpu, core in (("direct", 50.0, 0.5), ("slow", 90.0, 1.0), ("nginx", 10.0, 0.6))
    }
    titles = {name: name.upper() for name in ("direct", "slow", "nginx", "gone")}
    made = report.Report(data, {"gone": {"": "no such program"}}, titles, {"chat": "short"})
    text = report.markdown(made, {"Date": "today"}, {"slow": "sleeps"}, "x.svg")
    assert text.index("| DIRECT") < text.index("| NGINX") < text.index("| SLOW")
    assert "≥ 100" in text, "nginx did not fill its core: the harness may have been the limit"
    assert "| GONE | everything | no such program |" in text


def test_report_compares_translated_streams_with_those_that_pass() -> None:
    values = {
        system: {"streams20": [{"round": turn, "cpu_us": cost * turn} for turn in (1, 2)]}
        for system, cost in (("tunegate", 10.0), ("tunegate-translated", 13.0))
    }
    page = report.Report(values, {}, {"tunegate": "T", "tunegate-translated": "X"}, {"streams20": "20 streams"})
    told = dict(page.sections())["Translated streams"]
    assert told.endswith("| 20 streams | 15.0 | 19.5 | 1.30 × |")


def test_a_run_with_errors_is_no_result() -> None:
    good: dict[str, Any] = {"errors": 0, "requests": 10, "rps": 200.0, "error_kinds": {}, "first_error": ""}
    assert scenarios.complaint(good, 200) == ""
    assert "saturated: 120 of 200" in scenarios.complaint({**good, "rps": 120.0}, 200)
    assert scenarios.complaint({**good, "requests": 0})
    bad = {**good, "errors": 2, "error_kinds": {"status": 2, "closed": 0}, "first_error": "status: 500 x"}
    assert scenarios.complaint(bad) == "2 errors of 12 (2 status): status: 500 x"


def test_streams_send_as_many_chunks_as_fit() -> None:
    args = scenarios.SCENARIOS["streams300"].arguments(0.4)
    assert args[args.index("--stream") + 1] == "100:20000"


@pytest.mark.parametrize("controls", [True, False])
def test_tunegate_configuration_is_toml(controls: bool) -> None:
    data = tomllib.loads(systems.tunegate_config(controls=controls))
    assert ("limits" in data["key"][0]) is controls
    assert ("team" in data) is controls
    assert ("price" in data["route"][0]) is controls


def test_torch_is_refused() -> None:
    names = ["Torch", "nvidia-cublas", "orjson"]
    assert install.heavy_packages(json.dumps({"install": [{"metadata": {"name": n}} for n in names]})) == [
        "nvidia-cublas",
        "torch",
    ]


def test_reference_systems_are_always_measured() -> None:
    assert arguments(["--systems", "haproxy,nginx"]).systems == ["direct", "nginx", "haproxy"]
    with pytest.raises(SystemExit):
        arguments(["--systems", "nothing"])


def test_chart_is_sorted_and_complete() -> None:
    picture = chart.svg([("CPU", [("big", 900.0, False), ("ours", 30.0, True)]), ("empty", [])])
    assert picture.index("ours") < picture.index("big")
    assert chart.OURS in picture
    assert "empty" not in picture
