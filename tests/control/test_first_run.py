"""The first run writes a configuration that the gateway and the trainer accept, and a key that nobody else can read."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from control import firstrun, welcome
from control.firstrun import Files, LocalEngine
from gateway.snapshot.file import load as load_gateway
from tests.processes import eventually, free_port, processes_with
from trainer.settings import load as load_trainer

ENGINE = LocalEngine(Path("/opt/v l'lm/bin/python"), 8101)


def written(tmp_path: Path, engine: LocalEngine | None) -> Files:
    files = Files(tmp_path)
    firstrun.write(files, "127.0.0.1:8000", engine)
    return files


def test_key_and_configuration_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    files = written(tmp_path, ENGINE)
    for path in (files.config, files.first_key):
        assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.toml", "first-key"]


def test_the_key_is_random_and_the_configuration_holds_only_its_digest(tmp_path: Path) -> None:
    files = written(tmp_path, ENGINE)
    key = files.first_key.read_text().strip()
    assert re.fullmatch(r"sk-tg-[A-Za-z0-9_-]{43}", key)
    assert key not in files.config.read_text()
    assert hashlib.sha256(key.encode()).hexdigest() in files.config.read_text()
    assert firstrun.new_key() != firstrun.new_key()


def test_the_gateway_accepts_it_and_the_key_has_limits_and_a_budget(tmp_path: Path) -> None:
    settings, snapshot = load_gateway(written(tmp_path, ENGINE).config)
    assert settings.gateway.listen == "127.0.0.1:8000"
    assert settings.gateway.data_dir == tmp_path / "gateway"
    assert {route.name: route.targets[0].endpoint for route in snapshot.routes} == {
        "tiny": "local",
        "alpha": "local",
        "beta": "local",
        "dummy": "dummy",
    }
    assert all(route.price.output > 0 for route in snapshot.routes if route.name != "dummy")
    (key,) = snapshot.keys
    assert key.limits.rpm
    assert key.limits.tpm
    assert key.limits.concurrency
    assert key.budgets[0].window == "day"


def test_the_trainer_accepts_it_whatever_characters_the_paths_have(tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" 文件夹\\x'
    folder.mkdir()
    (engine,) = load_trainer(written(folder, ENGINE).config).engines
    assert engine.python == ENGINE.python
    assert engine.model == folder / "models/tiny/base"
    assert set(engine.adapters) == {"alpha", "beta"}


def test_without_vllm_the_same_models_are_answered_by_the_dummy_provider(tmp_path: Path) -> None:
    files = written(tmp_path, None)
    assert load_trainer(files.config).engines == ()
    _, snapshot = load_gateway(files.config)
    assert [route.targets[0].endpoint for route in snapshot.routes] == ["dummy"] * 4


def test_an_environment_counts_only_when_vllm_is_in_it(tmp_path: Path) -> None:
    python = tmp_path / "bin/python"
    package = tmp_path / "lib/python3.11/site-packages/vllm"
    assert not firstrun.has_vllm(python)
    python.parent.mkdir()
    python.touch()
    assert not firstrun.has_vllm(python)
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    assert firstrun.has_vllm(python)


def test_the_key_is_shown_on_the_first_run_only_and_the_lines_to_paste_never_hold_it(tmp_path: Path) -> None:
    files = written(tmp_path, ENGINE)
    config = tomllib.loads(files.config.read_text())
    key = files.first_key.read_text().strip()
    first = welcome.welcome(config, "http://127.0.0.1:8000", files.first_key, key, [])
    later = welcome.welcome(config, "http://127.0.0.1:8000", files.first_key, None, [])
    assert first.count(key) == 1
    assert key not in later
    assert '"model": "alpha"' in later
    assert f"cat {shlex.quote(str(files.first_key))}" in later
    assert re.search(r"tiny +vllm \(local\) +0\.1 / 0\.4", later)
    waiting = welcome.welcome(config, "http://127.0.0.1:8000", files.first_key, None, ["tiny"])
    assert "`tiny` does not answer yet" in waiting
    assert '"model": "dummy"' in waiting


def up(data: Path, *options: str) -> list[str]:
    no_vllm = ["--vllm-python", str(data / "nothing/bin/python")]
    return [sys.executable, "-m", "control", "up", "--data", str(data), *no_vllm, *options]


def test_a_taken_port_is_named_with_the_way_to_choose_another(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            up(tmp_path, "--listen", f"127.0.0.1:{port}"), check=False, capture_output=True, text=True, timeout=20
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port} is used by another program" in done.stdout
    assert f"tunegate up --listen 127.0.0.1:{port + 1}" in done.stdout
    assert not (tmp_path / "config.toml").exists()


def test_a_configuration_with_mistakes_is_refused_with_their_places(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[gateway]\nlisten = "127.0.0.1:0"\ncolor = 1\n')
    done = subprocess.run(
        up(tmp_path, "--listen", f"127.0.0.1:{free_port()}"), check=False, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert "color" in done.stdout
    assert "config.toml:3" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_without_vllm_serves_the_dummy_and_stops_without_a_trace(tmp_path: Path, number: signal.Signals) -> None:
    address = f"127.0.0.1:{free_port()}"
    log = tmp_path / "out"
    with log.open("w") as out:
        process = subprocess.Popen(up(tmp_path, "--listen", address), stdout=out, stderr=out)
    try:
        eventually(lambda: "Ctrl-C stops everything" in log.read_text(), 20)
        assert "vLLM is not installed" in log.read_text()
        second = subprocess.run(up(tmp_path), check=False, capture_output=True, text=True, timeout=20)
        assert f"(process {process.pid})" in second.stdout
        curl = re.findall(r"^  (curl .*?\}')$", log.read_text(), re.DOTALL | re.MULTILINE)
        answer = subprocess.run(curl[0], shell=True, check=True, capture_output=True, text=True, timeout=20)
        assert '"finish_reason":"stop"' in answer.stdout.replace(" ", "")
        os.kill(process.pid, number)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    eventually(lambda: not processes_with(str(tmp_path)))
    assert "stopped" in log.read_text().splitlines()
