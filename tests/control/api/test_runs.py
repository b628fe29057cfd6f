"""Runs of suites against a gateway that does what a test says: every cell once, whatever happens meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import httpx2 as httpx
import pytest

from tests.control.api.conftest import Running, Start
from tests.fakes import scripts, wire
from tests.fakes.upstream import Close, Script, Step, Upstream
from tests.fakes.wire import Usage
from tests.processes import eventually

SUITES = "/api/v1/suites"
RUNS = "/api/v1/runs"


@pytest.fixture
def gateway() -> Iterator[Upstream]:
    """In place of a gateway."""
    with Upstream() as running:
        running.on("good", says("Answer: yes"))
        running.on("bad", says("no"))
        yield running


@pytest.fixture
def control(start_control: Start, gateway: Upstream) -> Running:
    """A control plane with the routes good and bad."""
    running = start_control(gateway_url=gateway.url.removesuffix("/v1"))
    assert running.admin.post("/api/v1/endpoints", json={"name": "e", "provider": "dummy", "spec": {}}).is_success
    for name in ("good", "bad", "judge"):
        body = {"name": name, "spec": {"target": [{"endpoint": "e", "model": name}]}, "grants": []}
        assert running.admin.post("/api/v1/routes", json=body).is_success
    return running


@pytest.fixture
def client(control: Running) -> httpx.Client:
    """An engineer."""
    return control.as_("engineer")


def says(text: str, gap: float = 0.0) -> Script:
    return scripts.chat([text[:3], text[3:]], Usage(20, 5), gap=gap)


def suite(client: httpx.Client, many: int = 3, *scorers: dict[str, Any], name: str = "questions") -> None:
    """A suite with so many cases."""
    assert client.post(SUITES, json={"name": name}).status_code == 201
    cases = [
        {"variables": {"question": f"q{number}"}, "expected": "yes", "tags": ["even" if number % 2 == 0 else "odd"]}
        for number in range(1, many + 1)
    ]
    body = {
        "prompts": [{"name": "plain", "messages": [{"role": "user", "content": "{{question}}"}]}],
        "parameters": {"temperature": 0}, "sources": [{"kind": "cases", "cases": cases}],
        "scorers": list(scorers) or [{"name": "says yes", "kind": "contains"}],
    }  # fmt: skip
    answer = client.post(f"{SUITES}/{name}/versions", json=body)
    assert answer.status_code == 201, answer.text


def begun(client: httpx.Client, *routes: str, name: str = "questions", **more: Any) -> str:
    """A run that has begun; its id."""
    answer = client.post(f"{SUITES}/{name}/runs", json={"candidates": [{"route": one} for one in routes], **more})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def state(client: httpx.Client, run: str, *states: str, seconds: float = 20) -> dict[str, Any]:
    """The run, once it is in one of these states."""
    wanted = states or ("done", "partial", "failed", "canceled", "paused")
    eventually(lambda: client.get(f"{RUNS}/{run}").json()["state"] in wanted, seconds)
    found: dict[str, Any] = client.get(f"{RUNS}/{run}").json()
    return found


def cells(client: httpx.Client, run: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"{RUNS}/{run}/cells", params={"limit": 200}).json()["items"]
    return items


def bill(control: Running, run: str, cost: int, others: Iterable[str] = ()) -> int:
    """Let the ledger have what a gateway would have sent by now; how many requests that is. `others`: ids of more."""
    known = {one for (one,) in control.sql("SELECT request_id FROM usage_event")}
    asked = {one for (one,) in control.sql("SELECT request_id FROM comparison_cell WHERE run_id = ?", run)}
    asked = (asked | set(others)) - known
    for request_id in asked:
        control.sql(
            "INSERT INTO usage_event (id, ts, received_at, gateway, request_id, key, team, owner, operation, model,"
            " route, endpoint, upstream_model, snapshot, stream, ended, status, error, usage_source, input_tokens,"
            " cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nano, duration_ms, attempts)"
            " SELECT lower(hex(randomblob(16))), strftime('%Y-%m-%d %H:%M:%f', 'now'), strftime('%Y-%m-%d %H:%M:%f',"
            " 'now'), 'g', ?, 'comparisons@engineer', '', 'engineer', 'chat', 'm', 'm', '', '', '7', 1, 'success',"
            " 200, '', 'provider', 20, 0, 0, 5, 0, ?, 1.0, '[]'",
            request_id, cost,
        )  # fmt: skip
    return len(asked)


def test_every_candidate_answers_every_case_and_all_of_it_is_kept(
    control: Running, client: httpx.Client, gateway: Upstream
) -> None:
    suite(client)
    run = begun(client, "good", "bad", repeats=2, seed=5, note="first")
    ended = state(client, run)
    assert (ended["state"], ended["total"], ended["done"], ended["failed"]) == ("done", 12, 12, 0)
    assert (ended["key"], ended["candidates"][0]["route_version"]) == ("comparisons@engineer", 1)
    found = cells(client, run)
    assert {(one["case"], one["candidate"], one["repeat"]) for one in found} == {
        (case, candidate, repeat) for case in (1, 2, 3) for candidate in (0, 1) for repeat in (0, 1)
    }
    assert {(one["candidate"], one["scores"]["says yes"]["passed"]) for one in found} == {(0, True), (1, False)}
    one = client.get(f"{RUNS}/{run}/cells/2/0/1").json()
    assert one["request"] == {
        "model": "good", "messages": [{"role": "user", "content": "q2"}], "temperature": 0, "seed": 6, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    assert (one["answer"]["text"], one["answer"]["finish_reason"]) == ("Answer: yes", "stop")
    assert one["answer"]["usage"]["completion_tokens"] == 5
    assert 0 < one["answer"]["ttft_ms"] <= one["answer"]["latency_ms"]
    assert {seen.header("x-request-id") for seen in gateway.requests} >= {one["request_id"]}
    assert all((seen.header("authorization") or "").startswith("Bearer tgs-") for seen in gateway.requests)
    assert bill(control, run, 700) == 12
    eventually(lambda: client.get(f"{RUNS}/{run}/cells/2/0/1").json()["cost_nano"] == 700)
    eventually(lambda: client.get(f"{RUNS}/{run}").json()["billed_nano"] == 8400)
    assert client.get(f"{RUNS}/{run}/cells/2/0/1").json()["snapshot"] == "7"
    noted = control.admin.get("/api/v1/audit", params={"resource_kind": "run"}).json()["items"]
    assert [(entry["action"], entry["actor"]) for entry in noted] == [("create", "engineer")]


def test_a_paused_run_goes_on_where_it_was_and_asks_nothing_twice(client: httpx.Client, gateway: Upstream) -> None:
    gateway.on("good", says("yes yes", 0.05))
    suite(client, 60)
    run = begun(client, "good", concurrency=2)
    eventually(lambda: client.get(f"{RUNS}/{run}").json()["done"] >= 4)
    assert client.post(f"{RUNS}/{run}/pause").json()["wanted"] == "pause"
    paused = state(client, run, "paused")
    assert 4 <= paused["done"] < 60
    asked = len(gateway.of("good"))
    assert paused["done"] == asked == len(cells(client, run))
    time.sleep(0.5)
    assert len(gateway.of("good")) == asked
    assert client.post(f"{RUNS}/{run}/resume", json={}).status_code == 200
    running = state(client, run, "running")
    assert running["seconds_left"] is None or running["seconds_left"] > 0
    assert state(client, run)["state"] == "done"
    times = Counter(seen.header("x-request-id") for seen in gateway.of("good"))
    assert (len(times), set(times.values())) == (60, {1})
    assert client.post(f"{RUNS}/{run}/resume", json={}).json()["code"] == "over"


def test_a_canceled_run_keeps_its_cells_and_never_goes_on(client: httpx.Client, gateway: Upstream) -> None:
    gateway.on("good", says("yes yes", 0.05))
    suite(client, 100)
    run = begun(client, "good", concurrency=2)
    eventually(lambda: client.get(f"{RUNS}/{run}").json()["done"] >= 2)
    busy = client.delete(f"{SUITES}/questions")
    assert (busy.status_code, busy.json()["code"]) == (409, "in_use")
    assert client.post(f"{RUNS}/{run}/cancel").status_code == 200
    canceled = state(client, run)
    assert (canceled["state"], canceled["done"]) == ("canceled", len(cells(client, run)))
    assert client.post(f"{RUNS}/{run}/resume", json={}).status_code == 409
    assert client.delete(f"{RUNS}/{run}").status_code == 204
    assert client.get(f"{RUNS}/{run}").status_code == 404


def test_a_429_holds_the_whole_route_as_long_as_it_says(client: httpx.Client, gateway: Upstream) -> None:
    suite(client, 4)
    refused = scripts.error(429, "slow down", code="policy_rate", retry_after="1")
    gateway.queue("good", refused)
    begin = time.monotonic()
    run = begun(client, "good", concurrency=1)
    ended = state(client, run)
    assert ended["state"] == "done"
    assert time.monotonic() - begin > 1
    at = [seen.at for seen in gateway.of("good")]
    assert at[1] - at[0] >= 0.95
    assert [cell["ok"] for cell in cells(client, run)] == [True] * 4
    one = client.get(f"{RUNS}/{run}/cells/1/0/0").json()
    assert (one["tries"], one["limited"]) == (2, 1)
    (told,) = client.get(f"{RUNS}/{run}/report").json()["candidates"]
    assert (told["limited"]["value"], told["limited"]["n"]) == (0.25, 4), "also what a later try has helped"
    assert (told["refused"]["value"], told["errors"], told["finish_reasons"]) == (0.0, {}, {"stop": 4})
    ids = [seen.header("x-request-id") for seen in gateway.of("good")]
    assert len(set(ids)) == 5, "each try has an id of its own"


def test_cells_whose_tries_all_fail_are_said_and_asked_again_only_when_wanted(
    client: httpx.Client, gateway: Upstream
) -> None:
    suite(client, 2)
    gateway.on("bad", scripts.error(500, "broken"))
    run = begun(client, "good", "bad", tries=2)
    ended = state(client, run)
    assert (ended["state"], ended["done"], ended["failed"]) == ("partial", 2, 2)
    failed = client.get(f"{RUNS}/{run}/cells", params={"failed": True}).json()
    assert (failed["total"], failed["items"][0]["text"]) == (2, "server_error: broken")
    assert client.get(f"{RUNS}/{run}/cells/1/1/0").json()["error"]["status"] == 500
    assert len(gateway.of("bad")) == 4
    gateway.on("bad", says("no"))
    assert client.post(f"{RUNS}/{run}/resume", json={"failed_again": True}).status_code == 200
    assert state(client, run, "done")["done"] == 4
    assert len(gateway.of("good")) == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (scripts.reply(b"[]"), "bad_answer"),
        (scripts.reply(b"{"), "bad_answer"),
        (scripts.stream([wire.word_event("half")]), "cut"),
        ([*scripts.stream([wire.word_event("half")], end=False), Close()], "unreachable"),
        (scripts.stream([wire.event({"error": {"message": "gone", "code": "provider_5xx"}})]), "provider_5xx"),
        (scripts.error(400, "no such parameter", code="caller_bad"), "caller_bad"),
    ],
)
def test_what_is_no_answer_is_a_failed_cell_with_its_reason(
    client: httpx.Client, gateway: Upstream, answer: list[Step], code: str
) -> None:
    suite(client, 1)
    gateway.on("good", answer)
    run = begun(client, "good", tries=1)
    assert state(client, run)["failed"] == 1
    assert client.get(f"{RUNS}/{run}/cells/1/0/0").json()["error"]["code"] == code


def test_a_run_that_is_refused_stops_at_once_and_says_why(client: httpx.Client, gateway: Upstream) -> None:
    suite(client, 50)
    gateway.on("good", scripts.error(404, "the model does not exist, or your key may not use it", code="caller_model"))
    run = begun(client, "good", concurrency=2, tries=1)
    paused = state(client, run)
    assert (paused["state"], paused["code"]) == ("paused", "refused")
    assert "may not use it" in paused["message"]
    assert len(gateway.of("good")) <= 2
    gateway.on("good", says("yes"))
    assert client.post(f"{RUNS}/{run}/resume", json={}).status_code == 200
    assert state(client, run)["state"] == "done"


def test_a_run_whose_key_was_revoked_says_so(control: Running, client: httpx.Client) -> None:
    suite(client, 1)
    assert client.post("/api/v1/keys", json={"name": "bot"}).status_code == 201
    foreign = client.post(f"{SUITES}/questions/runs", json={"candidates": [{"route": "good"}], "key": "x@admin"})
    assert (foreign.status_code, foreign.json()["code"]) == (422, "unknown_key")
    control.sql("UPDATE api_key SET enabled = 0 WHERE public_name = 'bot@engineer'")
    run = begun(client, "good", key="bot@engineer")
    assert state(client, run)["code"] == "key"


def test_a_run_pauses_when_its_budget_is_spent(control: Running, client: httpx.Client, gateway: Upstream) -> None:
    gateway.on("good", says("yes yes", 0.05))
    suite(client, 200)
    run = begun(client, "good", concurrency=1, budget_nano=10_000)

    def spent() -> bool:
        bill(control, run, 1000)
        return bool(client.get(f"{RUNS}/{run}").json()["state"] == "paused")

    eventually(spent, 20)
    paused = client.get(f"{RUNS}/{run}").json()
    assert paused["code"] == "budget"
    assert 5 <= paused["done"] <= 30
    more = client.post(f"{RUNS}/{run}/resume", json={"budget_nano": 10**9}).json()
    assert more["settings"]["budget_nano"] == 10**9


def test_an_estimate_counts_tokens_prices_and_judges(control: Running, client: httpx.Client) -> None:
    judge = {"name": "rubric", "kind": "judge", "route": "judge", "rubric": "Is it right?"}
    suite(client, 10, {"name": "says yes", "kind": "contains"}, judge)
    price = {"endpoint": "e", "model": "good", "price": {"input": "1", "output": "2"}, "currency": "USD", "source": "x"}
    made = control.admin.post("/api/v1/prices", json=price)
    assert made.status_code == 201, made.text
    body = {"candidates": [{"route": "good", "parameters": {"max_tokens": 100}}, {"route": "bad"}], "repeats": 3}
    estimate = client.post(f"{SUITES}/questions/estimate", json=body).json()
    good, bad, judging = estimate["candidates"]
    assert (estimate["cells"], estimate["output_basis"], good["requests"]) == (60, "guess", 30)
    assert (good["output_tokens"], bad["output_tokens"], judging["requests"]) == (3000, 15_000, 60)
    assert (good["priced"], bad["priced"], bad["cost_nano"]) == (True, False, 0)
    assert good["cost_nano"] == good["input_tokens"] * 1000 + good["output_tokens"] * 2000
    assert client.get(RUNS).json()["total"] == 0


def test_a_judge_is_asked_through_the_gateway_and_its_silence_is_no_score(
    client: httpx.Client, gateway: Upstream
) -> None:
    suite(client, 1, {"name": "rubric", "kind": "judge", "route": "judge", "rubric": "Is it right?"})
    gateway.on("judge", says('{"reason": "fine", "points": 4}'))
    run = begun(client, "good", stream=False)
    assert state(client, run)["state"] == "done"
    (cell,) = cells(client, run)
    assert cell["scores"]["rubric"] == {"value": 0.75, "passed": True, "note": "fine"}
    (asked,) = gateway.of("judge")
    assert (asked.header("x-request-id") or "").startswith(f"{run}.1.0.0.0.s0.")
    gateway.on("judge", scripts.error(400, "too long"))
    (cell,) = cells(client, done(client, "good"))
    assert cell["scores"]["rubric"]["value"] is None
    assert "too long" in cell["scores"]["rubric"]["note"]


def test_scores_of_cost_come_with_the_price(control: Running, client: httpx.Client) -> None:
    cheap = {"name": "cheap", "kind": "threshold", "of": "cost", "at_most": 0.000001}
    frugal = {"name": "frugal", "kind": "expression", "expression": "cost < 0.0000005 && text.contains('yes')"}
    literal = {"name": "literal", "kind": "expression", "expression": "text.contains('cost')"}
    suite(client, 2, cheap, frugal, literal)
    run = done(client, "good", "bad")
    before = client.get(f"{RUNS}/{run}/cells/1/0/0").json()["scores"]
    assert {name: one["value"] for name, one in before.items()} == {"cheap": None, "frugal": None, "literal": 0.0}
    assert before["cheap"]["note"] == "cost is not known"
    assert client.get(f"{RUNS}/{run}/report").json()["candidates"][0]["unscored"]["cheap"] == 2
    bill(control, run, 700)
    late = client.get(f"{RUNS}/{run}/report").json()["candidates"][0]
    assert (late["passed"]["cheap"]["value"], late["scores"]["frugal"]["value"]) == (1.0, 0.0)
    eventually(lambda: client.get(f"{RUNS}/{run}/cells/1/0/0").json()["cost_nano"] == 700)
    after = client.get(f"{RUNS}/{run}/cells/1/0/0").json()["scores"]
    assert after["cheap"] == {"value": 1.0, "passed": True, "note": "7e-07"}
    assert (after["frugal"]["value"], after["literal"]) == (0.0, before["literal"])


def done(client: httpx.Client, *routes: str) -> str:
    run = begun(client, *routes)
    state(client, run, "done")
    return run


@pytest.mark.parametrize(
    ("body", "at"),
    [
        ({"candidates": [{"route": "nothing"}]}, "body.candidates.0.route"),
        ({"candidates": [{"route": "good", "prompt": "other"}]}, "body.candidates.0.prompt"),
        ({"candidates": [{"route": "good"}, {"route": "good"}]}, "body.candidates.1.name"),
        ({"candidates": [{"route": "good", "parameters": {"stream": 1}}]}, "body.candidates.0.parameters"),
        ({"candidates": []}, "body.candidates"),
    ],
)
def test_what_cannot_be_run_is_refused(client: httpx.Client, body: dict[str, Any], at: str) -> None:
    suite(client)
    refused = client.post(f"{SUITES}/questions/runs", json=body)
    assert (refused.status_code, refused.json()["errors"][0]["at"]) == (422, at)


def test_a_suite_without_a_version_and_too_many_answers_cannot_be_run(client: httpx.Client) -> None:
    assert client.post(SUITES, json={"name": "empty"}).status_code == 201
    body: dict[str, Any] = {"candidates": [{"route": "good"}]}
    assert client.post(f"{SUITES}/empty/runs", json=body).status_code == 404
    suite(client, 6000)
    more = client.post(f"{SUITES}/questions/runs", json=body | {"repeats": 20})
    assert (more.status_code, more.json()["code"]) == (422, "too_many_cells")


def test_others_may_look_and_not_touch(control: Running, client: httpx.Client) -> None:
    suite(client)
    run = done(client, "good")
    viewer = control.as_("viewer")
    assert viewer.get(f"{RUNS}/{run}").json()["mine"] is False
    assert viewer.get(RUNS, params={"suite": "questions"}).json()["total"] == 1
    assert viewer.post(f"{RUNS}/{run}/pause").status_code == 403
    operator = control.as_("operator")
    assert operator.delete(f"{RUNS}/{run}").status_code == 204
    assert client.get(f"{RUNS}/{run}/cells/1/0/0").status_code == 404
