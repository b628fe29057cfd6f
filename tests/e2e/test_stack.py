"""What a user meets: the openai SDK against the gateway, with the real vLLM and two adapters behind it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.e2e.conftest import START_SECONDS, Stack
from tests.processes import alive, eventually, processes_with
from trainer.engines import procfs

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(START_SECONDS + 60)]

MODELS = ("tiny", "alpha", "beta")
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def question(text: str = "Good day! What are you?") -> list[Any]:
    return [{"role": "user", "content": text}]


def post(url: str, key: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


@pytest.mark.parametrize("model", MODELS)
def test_each_model_answers_its_own_sentence(stack: Stack, model: str) -> None:
    with stack.client() as client:
        reply = client.chat.completions.create(model=model, messages=question())
    assert reply.choices[0].message.content == stack.expect[model]
    assert reply.model == model
    assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("model", MODELS)
def test_a_stream_brings_the_same_sentence_in_pieces_and_its_usage_when_asked(stack: Stack, model: str) -> None:
    with stack.client() as client:
        chunks = list(
            client.chat.completions.create(
                model=model, messages=question(), stream=True, stream_options={"include_usage": True}
            )
        )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == stack.expect[model]
    assert len(pieces) > 5
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 5


def test_a_stream_that_did_not_ask_for_usage_gets_none_but_is_still_counted(stack: Stack) -> None:
    with stack.client() as client:
        chunks = list(
            client.chat.completions.create(
                model="beta", messages=question(), stream=True, extra_headers={"x-request-id": "no-usage-asked"}
            )
        )
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    row = stack.ledger_row("no-usage-asked")
    assert row.usage_source == "provider"
    assert row.tokens.output > 5


def test_requests_at_the_same_time_do_not_mix_their_adapters(stack: Stack) -> None:
    asked = [MODELS[number % 3] for number in range(24)]
    with stack.client() as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda model: client.chat.completions.create(model=model, messages=question()), asked))
    assert [a.choices[0].message.content for a in answers] == [stack.expect[model] for model in asked]


def test_the_ledger_has_what_the_provider_counted_at_the_routes_price(stack: Stack) -> None:
    with stack.client() as client:
        usage = client.chat.completions.create(
            model="alpha", messages=question(), extra_headers={"x-request-id": "priced"}
        ).usage
    assert usage is not None
    row = stack.ledger_row("priced")
    assert (row.key, row.route, row.endpoint, row.end, row.status) == ("first@admin", "alpha", "local", "success", 200)
    assert row.tokens.input + row.tokens.cache_read == usage.prompt_tokens
    assert row.tokens.output == usage.completion_tokens
    assert row.cost_nano == usage.prompt_tokens * 200 + usage.completion_tokens * 800


def test_the_models_are_listed(stack: Stack) -> None:
    with stack.client() as client:
        assert {model.id for model in client.models.list()} == {*MODELS, "dummy"}


def test_a_json_schema_reaches_the_engine(stack: Stack) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"], "additionalProperties": False}
    with stack.client() as client:
        reply = client.chat.completions.create(
            model="tiny",
            messages=question(),
            max_tokens=8,
            response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        )
    said = "".join(
        (reply.choices[0].message.content or "").split()
    )  # white space is free, and all that a tiny model says
    assert said
    assert '{"n":7}'.startswith(said)


def test_a_field_that_only_this_engine_knows_reaches_it(stack: Stack) -> None:
    with stack.client() as client:
        reply = client.chat.completions.create(
            model="tiny", messages=question(), extra_body={"structured_outputs": {"choice": ["red", "blue"]}}
        )
    assert reply.choices[0].message.content in ("red", "blue")


@pytest.mark.parametrize("choice", ["none", "auto"])
def test_tools_reach_the_engine_and_its_answer_or_refusal_comes_back(stack: Stack, choice: str) -> None:
    body = {"model": "alpha", "messages": question(), "tools": [TOOL], "tool_choice": choice}
    direct_status, direct = post(stack.engine_url, "", body)
    status, relayed = post(stack.url, stack.key, body)
    assert status == direct_status == (200 if choice == "none" else 400)
    if status == 200:
        assert relayed["choices"] == direct["choices"]
    else:
        assert relayed == direct


def test_a_wrong_key_is_refused(stack: Stack) -> None:
    with stack.client("sk-tg-" + "x" * 43) as client, pytest.raises(openai.AuthenticationError):
        client.chat.completions.create(model="alpha", messages=question())


def test_an_unknown_model_is_not_found(stack: Stack) -> None:
    with stack.client() as client, pytest.raises(openai.NotFoundError, match="gamma"):
        client.chat.completions.create(model="gamma", messages=question())


def test_a_key_added_while_running_works_and_its_rate_limit_holds(stack: Stack) -> None:
    answer = stack.admin.post("/api/v1/keys", json={"name": "slow", "limits": {"rpm": 2}})
    assert answer.status_code == 201, answer.text

    def accepted() -> bool:
        try:
            client.models.list()
        except openai.AuthenticationError:
            return False
        return True

    with stack.client(answer.json()["secret"]) as client:
        eventually(accepted, 2)
        for _ in range(2):
            client.chat.completions.create(model="alpha", messages=question())
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="alpha", messages=question())
    assert int(refused.value.response.headers["retry-after"]) > 0


def test_a_client_that_leaves_mid_stream_frees_the_engine_and_is_in_the_ledger(stack: Stack) -> None:
    eventually(lambda: stack.engine_metric("num_requests_running") == 0)
    generated = stack.engine_metric("generation_tokens_total")
    with stack.client() as client:
        stream = client.chat.completions.create(
            model="alpha",
            messages=question(),
            stream=True,
            max_tokens=950,
            extra_body={"ignore_eos": True},
            extra_headers={"x-request-id": "gone"},
        )
        for _, _chunk in zip(range(5), stream, strict=False):
            pass
        stream.close()
    eventually(lambda: stack.engine_metric("num_requests_running") == 0)
    assert stack.engine_metric("generation_tokens_total") - generated < 900
    row = stack.ledger_row("gone")
    assert row.end == "client_gone_partial"
    assert row.usage_source == "estimated"
    assert row.cost_nano > 0


def test_the_lines_that_up_prints_work_as_pasted(stack: Stack) -> None:
    for pattern in (r"^  (curl .*?\}')$", r"^  (OPENAI_BASE_URL.*?content\)\")$"):
        (line,) = re.findall(pattern, stack.output, re.DOTALL | re.MULTILINE)
        done = subprocess.run(line, shell=True, check=True, capture_output=True, text=True, timeout=60)
        assert stack.expect["alpha"] in done.stdout


def test_the_code_in_the_readme_works_as_written(stack: Stack) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), re.DOTALL)
    code = code.replace("http://127.0.0.1:8000", stack.url).replace("var/first-key", str(stack.data / "first-key"))
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [f"{model} → {stack.expect[model]}" for model in MODELS]


def test_a_killed_engine_is_an_openai_error_at_once_and_comes_back_without_leftovers(stack: Stack) -> None:
    pids = [int(pid) for pid in re.findall(r'"engine.starting".*?"pid": (\d+)', stack.output)]
    members = procfs.session_members(pids[-1])
    shared = procfs.mapped_shared_memory(members)
    assert len(members) >= 3

    def ready() -> int:
        return stack.output.count('"engine.ready"')

    eventually(ready, START_SECONDS)  # it answers a moment before that is noticed
    before = ready()
    os.kill(pids[-1], signal.SIGKILL)
    with stack.client() as client:
        with pytest.raises(openai.APIStatusError) as failed:
            client.chat.completions.create(model="alpha", messages=question())
        assert failed.value.status_code >= 500
        eventually(lambda: not any(map(alive, members)), 15)
        eventually(lambda: not any(path.exists() for path in shared), 5)
        eventually(lambda: ready() > before, START_SECONDS)

        def answers() -> bool:
            try:
                reply = client.chat.completions.create(model="alpha", messages=question())
            except openai.APIStatusError:  # the breaker is still open
                return False
            return reply.choices[0].message.content == stack.expect["alpha"]

        eventually(answers, 40)


def test_ctrl_c_leaves_no_process_no_shared_memory_and_no_listener(stack: Stack) -> None:
    engine = [int(pid) for pid in re.findall(r'"engine.starting".*?"pid": (\d+)', stack.output)][-1]
    shared = procfs.mapped_shared_memory(procfs.session_members(engine))
    assert stack.stop() == 0
    assert not processes_with(str(stack.data))
    assert not procfs.session_members(engine)
    assert not any(path.exists() for path in shared)
    port = int(stack.url.rpartition(":")[2])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
