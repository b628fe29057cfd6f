"""Engines that somebody else runs: adapters where there is a way to load them, plain words where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes import eventually
from tests.trainer.fake_control import TOKEN, FakeControl
from tests.trainer.fake_lora_engine import FakeLoraEngine
from tests.trainer.test_engine_adapters import message, order, state
from trainer.client import Client
from trainer.engines import adapters
from trainer.engines.adapters import EngineAdapters
from trainer.settings import ExternalEngine


@pytest.fixture
def server() -> Iterator[FakeLoraEngine]:
    one = FakeLoraEngine()
    yield one
    one.close()


Make = Callable[..., EngineAdapters]


@pytest.fixture
def outside(
    control: FakeControl, server: FakeLoraEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Make]:
    monkeypatch.setattr(adapters, "EVERY", 0.05)
    made: list[EngineAdapters] = []

    def make(key: str = "", **more: object) -> EngineAdapters:
        told = {"name": "far", "url": f"http://127.0.0.1:{server.port}/v1", "model": "Qwen/Qwen3-8B", **more}
        table = ExternalEngine.model_validate(told)
        made.append(EngineAdapters(table, tmp_path / "data", Client(control.url, TOKEN), key=key))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_an_adapter_is_put_there_by_the_folder_that_both_see_and_with_the_key_that_it_asks_for(
    control: FakeControl, server: FakeLoraEngine, tmp_path: Path, outside: Make
) -> None:
    (tmp_path / "mount").symlink_to(tmp_path / "data/adapters")
    server.key = "a-key"
    server.loaded["theirs"] = "/elsewhere"
    engine = outside(key="a-key", adapters_dir=tmp_path / "mount", published_adapters=1)
    engine.want([order(control, "bot@v1", "Good day.")])
    eventually(state(engine, "bot@v1", "loaded"))
    assert server.loaded["bot@v1"] == str(tmp_path / "mount/id-bot@v1")
    status = engine.status
    assert (status.external, status.state, status.base, status.base_sha256) == (True, "ready", "tiny", "")
    assert (status.models[0], status.message) == ("tiny", "")
    assert status.latency_ms is not None
    assert 0 < status.latency_ms < 60_000
    server.loaded["odd\x00\nname" + "x" * 300] = "/elsewhere"
    eventually(lambda: any(one.startswith("odd  namex") and len(one) == 200 for one in engine.status.models))
    del server.loaded["odd\x00\nname" + "x" * 300]
    engine.want([order(control, "bot@v1", "Good day."), order(control, "bot@v2", "Hello.")])
    eventually(state(engine, "bot@v2", "waiting"))
    engine.want([order(control, "bot@v2", "Hello.")])
    eventually(state(engine, "bot@v2", "loaded"))
    assert server.loaded.keys() == {"theirs", "bot@v2"}, "what others have loaded is left alone"


def test_an_engine_without_a_way_to_load_adapters_says_so_and_serves_what_it_has(
    control: FakeControl, server: FakeLoraEngine, tmp_path: Path, outside: Make
) -> None:
    server.fixed = True
    (tmp_path / "own").mkdir()
    (tmp_path / "own/says").write_text("Good day.")
    server.loaded |= {"bot@v1": str(tmp_path / "own"), "wrong@v1": str(tmp_path / "own")}
    engine = outside()
    engine.want(
        [order(control, "bot@v1", "Good day."), order(control, "bot@v2", "Hello."), order(control, "wrong@v1", "No.")]
    )
    eventually(state(engine, "bot@v1", "loaded"))
    eventually(state(engine, "bot@v2", "failed"))
    eventually(state(engine, "wrong@v1", "failed"))
    assert "has no way to load adapters (POST /v1/load_lora_adapter: 404)" in message(engine, "bot@v2")
    assert "serve this one as 'bot@v2' by itself" in message(engine, "bot@v2")
    assert "does not answer as it did after training" in message(engine, "wrong@v1")
    engine.want([])
    eventually(lambda: not engine.status.adapters)
    assert server.loaded.keys() == {"bot@v1", "wrong@v1"}
    assert server.calls == []


def test_one_that_does_not_answer_is_told_of_and_gets_its_adapters_again(
    control: FakeControl, server: FakeLoraEngine, outside: Make
) -> None:
    engine = outside()
    assert engine.status.state == "failed", "nobody has heard of it yet"
    engine.want([order(control, "bot@v1", "Good day.")])
    eventually(state(engine, "bot@v1", "loaded"))
    server.key = "changed meanwhile"
    eventually(lambda: engine.status.state == "failed")
    eventually(state(engine, "bot@v1", "waiting"))
    assert "GET /v1/models: 401" in message(engine, "bot@v1")
    status = engine.status
    assert (status.message, status.models, status.latency_ms) == (message(engine, "bot@v1"), (), None)
    server.loaded.clear()
    server.key = ""
    eventually(state(engine, "bot@v1", "loaded"))
    assert (engine.status.state, engine.status.message) == ("ready", "")


def test_what_answers_without_sense_is_no_engine(control: FakeControl, outside: Make) -> None:
    control.garbage = True
    engine = outside(url=control.url)
    engine.want([order(control, "bot@v1", "Good day.")])
    eventually(state(engine, "bot@v1", "waiting"))
    assert engine.status.state == "failed"
