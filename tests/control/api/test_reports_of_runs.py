"""What a run shows: its figures are those that anybody can compute from the export, by other means."""

from __future__ import annotations

import csv
import io
import itertools
import json
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from scipy import stats

from tests.control.api.conftest import Running
from tests.control.api.test_runs import RUNS, SUITES, begun, bill, client, control, done, gateway, says, state, suite
from tests.fakes import scripts, wire
from tests.fakes.upstream import Seen, Step, Upstream
from tests.fakes.wire import Usage
from tests.processes import eventually

__all__ = ["client", "control", "gateway"]
SAYS = {"name": "says yes", "kind": "contains"}


def sometimes(share: int) -> Any:
    """Says yes to some questions, and how many tokens depends on the question."""

    def answer(seen: Seen) -> list[Step]:
        number = int(seen.json["messages"][0]["content"][1:])
        word = "yes" if number * 7 % 10 < share else "no"
        return scripts.chat([word], Usage(10 + number, 5))(seen)

    return answer


def exported(client: httpx.Client, run: str) -> list[dict[str, Any]]:
    text = client.get(f"{RUNS}/{run}/export", params={"format": "jsonl"}).text
    return [json.loads(line) for line in text.splitlines()]


def test_the_figures_are_those_of_the_export(control: Running, client: httpx.Client, gateway: Upstream) -> None:
    gateway.on("good", sometimes(8))
    gateway.on("bad", sometimes(3))
    suite(client, 40, SAYS)
    run = done_all(control, client, "good", "bad", repeats=2)
    report = client.get(f"{RUNS}/{run}/report").json()
    cells = exported(client, run)
    assert len(cells) == 160
    assert (report["complete"], report["cases"], report["repeats"]) == (True, 40, 2)
    values: dict[tuple[str, int], list[float]] = {}
    for cell in cells:
        values.setdefault((cell["candidate"], cell["case"]), []).append(cell["scores"]["says yes"]["value"])
    means = {key: float(np.mean(found)) for key, found in values.items()}
    for one in report["candidates"]:
        mine = [means[one["name"], case] for case in range(1, 41)]
        told = one["scores"]["says yes"]
        assert told["value"] == pytest.approx(np.mean(mine))
        low, high = stats.bootstrap((mine,), np.mean, method="percentile", n_resamples=2000).confidence_interval
        assert (told["low"], told["high"]) == pytest.approx((low, high), abs=0.04)
        own = [cell for cell in cells if cell["candidate"] == one["name"]]
        assert one["latency_ms"]["p95"] == pytest.approx(np.percentile([c["answer"]["latency_ms"] for c in own], 95))
        assert one["input_tokens"] == sum(cell["answer"]["usage"]["prompt_tokens"] for cell in own)
        assert one["cost_nano"] == pytest.approx(np.mean([cell["cost_nano"] for cell in own]))
        shared = stats.binomtest(sum(c["scores"]["says yes"]["passed"] for c in own), 80)
        wilson = shared.proportion_ci(method="wilson")
        passed = one["passed"]["says yes"]
        assert (passed["low"], passed["high"]) == pytest.approx((wilson.low, wilson.high))
    (pair,) = report["comparisons"][0]["pairs"]
    first, second = ([means[name, case] for case in range(1, 41)] for name in ("good", "bad"))
    assert pair["difference"]["value"] == pytest.approx(np.mean(first) - np.mean(second))
    assert pair["verdict"] == "better"
    assert pair["points"] == sum(a > b for a, b in zip(first, second, strict=True)) + 0.5 * sum(
        a == b for a, b in zip(first, second, strict=True)
    )
    permuted = stats.permutation_test(
        (np.array(first), np.array(second)), lambda a, b, axis: np.mean(a - b, axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=9999,
    )  # fmt: skip
    assert pair["p"] == pytest.approx(permuted.pvalue, abs=0.01)
    assert [one["name"] for one in report["comparisons"][0]["ratings"]] == ["good", "bad"]
    by_tag = {one["tag"]: one for one in report["tags"]}
    even = [means["good", case] for case in range(2, 41, 2)]
    assert by_tag["even"]["cases"] == 20
    assert by_tag["even"]["scores"]["good"]["says yes"]["value"] == pytest.approx(np.mean(even))
    assert report["candidates"][0]["front"] is True
    assert client.get(f"{RUNS}/{run}/report").json() == report, "the same cells give the same figures"


def done_all(control: Running, client: httpx.Client, *routes: str, **more: Any) -> str:
    run = begun(client, *routes, concurrency=4, **more)
    state(client, run, "done")
    billed = 500 * bill(control, run, 500)
    eventually(lambda: client.get(f"{RUNS}/{run}").json()["billed_nano"] == billed)
    eventually(lambda: all(cell["cost_nano"] is not None for cell in exported(client, run)))
    return run


def test_a_few_cases_are_too_few_to_tell(client: httpx.Client) -> None:
    suite(client, 5, SAYS)
    report = client.get(f"{RUNS}/{done(client, 'good', 'bad')}/report").json()
    (pair,) = report["comparisons"][0]["pairs"]
    assert (pair["difference"]["value"], pair["verdict"]) == (1.0, "too_small_to_tell")
    assert report["candidates"][0]["scores"]["says yes"]["few"] is True
    assert report["candidates"][0]["cost_nano"] is None
    assert report["candidates"][0]["unpriced"] == 5


def test_a_run_against_an_earlier_one_lists_what_was_better(client: httpx.Client, gateway: Upstream) -> None:
    gateway.on("good", says("yes yes"))
    suite(client, 30, SAYS)
    before = done(client, "good")
    source = [{"kind": "version", "number": 1}, {"kind": "cases", "cases": [{"variables": {"question": "q99"}}]}]
    shown = client.get(f"{SUITES}/questions").json()["versions"][0]
    body = {"prompts": shown["prompts"], "scorers": shown["scorers"], "sources": source[::-1]}
    assert client.post(f"{SUITES}/questions/versions", json=body).json()["number"] == 2
    gateway.on("good", sometimes(5))
    now = done(client, "good")
    compared = client.get(f"{RUNS}/{now}/report", params={"against": before}).json()["against"]
    assert (compared["run"], compared["cases"]) == (before, 30)
    (change,) = compared["changes"]
    worse = [number for number in range(1, 31) if number * 7 % 10 >= 5]
    assert change["difference"]["value"] == pytest.approx(-len(worse) / 30)
    assert change["verdict"] == "worse"
    assert [one["case"] for one in compared["regressions"]] == [number + 1 for number in worse], "cases moved on by one"
    assert client.get(f"{RUNS}/{now}/report", params={"against": "nothing"}).status_code == 404


def test_cells_and_reports_are_files(control: Running, client: httpx.Client, gateway: Upstream) -> None:
    gateway.on("good", says("=1+1 <b>yes</b>"))
    suite(client, 3, SAYS)
    run = done(client, "good")
    answer = client.get(f"{RUNS}/{run}/export", params={"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["text"] for row in rows] == ["'=1+1 <b>yes</b>"] * 3
    assert [row["says yes passed"] for row in rows] == ["True"] * 3
    page = client.get(f"{RUNS}/{run}/report/export", params={"format": "html"})
    assert page.headers["content-security-policy"] == "sandbox"
    assert "too small to tell" in page.text
    text = client.get(f"{RUNS}/{run}/report/export", params={"format": "markdown"}).text
    assert text.startswith("# Suite questions\n")
    assert "| good | 1.000 \\[1.000, 1.000] (too small to tell) |" in text
    assert client.get(f"{RUNS}/{run}/export", params={"format": "pdf"}).status_code == 422


def test_scores_are_events_that_a_collector_takes(client: httpx.Client, gateway: Upstream) -> None:
    silent = {"name": "cheap", "kind": "threshold", "of": "cost", "at_most": 1.0}
    suite(client, 2, SAYS, silent)
    run = done(client, "good", "bad")
    answer = client.get(f"{RUNS}/{run}/export", params={"format": "otlp"})
    assert answer.headers["content-type"] == "application/json"
    logs = ParseDict(answer.json(), ExportLogsServiceRequest())  # raises for what is no OTLP
    (resource,) = logs.resource_logs
    records = resource.scope_logs[0].log_records
    told = [{one.key: getattr(one.value, one.value.WhichOneof("value")) for one in it.attributes} for it in records]
    assert {record.event_name for record in records} == {"gen_ai.evaluation.result"}
    assert len(records) == 8
    right = [one for one in told if one["gen_ai.evaluation.name"] == "says yes"]
    assert [
        (one["gen_ai.request.model"], one["gen_ai.evaluation.score.value"], one["gen_ai.evaluation.score.label"])
        for one in right[:2]
    ] == [("good", 1.0, "pass"), ("bad", 0.0, "fail")]
    assert right[0]["gen_ai.response.id"] == f"{run}.1.0.0.0"
    (unscored, *_) = [one for one in told if one["gen_ai.evaluation.name"] == "cheap"]
    assert "gen_ai.evaluation.score.value" not in unscored
    assert (unscored["error.type"], unscored["gen_ai.evaluation.explanation"]) == ("not_scored", "cost is not known")
    suite(client, 1, {"name": "none", "kind": "contains"}, name="failing")
    gateway.on("good", scripts.error(400))
    failed = begun(client, "good", name="failing", tries=1)
    state(client, failed, "partial")
    empty = client.get(f"{RUNS}/{failed}/export", params={"format": "otlp"}).json()
    assert empty["resourceLogs"][0]["scopeLogs"][0]["logRecords"] == []


def test_an_export_is_whole_however_many_cells_there_are(control: Running, client: httpx.Client) -> None:
    suite(client, 600, SAYS)
    run = begun(client, "good", "bad", concurrency=16, stream=False)
    state(client, run, "done", seconds=60)
    cells = exported(client, run)
    assert [(one["case"], one["candidate"]) for one in cells] == list(itertools.product(range(1, 601), ("good", "bad")))


def test_refusals_and_429s_are_counted_with_intervals_that_scipy_gives(
    control: Running, client: httpx.Client, gateway: Upstream
) -> None:
    def withheld(seen: Seen) -> list[Step]:
        number = int(seen.json["messages"][0]["content"][1:])
        if number <= 3:  # a filter
            body = wire.chat_body("", Usage(5, 0).openai()).replace(b'"stop"', b'"content_filter"')
        elif number <= 5:  # the model itself, in a member of its own
            body = wire.chat_body("", Usage(5, 0).openai()).replace(b'"refusal": null', b'"refusal": "I cannot."')
            assert b"I cannot" in body
        elif number <= 7:
            return scripts.error(400, "not this", code="content_policy_violation")
        elif number <= 11:
            return scripts.error(429, "slow down", code="rate_limit_exceeded", retry_after="0")
        else:
            return scripts.chat(["yes"], Usage(5, 1))(seen)
        return scripts.reply(body)

    gateway.on("good", withheld)
    suite(client, 20, SAYS)
    run = begun(client, "good", stream=False, tries=1)
    assert state(client, run)["state"] == "partial"
    (told,) = client.get(f"{RUNS}/{run}/report").json()["candidates"]
    assert told["finish_reasons"] == {"content_filter": 3, "refusal": 2, "stop": 9}
    assert told["errors"] == {"content_policy_violation": 2, "rate_limit_exceeded": 4}
    for name, many in (("refused", 7), ("limited", 4)):
        theirs = stats.binomtest(many, 20).proportion_ci(method="wilson")
        found = told[name]
        assert (found["value"], found["n"]) == (many / 20, 20)
        assert (found["low"], found["high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    text = client.get(f"{RUNS}/{run}/report/export", params={"format": "markdown"}).text
    assert "content_policy_violation: 2, rate_limit_exceeded: 4" in text
    assert {cell["limited"] for cell in exported(client, run)} == {0, 1}
