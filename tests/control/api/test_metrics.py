"""Control's /metrics: who gets it, that every metric of the table is there, and what figures say."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2 as httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from control.app import build
from control.db import Database
from control.errors import ConfigError
from control.kit.metrics import TABLE, documentation
from control.settings import ConsoleTable, SecretsTable, Settings
from tests.control.api.conftest import Running, Start
from tests.control.api.training import Worker, dataset, spec

ROOT = Path(__file__).parents[3]


def samples(client: httpx.Client, **headers: str) -> dict[str, float]:
    """Every sample by its full name, such as `tunegate_jobs{state="queued"}`."""
    answer = client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_the_page_is_what_the_code_says_or_make_fix_was_forgotten() -> None:
    assert (ROOT / "docs/metrics-control.md").read_text(encoding="utf-8") == documentation()


def test_names_keep_prometheus_rules() -> None:
    for name, one in TABLE.items():
        assert re.fullmatch(r"tunegate(_[a-z]+)+", name), name
        assert one.help.endswith("."), name
        assert not name.endswith("_total"), "the client adds it"


def test_every_metric_of_the_table_is_there_and_every_figure_says_what_the_database_holds(control: Running) -> None:
    worker = Worker(control)
    engine = {"name": "tiny", "base": "tiny", "model": "/m", "url": "http://127.0.0.1:1", "state": "starting",
              "max_loras": 1, "max_lora_rank": 8}  # fmt: skip
    worker.status["engines"] = [engine]
    worker.sync()
    control.service().post("/internal/v1/usage", json={"gateway": "g1", "events": [{"id": "no event"}]})
    control.service().post("/internal/v1/status", json={
        "gateway": "g1/w0", "version": "0", "snapshot": None, "started": 1.0, "targets": []
    })  # fmt: skip
    found = samples(control.anonymous())
    names = {re.sub(r"(_bucket|_sum|_count|_created)?(\{.*)?$", "", name) for name in found}
    told = {name + "_total" if spec.kind == "counter" else name for name, spec in TABLE.items()}
    assert told - names == {"tunegate_ledger_lag_seconds", "tunegate_search_seconds"}, "nothing was asked for yet"
    assert found["tunegate_database_up"] == 1
    assert found['tunegate_ledger_events_total{outcome="quarantined"}'] == 1
    assert found['tunegate_devices{use="free",worker="w1"}'] == 2
    assert found['tunegate_engine_state{engine="tiny",state="starting",worker="w1"}'] == 1
    assert found['tunegate_engine_state{engine="tiny",state="ready",worker="w1"}'] == 0
    assert 0 <= found['tunegate_worker_silent_seconds{worker="w1"}'] < 30
    assert 0 <= found['tunegate_gateway_silent_seconds{gateway="g1/w0"}'] < 30
    assert found['tunegate_api_requests_total{operation="post_usage",status="200"}'] == 1
    assert 0 < found['tunegate_disk_free_bytes{folder="data"}'] <= found['tunegate_disk_bytes{folder="data"}']


def test_a_queue_that_stands_grows_old_and_what_waits_for_its_back_off_does_not_count(control: Running) -> None:
    client = control.as_("engineer")
    dataset(client)
    Worker(control, devices=[]).sync()
    assert client.post("/api/v1/jobs", json={"spec": spec()}).status_code == 201
    assert samples(control.anonymous())['tunegate_jobs{state="queued"}'] == 1
    control.sql("UPDATE training_job SET queued_at = '2026-01-01 00:00:00.000000'")
    assert samples(control.anonymous())["tunegate_job_queue_age_seconds"] > 3600
    control.sql("UPDATE training_job SET not_before = '2999-01-01 00:00:00.000000'")
    assert samples(control.anonymous())["tunegate_job_queue_age_seconds"] == 0


def test_a_path_of_nobodys_is_no_label_and_wrong_passwords_are_counted(control: Running) -> None:
    client = control.anonymous()
    for path in ("/api/v1/no-such-thing", "/internal/v1/%00", "/" + "x" * 500):
        assert client.get(path).status_code in (200, 404)
    client.post("/api/v1/auth/login", json={"username": "nobody", "password": "wrong"})
    client.post("/api/v1/auth/login", content=b"x" * 2_000_000)
    found = samples(client)
    assert found['tunegate_api_requests_total{operation="login",status="401"}'] == 1
    assert found['tunegate_api_requests_total{operation="page",status="413"}'] == 1
    told = {re.findall(r'operation="([^"]*)"', name)[0] for name in found if "operation=" in name}
    assert told <= {"page", "login", "healthz", "metrics"}, told


def test_a_search_for_a_gateway_counts_by_its_end(control: Running) -> None:
    body = {"bases": ["b"], "query": "q", "principal": {"kind": "key", "name": "console@admin"},
            "limits": {"top_k": 1, "token_budget": 10}}  # fmt: skip
    answer = control.service().post("/internal/v1/retrieval", json=body)
    assert answer.status_code in (422, 503), answer.text
    found = samples(control.anonymous())
    assert found.get('tunegate_search_seconds_count{outcome="failed"}', 0) == (answer.status_code == 503)


def test_a_database_that_is_gone_is_a_figure_and_no_error(start_control: Start, tmp_path: Path) -> None:
    control = start_control()
    control.parts.db = Database(f"sqlite+aiosqlite:///{tmp_path}/no-such-folder/tunegate.db")
    found = samples(control.anonymous())
    assert found["tunegate_database_up"] == 0
    assert "tunegate_jobs" not in {name.partition("{")[0] for name in found}
    assert found['tunegate_disk_free_bytes{folder="data"}'] > 0


def test_with_a_token_only_its_bearer_gets_the_page(start_control: Start) -> None:
    control = start_control(metrics_token="a token for prometheus")
    client = control.anonymous()
    for wrong in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Bearer {control.service_token}"}):
        answer = client.get("/metrics", headers=wrong)
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_metrics_token")
    assert client.get("/metrics", headers={"authorization": "Bearer a token for prometheus"}).status_code == 200
    assert client.post("/metrics").status_code == 405


def test_without_a_token_others_than_this_machine_get_nothing(control: Running) -> None:
    console = ConsoleTable(listen="0.0.0.0:8080", data_dir=control.settings.console.data_dir)
    key = control.settings.console.data_dir / "secret.key"
    app = build(Settings(console=console, secrets=SecretsTable(key=f"file:{key}")))
    page = next(route for route in app.routes if getattr(route, "path", "") == "/metrics")
    with pytest.raises(Exception, match="metrics_token") as caught:
        page.endpoint.__self__._check("Bearer ")  # type: ignore[attr-defined]
    assert caught.value.status == 403  # type: ignore[attr-defined]


def test_a_token_that_cannot_be_read_stops_the_start(start_control: Start) -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_VARIABLE"):
        start_control(metrics_token="env:NO_SUCH_VARIABLE")
