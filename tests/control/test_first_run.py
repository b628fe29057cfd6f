"""The first run writes a configuration that every plane accepts, and secrets that nobody else can read."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from control import firstrun, welcome
from control.bootstrap import FirstRun
from control.firstrun import Files, LocalEngine
from control.settings import load as load_control
from gateway.snapshot.file import load as load_gateway
from tests.processes import eventually, free_port, processes_with
from trainer.settings import load as load_trainer

ENGINE = LocalEngine(Path("/opt/v l'lm/bin/python"), 8101)


def written(tmp_path: Path, engine: LocalEngine | None) -> Files:
    files = Files(tmp_path)
    firstrun.make_secrets(files)
    firstrun.write_private(files.config, firstrun.config_text(files, "127.0.0.1:8000", "127.0.0.1:8080", engine))
    return files


def test_secrets_and_configuration_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    files = written(tmp_path, ENGINE)
    for path in (files.config, files.first_key, files.first_password, files.service_token):
        assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.toml", "first-key", "first-password", "service-token"]


def test_secrets_are_random_made_once_and_not_in_the_configuration(tmp_path: Path) -> None:
    files = written(tmp_path, ENGINE)
    made = firstrun.make_secrets(files)
    assert re.fullmatch(r"sk-tg-[A-Za-z0-9_-]{43}", made["api_key"])
    assert made["api_key"] == files.first_key.read_text().strip()
    assert not any(secret in files.config.read_text() for secret in made.values())
    (tmp_path / "other").mkdir()
    assert not set(firstrun.make_secrets(Files(tmp_path / "other")).values()) & set(made.values())


def test_the_gateway_and_control_accept_it(tmp_path: Path) -> None:
    files = written(tmp_path, ENGINE)
    settings, snapshot = load_gateway(files.config)
    assert (settings.gateway.listen, settings.gateway.data_dir) == ("127.0.0.1:8000", tmp_path / "gateway")
    assert settings.control.url == "http://127.0.0.1:8080"
    assert snapshot.routes == ()
    control = load_control(files.config)
    assert (control.console.listen, control.console.data_dir) == ("127.0.0.1:8080", tmp_path / "control")


def test_the_first_models_have_prices_and_an_engine_if_there_is_one(tmp_path: Path) -> None:
    first = FirstRun.model_validate(firstrun.make_secrets(Files(tmp_path)) | firstrun.served(ENGINE))
    targets = {route.name: route.targets[0].endpoint for route in first.routes}
    assert targets == {"tiny": "local", "alpha": "local", "beta": "local", "dummy": "dummy"}
    assert all(route.price.output > 0 for route in first.routes if route.name != "dummy")
    without = FirstRun.model_validate(firstrun.make_secrets(Files(tmp_path)) | firstrun.served(None))
    assert [route.targets[0].endpoint for route in without.routes] == ["dummy"] * 4


def test_the_trainer_accepts_it_whatever_characters_the_paths_have(tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" 文件夹\\x'
    folder.mkdir()
    (engine,) = load_trainer(written(folder, ENGINE).config).engines
    assert engine.python == ENGINE.python
    assert engine.model == folder / "models/tiny/base"
    assert set(engine.adapters) == {"alpha", "beta"}


def test_without_vllm_there_is_no_engine(tmp_path: Path) -> None:
    assert load_trainer(written(tmp_path, None).config).engines == ()


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


def test_secrets_are_shown_on_the_first_run_only_and_the_lines_to_paste_never_hold_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = written(tmp_path, ENGINE)
    monkeypatch.setattr(welcome, "models", lambda url, key: ["alpha", "dummy", "tiny"])
    first = welcome.welcome("http://127.0.0.1:8000", "http://127.0.0.1:8080", files, [], first=True)
    later = welcome.welcome("http://127.0.0.1:8000", "http://127.0.0.1:8080", files, [], first=False)
    for path in (files.first_key, files.first_password):
        secret = path.read_text().strip()
        assert first.count(secret) == 1
        assert secret not in later
    assert '"model": "alpha"' in later
    assert f"cat {shlex.quote(str(files.first_key))}" in later
    waiting = welcome.welcome("http://127.0.0.1:8000", None, files, ["tiny"], first=False)
    assert "`tiny` does not answer yet" in waiting
    assert '"model": "dummy"' in waiting


def up(data: Path, *options: str) -> list[str]:
    no_vllm = ["--vllm-python", str(data / "nothing/bin/python")]
    console = ["--console", f"127.0.0.1:{free_port()}"]
    return [sys.executable, "-m", "control", "up", "--data", str(data), *no_vllm, *console, *options]


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


def test_an_engine_that_starts_while_mistakes_are_found_ends_with_the_refusal(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import time; time.sleep(99)' \"$@\"")
    python.chmod(0o700)
    (tmp_path / "config.toml").write_text(
        '[gateway]\nlisten = "127.0.0.1:0"\ncolor = 1\n'
        f'[[engine]]\nname = "e"\nmodel = "{tmp_path}"\nport = {free_port()}\npython = "{python}"\n'
    )
    done = subprocess.run(
        up(tmp_path, "--listen", f"127.0.0.1:{free_port()}"), check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "config.toml:3" in done.stdout
    assert not processes_with(str(tmp_path))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_without_vllm_serves_the_dummy_and_stops_without_a_trace(tmp_path: Path, number: signal.Signals) -> None:
    address = f"127.0.0.1:{free_port()}"
    log = tmp_path / "out"
    with log.open("w") as out:
        process = subprocess.Popen(up(tmp_path, "--listen", address), stdout=out, stderr=out)
    try:
        eventually(lambda: "Ctrl-C stops everything" in log.read_text(), 100)
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
