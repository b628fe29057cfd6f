"""Spans of attempts: one tree for each, whatever is restarted, and nothing where there is no trace or no collector."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.collector import Collector, Told
from tests.processes import alive, eventually
from tests.trainer.fake_control import FakeControl
from tests.trainer.test_worker import WorkerProcess, order, state
from trainer.settings import WorkerTable

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALL = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as one:
        yield one


@pytest.fixture
def worker(control: FakeControl, collector: Collector, tmp_path: Path) -> Iterator[WorkerProcess]:
    one = WorkerProcess(control, tmp_path, more=f'otlp_endpoint = "{collector.url}"\n')
    yield one
    one.end()


def tree(told: list[Told]) -> dict[str, list[str]]:
    """Name of each span -> those in it, as they began; `""`: of the call."""
    names = {one.span.span_id.hex(): one.span.name for one in told} | {"b7ad6b7169203331": ""}
    found: dict[str, list[str]] = {}
    for one in sorted(told, key=lambda one: one.span.start_time_unix_nano):
        found.setdefault(names[one.span.parent_span_id.hex()], []).append(one.span.name)
    return found


def test_an_attempt_is_one_tree_of_spans_also_if_its_worker_was_killed_meanwhile(
    control: FakeControl, collector: Collector, worker: WorkerProcess
) -> None:
    order(control, "waits 5", trace=CALL)
    first = worker.begin()
    eventually(lambda: control.events.get("a1"))
    first.kill()
    first.wait()
    (worker.run("j1", "a1").parent / "GO").touch()
    worker.begin()
    eventually(state(control, "ended"), 20)
    worker.end()
    assert tree(collector.told) == {
        "": ["attempt job"], "attempt job": ["prepare", "run", "upload"], "run": ["load", "train", "keep"],
    }  # fmt: skip
    assert {(one.service, one.trace) for one in collector.told} == {("tunegate-trainer", TRACE)}
    within = {one.span.name: one.span for one in collector.told}
    for above, parts in tree(collector.told).items():
        for part in parts if above else ():
            assert within[above].start_time_unix_nano <= within[part].start_time_unix_nano
            assert within[part].end_time_unix_nano <= within[above].end_time_unix_nano
    attempt = {one.key: one.value.string_value for one in within["attempt job"].attributes}
    assert (attempt["tunegate.job"], attempt["tunegate.recipe"]) == ("job", "lora_sft")
    beats = len(control.beats)
    worker.begin()
    eventually(lambda: len(control.beats) > beats and state(control, "ended")(), 20)
    worker.end()
    assert len(collector.told) == 7, "an attempt that was over is not told of again"


def test_a_failed_attempt_says_so_and_one_without_a_trace_or_with_nonsense_has_no_span(
    control: FakeControl, collector: Collector, worker: WorkerProcess
) -> None:
    order(control, "dies", trace=CALL)
    order(control, "learns 2", "a2", job="j2")
    order(control, "learns 2", "a3", job="j3", trace="00-nonsense-01")
    order(control, "learns 2", "a4", job="j4", trace=CALL.removesuffix("01") + "00")
    worker.begin()
    for attempt in ("a1", "a2", "a3", "a4"):
        eventually(state(control, "ended", attempt), 20)
    worker.end()
    (failed,) = [one.span for one in collector.told if one.span.name == "attempt job"]
    assert failed.status.code == failed.status.STATUS_CODE_ERROR
    assert {one.key: one.value.string_value for one in failed.attributes}["error.type"] == "unknown"
    assert {one.trace for one in collector.told} == {TRACE}
    assert tree(collector.told)["run"] == ["load"]


def test_a_collector_that_is_away_costs_an_attempt_nothing_and_is_said_in_the_log(
    control: FakeControl, tmp_path: Path
) -> None:
    worker = WorkerProcess(control, tmp_path, more='otlp_endpoint = "http://127.0.0.1:9/v1/traces"\n')
    order(control, "learns 2", trace=CALL)
    process = worker.begin()
    eventually(state(control, "ended"), 20)
    assert control.files["a1"]
    worker.end()
    assert not alive(process.pid)
    lines = (tmp_path / "worker.log").read_text().splitlines()
    assert all(line.startswith("{") for line in lines), lines
    assert any('"trace.not_sent"' in line for line in lines)


def test_notes_that_cannot_be_written_cost_an_attempt_nothing(
    control: FakeControl, collector: Collector, worker: WorkerProcess
) -> None:
    (worker.folder / "data/jobs/j1/a1/phases.jsonl").mkdir(parents=True)
    order(control, "learns 2", trace=CALL)
    worker.begin()
    eventually(state(control, "ended"), 20)
    worker.end()
    assert control.files["a1"]
    assert not collector.told
    assert '"attempt.not_traced"' in (worker.folder / "worker.log").read_text()


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    assert WorkerTable().otlp_endpoint == ""
    code = "import sys, trainer.__main__; from trainer.tracing import open_tracer; assert open_tracer('') is None; "
    code += "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
