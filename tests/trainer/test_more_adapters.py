"""More adapters than a real vLLM has slots: it evicts and loads again by itself, and no answer is another adapter's."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import VLLM_PYTHON
from tests.processes import eventually, free_port
from tests.trainer.fake_control import TOKEN, FakeControl
from tests.trainer.runs import needs_recipes, tiny
from trainer.client import Client
from trainer.contract.worker import AdapterOrder
from trainer.engines.adapters import EngineAdapters
from trainer.engines.vllm import launch
from trainer.settings import Engine

pytestmark = [
    pytest.mark.vllm, pytest.mark.timeout(300), needs_recipes,
    pytest.mark.skipif(not VLLM_PYTHON.exists(), reason="make install fills .venv-vllm"),
]  # fmt: skip
ROUNDS = 12
NAMES = ("one@v1", "two@v1", "three@v1", "four@v1")
WHOSE = dict(zip(NAMES, ("alpha", "beta", "alpha", "beta"), strict=True))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Two slots, two adapters in memory, four that may be published."""
    table = Engine(
        name="tiny", model=tiny() / "base", port=free_port(), dtype="float32", max_model_len=512, max_num_seqs=16,
        kv_cache_bytes=67_108_864, max_loras=2, max_cpu_loras=2, published_adapters=4, python=VLLM_PYTHON,
        env={"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
    )  # fmt: skip
    told = launch(table, os.environ)
    with (tmp_path / "engine.log").open("wb") as log:
        process = subprocess.Popen(told.argv, env=told.env, stdout=log, stderr=log)
    try:
        eventually(lambda: process.poll() is not None or answers(table), 250)
        assert process.poll() is None, (tmp_path / "engine.log").read_text()[-3000:]
        yield table
    finally:
        process.terminate()
        process.wait(60)


def answers(engine: Engine) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{engine.url}/health", timeout=5).status == 200)
    except OSError:
        return False


def orders(control: FakeControl) -> list[AdapterOrder]:
    texts = json.loads((tiny() / "expect.json").read_text())
    found = []
    for name, whose in WHOSE.items():
        files = {path.name: path.read_bytes() for path in (tiny() / whose).iterdir() if path.suffix != ".md"}
        control.files[name] = files
        hashes = {file: hashlib.sha256(body).hexdigest() for file, body in files.items()}
        probe = {"messages": [{"role": "user", "content": "Hi"}], "text": texts[whose]}
        found.append(AdapterOrder.model_validate({"adapter": name, "name": name, "files": hashes, "probes": [probe]}))
    return found


def ask(engine: Engine, name: str) -> str:
    body = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "temperature": 0, "max_tokens": 24}
    request = urllib.request.Request(
        f"{engine.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(json.loads(answer.read())["choices"][0]["message"]["content"])


def test_adapters_beyond_the_slots_are_loaded_when_they_are_asked_for_and_none_answers_for_another(
    engine: Engine, tmp_path: Path
) -> None:
    control = FakeControl()
    adapters = EngineAdapters(engine, tmp_path / "data", Client(control.url, TOKEN))
    try:
        adapters.want(orders(control))
        eventually(lambda: sum(one.state == "loaded" for one in adapters.status.adapters) == 4, 60)
    finally:
        adapters.close()
        control.close()
    texts = json.loads((tiny() / "expect.json").read_text())
    asked = [name for number in range(ROUNDS) for name in (*NAMES[number % 4 :], *NAMES[: number % 4])]
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda name: ask(engine, name), asked))
    wrong = [(name, text) for name, text in zip(asked, said, strict=True) if text[:24] != texts[WHOSE[name]][:24]]
    assert not wrong, f"{len(wrong)} of {len(asked)}: {wrong[:5]}"
    assert len(said) == 4 * ROUNDS
