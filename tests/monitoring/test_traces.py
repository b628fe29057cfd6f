"""One trace from a client to the engine: through the gateway, control's search, and the gateway again, which embeds;
and from a call of control's API to the job that it starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.control.api.training import dataset
from tests.control.knowledge.conftest import vectors
from tests.fakes.collector import Collector, Told
from tests.fakes.gateway import Gateway, eventually
from tests.fakes.milvus import MilvusLite
from tests.fakes.plane import Plane
from tests.fakes.upstream import Upstream
from tests.processes import free_port
from tests.trainer.test_worker import FAKE, ROOT

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = f"00-{TRACE}-b7ad6b7169203331-01"


def test_everything_that_a_request_sets_going_is_in_its_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    monkeypatch.setenv("TUNEGATE_CONSOLE_GATEWAY_URL", f"http://127.0.0.1:{port}")
    with Collector() as collector, Upstream() as upstream, MilvusLite(tmp_path / "milvus") as milvus:
        monkeypatch.setenv("TUNEGATE_CONSOLE_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("TUNEGATE_KNOWLEDGE_MILVUS_URI", milvus.uri)
        upstream.on("embed-1", vectors())
        with Plane(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/tunegate.db") as control:
            config = {
                "gateway": {"listen": f"127.0.0.1:{port}"},
                "control": {"url": control.url, "token": "env:SERVICE_TOKEN"},
                "telemetry": {"otlp_endpoint": collector.url, "trace_sample": 0.0},
            }
            (tmp_path / "g").mkdir()
            with Gateway(config, tmp_path / "g", env={"SERVICE_TOKEN": control.service_token}) as gateway:
                secret = _set_up(control, upstream)
                headers = {"traceparent": CLIENT}

                def answered() -> bool:
                    reply = gateway.chat("desk", secret=secret, headers=headers)
                    return reply.status == 200 and "found" in (reply.header("x-tunegate-retrieval") or "")

                eventually(answered, 20)
    _check([one for one in collector.told if one.trace == TRACE], upstream)
    assert {one.trace for one in collector.told} == {TRACE}, "nothing else was to be recorded"


def _set_up(control: Plane, upstream: Upstream) -> str:
    """A route with a base whose texts are embedded through the gateway; the secret of a key."""
    control.post("/endpoints", name="up", provider="openai", spec={"base_url": f"{upstream.url}/v1"})
    control.post("/endpoints/up/credentials", name="main", secret="sk-upstream-secret-0123456789")
    everyone = [{"principal_kind": "everyone"}]
    control.post("/routes", name="embed", spec={"target": [{"endpoint": "up", "model": "embed-1"}]}, grants=everyone)
    secret: str = control.post("/keys", name="app")["secret"]
    embedding = {"kind": "route", "route": "embed", "key": "app@admin"}
    control.post("/knowledge", name="handbook", embedding=embedding, retrieval={"mode": "bm25"})
    sent = control.client.post(
        "/api/v1/knowledge/handbook/documents", params={"name": "a.txt"}, content=b"Say hello to the world, always."
    )
    path = f"/knowledge/handbook/documents/{sent.json()['id']}"
    eventually(lambda: control.get(path)["state"] == "ready", 30, "the document is not ready")
    spec = {"target": [{"endpoint": "up", "model": "one"}], "knowledge": {"bases": ["handbook"], "score_floor": -1}}
    control.post("/routes", name="desk", spec=spec, grants=everyone)
    return secret


def _check(told: list[Told], upstream: Upstream) -> None:
    """Each span lies in that which caused it, and each engine was told of the attempt that asked it."""
    by_id = {one.span.span_id: one for one in told}

    def above(one: Told) -> Told:
        return by_id[one.span.parent_span_id]

    searches = [one for one in told if one.service == "tunegate-control"]
    assert {one.span.name for one in searches} == {"post_retrieval"}
    assert {(above(one).service, above(one).span.name) for one in searches} == {("tunegate-gateway", "retrieval desk")}
    embeddings = [one for one in told if one.span.name == "embeddings embed"]
    assert embeddings, "the question was embedded through the gateway"
    assert {above(one).span.name for one in embeddings} == {"post_retrieval"}
    roots = [one for one in told if one.span.name == "chat desk"]
    assert {one.span.parent_span_id.hex() for one in roots} == {"b7ad6b7169203331"}
    attempts = {one.header for one in told if one.span.name in ("chat one", "embeddings embed-1")}
    asked = {one.header("traceparent"): json.loads(one.body)["model"] for one in upstream.requests}
    assert attempts == {header for header in asked if header}, asked
    assert set(asked.values()) == {"one", "embed-1"}


def test_a_job_is_in_the_trace_of_the_call_that_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector() as collector:
        monkeypatch.setenv("TUNEGATE_CONSOLE_OTLP_ENDPOINT", collector.url)
        with Plane(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/tunegate.db") as control:
            dataset(control.client, "rows")
            spec = {"base": {"id": "learns plainly 3"}, "data": {"train": "rows@1"}}
            control.post("/jobs", spec={"name": "draft", **spec}, draft=True)
            for path, body in (
                ("/jobs", {"spec": {"name": "traced", **spec}}), ("/jobs/draft/start", None),
            ):  # fmt: skip
                answer = control.client.post(f"/api/v1{path}", json=body, headers={"traceparent": CLIENT})
                assert answer.status_code in (200, 201), answer.text
            control.post("/jobs", spec={"name": "untraced", **spec})
            with _worker(control, tmp_path, collector):
                for job in ("traced", "draft", "untraced"):
                    eventually(lambda job=job: control.get(f"/jobs/{job}")["state"] == "succeeded", 30)
    assert {one.trace for one in collector.told} == {TRACE}, "the job that nobody traced has no span"
    by_id = {one.span.span_id: one for one in collector.told}
    for job, call in (("traced", "create_job"), ("draft", "start_job")):
        (attempt,) = [one for one in collector.told if one.span.name == f"attempt {job}"]
        above = by_id[attempt.span.parent_span_id]
        assert (attempt.service, above.service, above.span.name) == ("tunegate-trainer", "tunegate-control", call)
        assert above.span.parent_span_id.hex() == "b7ad6b7169203331"
        inner = [one.span.name for one in collector.told if one.span.parent_span_id == attempt.span.span_id]
        assert inner == ["prepare", "run", "upload"]


@contextmanager
def _worker(control: Plane, folder: Path, collector: Collector) -> Iterator[None]:
    """A worker whose recipes are fake: what they tell is what real ones tell."""
    table = f'name = "w"\ninterval = 0.1\nslots = 3\ndata_dir = "{folder}/w"\npython = "{FAKE}"\n'
    table += f'tracking.tensorboard = false\notlp_endpoint = "{collector.url}"\n'
    way = f'[control]\nurl = "{control.url}"\ntoken = "env:SERVICE_TOKEN"\n'
    (folder / "worker.toml").write_text(f"{way}[trainer]\n{table}")
    command = [sys.executable, "-m", "trainer", "--config", str(folder / "worker.toml")]
    environment = {**os.environ, "SERVICE_TOKEN": control.service_token, "CUDA_VISIBLE_DEVICES": ""}
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0, (folder / "worker.log").read_text()


def test_without_an_endpoint_control_does_not_load_the_sdk() -> None:
    code = "import control.commands, sys; sys.exit('opentelemetry.sdk.trace' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
