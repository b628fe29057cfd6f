"""An engine is brought in line with the adapters that control wants, each proved before it counts as loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import eventually
from tests.trainer.fake_control import TOKEN, FakeControl
from tests.trainer.fake_lora_engine import FakeLoraEngine
from trainer.client import Client
from trainer.contract.worker import AdapterOrder
from trainer.engines import adapters
from trainer.engines.adapters import EngineAdapters
from trainer.hashes import weights_sha256
from trainer.settings import Engine


@pytest.fixture
def server() -> Iterator[FakeLoraEngine]:
    one = FakeLoraEngine()
    yield one
    one.close()


@pytest.fixture
def engine(
    control: FakeControl, server: FakeLoraEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[EngineAdapters]:
    monkeypatch.setattr(adapters, "EVERY", 0.05)
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model.safetensors").write_bytes(b"base")
    table = Engine(name="tiny", model=tmp_path / "base", port=server.port, published_adapters=2)
    one = EngineAdapters(table, tmp_path / "data", Client(control.url, TOKEN))
    yield one
    one.close()


def order(control: FakeControl, name: str, says: str, **changes: Any) -> AdapterOrder:
    id = f"id-{name}"
    control.files[id] = {"adapter_config.json": b"{}", "says": says.encode()}
    hashes = {file: hashlib.sha256(body).hexdigest() for file, body in control.files[id].items()}
    probe = {"messages": [{"role": "user", "content": "Hi"}], "text": says}
    return AdapterOrder.model_validate({"adapter": id, "name": name, "files": hashes, "probes": [probe], **changes})


def state(engine: EngineAdapters, name: str, wanted: str) -> Callable[[], bool]:
    return lambda: any(one.name == name and one.state == wanted for one in engine.status.adapters)


def message(engine: EngineAdapters, name: str) -> str:
    return next(one.message for one in engine.status.adapters if one.name == name)


def test_what_is_wanted_is_fetched_loaded_and_proved_and_what_is_not_is_unloaded(
    control: FakeControl, server: FakeLoraEngine, engine: EngineAdapters
) -> None:
    server.loaded["alpha"] = "/models/alpha"  # of the configuration file: not ours to unload
    engine.want([order(control, "bot@v1", "Good day."), order(control, "bot@v2", "Hello there.")])
    eventually(state(engine, "bot@v1", "loaded"))
    eventually(state(engine, "bot@v2", "loaded"))
    assert engine.status.state == "ready"
    engine.want([order(control, "bot@v2", "Hello there.")])
    eventually(lambda: server.loaded.keys() == {"alpha", "bot@v2"})
    assert server.calls == [("load", "bot@v1"), ("load", "bot@v2"), ("unload", "bot@v1")]
    assert len(control.downloads) == 4


def test_an_adapter_that_answers_as_another_one_never_counts_as_loaded(
    control: FakeControl, server: FakeLoraEngine, engine: EngineAdapters
) -> None:
    server.mixes_up = True
    engine.want([order(control, "bot@v1", "Good day.")])
    eventually(state(engine, "bot@v1", "failed"))
    assert "does not answer as it did after training" in message(engine, "bot@v1")
    assert "bot@v1" not in server.loaded
    engine.want([order(control, "bot@v1", "Good day."), order(control, "bot@v2", "the words of another one")])
    eventually(state(engine, "bot@v2", "loaded"))
    assert server.calls.count(("load", "bot@v1")) == 1


def test_an_adapter_of_other_weights_is_not_loaded(
    control: FakeControl, server: FakeLoraEngine, engine: EngineAdapters, tmp_path: Path
) -> None:
    own = weights_sha256(tmp_path / "base")
    engine.want(
        [
            order(control, "bot@v1", "Good day.", base_sha256="0" * 64),
            order(control, "bot@v2", "Hello.", base_sha256=own),
        ]
    )
    eventually(state(engine, "bot@v1", "failed"))
    assert "trained on other weights" in message(engine, "bot@v1")
    eventually(state(engine, "bot@v2", "loaded"))


def test_a_file_of_another_hash_is_not_loaded_and_asked_for_again(
    control: FakeControl, server: FakeLoraEngine, engine: EngineAdapters, tmp_path: Path
) -> None:
    wanted = order(control, "bot@v1", "Good day.")
    control.files["id-bot@v1"]["says"] = b"changed on the way"
    engine.want([wanted])
    eventually(state(engine, "bot@v1", "waiting"))
    assert "another hash" in message(engine, "bot@v1")
    assert not list((tmp_path / "data").rglob("says*"))
    control.files["id-bot@v1"]["says"] = b"Good day."
    eventually(state(engine, "bot@v1", "loaded"))


def test_what_the_engine_refuses_is_told_with_its_words(
    control: FakeControl, server: FakeLoraEngine, engine: EngineAdapters
) -> None:
    server.refuses = True
    engine.want([order(control, "bot@v1", "Good day.")])
    eventually(state(engine, "bot@v1", "failed"))
    assert "no rank for it" in message(engine, "bot@v1")


def test_on_a_cpu_a_slot_that_was_used_is_not_used_again_until_the_engine_is_started_again(
    control: FakeControl, server: FakeLoraEngine, engine: EngineAdapters
) -> None:
    three = [order(control, f"bot@v{number}", f"I am number {number}.") for number in (1, 2, 3)]
    engine.want(three[:2])
    eventually(state(engine, "bot@v2", "loaded"))
    engine.want(three[1:])
    eventually(state(engine, "bot@v3", "waiting"))
    assert "restart it" in message(engine, "bot@v3")
    engine.want(three[:2])
    eventually(state(engine, "bot@v1", "loaded"))
    engine._starts = lambda: 1
    engine.want(three[1:])
    eventually(state(engine, "bot@v3", "loaded"))


def test_more_than_there_are_slots_of_a_gpu_wait_until_one_is_free(
    control: FakeControl, server: FakeLoraEngine, engine: EngineAdapters
) -> None:
    engine.devices = ("GPU-1",)
    three = [order(control, f"bot@v{number}", f"I am number {number}.") for number in (1, 2, 3)]
    engine.want(three)
    eventually(state(engine, "bot@v3", "waiting"))
    assert "all 2 slots" in message(engine, "bot@v3")
    engine.want(three[1:])
    eventually(state(engine, "bot@v3", "loaded"))


def test_an_engine_that_was_started_again_gets_its_adapters_again(
    control: FakeControl, server: FakeLoraEngine, engine: EngineAdapters
) -> None:
    engine.want([order(control, "bot@v1", "Good day.")])
    eventually(state(engine, "bot@v1", "loaded"))
    server.close()
    eventually(lambda: engine.status.state == "starting")
    assert state(engine, "bot@v1", "waiting")()
    again = FakeLoraEngine(server.port)
    try:
        eventually(state(engine, "bot@v1", "loaded"))
        assert again.calls == [("load", "bot@v1")]
    finally:
        again.close()
    assert len(control.downloads) == 2
