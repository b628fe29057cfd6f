"""The process: start, health, metrics, log lines, graceful stop, several workers, the OpenAI SDK."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import openai
import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import KEY, ROOT, Gateway, endpoint, eventually, key, new_id, route, toml
from tests.fakes.http import Connection
from tests.fakes.upstream import Wait
from tests.fakes.wire import Usage

NEVER = threading.Event()


@pytest.fixture(scope="module")
def config(upstream):
    return {
        "gateway": {"drain_timeout": 1.5},
        "endpoint": [endpoint(upstream.url)],
        "route": [route("x/*"), route("gpt", "up/m"), route("few", "up/m", limits={"rpm": 1})],
    }


@pytest.fixture(scope="module")
def gateway(start, config) -> Gateway:
    return start(config)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_needs_no_key(gateway, path):
    assert gateway.call("GET", path, secret=None).status == 200
    assert gateway.call("HEAD", path, secret=None).status in (200, 405)


def test_metrics_are_prometheus_text(gateway):
    rid = new_id()
    gateway.chat("gpt", rid=rid)
    gateway.row(rid)
    reply = gateway.call("GET", "/metrics", secret=None)
    assert (reply.header("content-type") or "").startswith("text/plain")
    names = {k.partition("{")[0] for k in gateway.metrics()}
    assert all(n.startswith(("tunegate_", "gen_ai_", "process_", "python_")) for n in names), names
    assert any("overhead" in n for n in names)


def test_log_lines_are_json_with_the_request_id(gateway):
    rid = new_id()
    gateway.chat("nowhere", rid=rid)
    eventually(lambda: [e for e in gateway.events() if rid in map(str, e.values())])
    for line in gateway.log_lines:
        assert isinstance(json.loads(line), dict)


def test_metrics_may_ask_for_a_token(start, config):
    guarded = start(config | {"telemetry": {"metrics_token": "env:SCRAPE"}}, env={"SCRAPE": "scrape-me"})
    assert guarded.call("GET", "/metrics", secret=None).status in (401, 403)
    assert guarded.call("GET", "/metrics", secret="wrong").status in (401, 403)
    assert guarded.call("GET", "/metrics", secret="scrape-me").status == 200


# ---- stop ----


def refuses(gateway: Gateway) -> bool:
    """New work is refused: no connection, or 503."""
    try:
        reply = gateway.chat("gpt")
    except (OSError, AssertionError):
        return True
    return reply.status in (0, 503)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_stream_is_finished_before_the_stop(start, config, scripted, tmp_path, number):
    gateway = start(config, folder=tmp_path)
    rid, go = new_id(), threading.Event()
    rest = wire.openai_stream(["b"], Usage(), asked=True)
    name = scripted(scripts.stream([wire.word_event("a"), Wait(go), *rest]))
    with gateway.open(f"x/{name}", rid, stream=True) as conn:
        conn.response(stop=10)
        gateway.signal(number)
        eventually(lambda: refuses(gateway), 1.2, "a stopping gateway still takes new work")
        go.set()
        data = conn.rest()
    assert b"[DONE]" in data
    assert data.endswith(b"0\r\n\r\n")
    assert gateway.stop() == 0
    assert gateway.row(rid)["end"] == "success"


def test_a_stream_that_never_ends_is_cut_at_the_drain_time_and_settled(start, config, scripted, tmp_path):
    gateway = start(config, folder=tmp_path)
    rid = new_id()
    name = scripted(scripts.stream([wire.word_event("a"), Wait(NEVER, 20)]))
    with gateway.open(f"x/{name}", rid, stream=True) as conn:
        conn.response(stop=10)
        begin = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.stop() == 0
        assert 1.0 < time.monotonic() - begin < 5.0
        data = conn.rest()
    assert b'"error"' in data, "the client learns why"
    assert data.endswith(b"0\r\n\r\n")
    row = gateway.row(rid)
    assert (row["end"], row["usage_source"]) == ("stopped", "estimated")


def test_an_idle_gateway_stops_at_once(start, config, tmp_path):
    gateway = start(config, folder=tmp_path)
    with Connection(gateway.url) as idle:
        idle.request("GET", "/healthz")
        assert idle.response().status == 200
        begin = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - begin < 1.4


# ---- start ----


def test_two_workers_share_the_port_and_the_ledger(start, config, tmp_path):
    gateway = start({**config, "gateway": {"workers": 2}}, folder=tmp_path)
    ids = [new_id() for _ in range(30)]
    assert {gateway.chat("gpt", rid=rid).status for rid in ids} == {200}
    eventually(lambda: sum(r["request_id"] in ids for r in gateway.ledger()) == 30, 10)
    assert gateway.stop() == 0
    rows = [r for r in gateway.ledger() if r["request_id"] in ids]
    assert len({r["id"] for r in rows}) == 30


def attempt_start(folder, text: str, **env: str) -> tuple[int, str]:
    file = folder / "config.toml"
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--config", str(file)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        timeout=20,
        check=False,
    )
    return done.returncode, (done.stderr + done.stdout).decode()


STARTS = {
    "an open address without a key": (
        {"gateway": {"listen": "0.0.0.0:0"}, "route": [route("m", "d")]},
        "key",
    ),
    "a misspelt setting": ({"gateway": {"listn": "127.0.0.1:0"}}, "listn"),
    "a bad address": ({"gateway": {"listen": "nowhere"}}, "nowhere"),
    "an unknown endpoint": ({"route": [route("m", "missing")]}, "missing"),
    "a missing secret": ({"key": [{"name": "k", "key": "env:NOT_SET_ANYWHERE"}]}, "NOT_SET_ANYWHERE"),
}


@pytest.mark.parametrize(("config", "says"), STARTS.values(), ids=STARTS.keys())
def test_a_bad_configuration_does_not_start_and_says_why(tmp_path, config, says):
    full = {"gateway": {"listen": "127.0.0.1:0", **config.pop("gateway", {})}} | config
    full["gateway"]["data_dir"] = str(tmp_path / "data")
    full.setdefault("endpoint", [{"name": "d", "provider": "dummy"}])
    code, output = attempt_start(tmp_path, toml(full))
    assert code not in (0, None)
    assert says in output
    assert "Traceback" not in output


def test_the_environment_overrides_the_file(start, config, tmp_path):
    gateway = start(config, folder=tmp_path, env={"TUNEGATE_GATEWAY_MAX_BODY_BYTES": "100"})
    assert gateway.chat("gpt", pad="x" * 200).status == 413


# ---- the SDK ----


@pytest.fixture(scope="module")
def sdk(gateway):
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0, timeout=10) as client:
        yield client


MESSAGES = [{"role": "user", "content": "hi"}]


def test_the_sdk_gets_answers_and_streams(sdk):
    whole = sdk.chat.completions.create(model="gpt", messages=MESSAGES)
    assert whole.choices[0].message.content == "w0 w1 "
    words = [
        c.choices[0].delta.content or ""
        for c in sdk.chat.completions.create(model="gpt", messages=MESSAGES, stream=True)
    ]
    assert "".join(words) == "w0 w1 "
    last = list(
        sdk.chat.completions.create(model="gpt", messages=MESSAGES, stream=True, stream_options={"include_usage": True})
    )[-1]
    assert last.usage.total_tokens == 30
    assert sdk.embeddings.create(model="gpt", input=["a", "b"], encoding_format="float").usage.prompt_tokens == 20
    assert "gpt" in {m.id for m in sdk.models.list()}
    assert sdk.models.retrieve("gpt").id == "gpt"
    assert sdk.completions.create(model="gpt", prompt="a").choices[0].text


def test_the_sdk_sees_typed_errors(gateway, sdk, scripted):
    with pytest.raises(openai.NotFoundError) as missing:
        sdk.chat.completions.create(model="nowhere", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    wrong = sdk.with_options(api_key="sk-tg-wrong")
    with pytest.raises(openai.AuthenticationError) as refused:
        wrong.chat.completions.create(model="gpt", messages=MESSAGES)
    assert refused.value.code == "invalid_api_key"
    sdk.chat.completions.create(model="few", messages=MESSAGES)
    with pytest.raises(openai.RateLimitError) as limited:
        sdk.chat.completions.create(model="few", messages=MESSAGES)
    assert limited.value.code == "rate_limit_exceeded"
    name = scripted(scripts.stream([wire.word_event("a"), wire.event({"error": {"message": "down"}})]))
    with pytest.raises(openai.APIError):
        list(sdk.chat.completions.create(model=f"x/{name}", messages=MESSAGES, stream=True))


def test_the_sdk_may_leave_in_the_middle(gateway, sdk, upstream, scripted):
    name = scripted(scripts.stream([wire.word_event("a"), Wait(NEVER, 5)]))
    stream = sdk.chat.completions.create(model=f"x/{name}", messages=MESSAGES, stream=True)
    assert next(iter(stream)).choices[0].delta.content == "a"
    stream.close()
    eventually(lambda: upstream.of(name)[0].gone, 1.0)


def test_without_any_key_on_loopback(start, config, tmp_path):
    """With no key configured nobody may call, not even on loopback; and the check says so."""
    gateway = start({**config, "key": []}, folder=tmp_path)
    for secret in (None, "sk-tg-any"):
        reply = gateway.chat("gpt", secret=secret)
        assert (reply.status, reply.fault) == (401, "policy_key")
    command = [sys.executable, "-m", "gateway", "config", "check", str(gateway.file)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    assert "there is no [[key]] yet: every request will be answered 401" in said


def test_keys_are_needed_when_there_is_one(start, config, tmp_path):
    gateway = start({**config, "key": [key("one")]}, folder=tmp_path)
    assert gateway.chat("gpt", secret=None).status == 401


def test_a_second_gateway_may_not_share_the_data_directory(start, config, tmp_path):
    (tmp_path / "first").mkdir()
    gateway = start(config, folder=tmp_path / "first")
    (tmp_path / "second").mkdir()
    code, output = attempt_start(tmp_path / "second", toml(gateway.config))
    assert code not in (0, None)
    assert "data_dir" in output
    assert "Traceback" not in output
