"""Engine tables are read from config.toml, and every mistake is named with its place."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from trainer.settings import Engine, ExternalEngine, SettingsError, Tracking, WorkerTable, load

OUTSIDE = '[[external_engine]]\nname = "b"\nmodel = "/m"\n'
GOOD = '[[engine]]\nname = "a"\nmodel = "/m"\nport = 1\n'


def mistakes(tmp_path: Path, text: str) -> str:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file)
    return str(caught.value).replace(str(file), "FILE")


def test_tables_of_the_other_planes_are_not_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[gateway]\nlisten = "x"\n' + GOOD)
    (engine,) = load(file).engines
    assert engine.base_name == "a"
    assert engine.log_file == Path("var/logs/engine-a.log")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[engine]]\nname = 1", "FILE: [[engine]] 1: model: Field required"),
        (GOOD + "color = 3", "FILE: [[engine]] 1: color: Extra inputs are not permitted"),
        (GOOD + GOOD, "two engines have the name a"),
        (GOOD + GOOD.replace('"a"', '"b"'), "two engines have the address http://127.0.0.1:1"),
        (GOOD + 'adapters = { a = "/x" }', "adapter 'a' has the same name as the base model"),
        (GOOD + 'adapters = { "x=y" = "/x" }', "adapters: x=y"),
        (GOOD + "max_loras = 3\nmax_cpu_loras = 2", "max_cpu_loras: 3 slots need"),
        (GOOD + 'kind = "ollama"', "[[engine]] 1: kind"),
        (GOOD + OUTSIDE.replace('"b"', '"a"') + 'url = "http://x"', "two engines have the name a"),
        (OUTSIDE + 'url = "ftp://x"\n', "[[external_engine]] 1: url"),
        (OUTSIDE + 'url = "http://user:word@x"\n', "[[external_engine]] 1: url"),
        (GOOD + OUTSIDE + 'url = "http://127.0.0.1:1/v1/"\n', "two engines have the address http://127.0.0.1:1"),
        ("[[engine]", "FILE: not valid TOML"),
        ('[trainer]\nrunner = "cloud"', "FILE: [trainer]: runner: Input should be 'local', 'ray' or 'slurm'"),
        ('[trainer.ray]\naddress = "ray://head:10001"', "FILE: [trainer]: ray: address: "),
        ('[trainer.tracking]\nswanlab_url = "javascript:alert(1)"', "FILE: [trainer]: tracking: swanlab_url: "),
        ("[trainer.ray]\nlease = 0", "FILE: [trainer]: ray: lease: "),
        ("engine = 3", "FILE: [[engine]]"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    assert said in mistakes(tmp_path, text)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SettingsError, match=r"/nonexistent: No such file or directory"):
        load(Path("/nonexistent"))


def test_the_example_configuration_names_every_setting_with_its_default() -> None:
    text = Path("config.example.toml").read_text(encoding="utf-8")
    commented = text[text.index("# ---- Engines") : text.index("# ---- Engines that others run")].splitlines()
    (example,) = tomllib.loads("\n".join(line.removeprefix("# ") for line in commented if "=" in line or "[[" in line))[
        "engine"
    ]
    engine = Engine.model_validate(example)
    assert set(example) == set(Engine.model_fields)
    for name in ("kind", "host", "dtype", "max_lora_rank", "start_timeout", "log_dir", "python"):
        assert getattr(engine, name) == Engine.model_fields[name].default, name


def test_the_example_of_an_external_engine_names_every_setting_with_its_default() -> None:
    text = Path("config.example.toml").read_text(encoding="utf-8")
    commented = text[text.index("# [[external_engine]]") : text.index("# ---- Training jobs")].splitlines()
    (example,) = tomllib.loads("\n".join(line.removeprefix("# ") for line in commented))["external_engine"]
    engine = ExternalEngine.model_validate(example)
    assert set(example) == set(ExternalEngine.model_fields)
    for name in ("published_adapters", "max_lora_rank"):
        assert getattr(engine, name) == ExternalEngine.model_fields[name].default, name


def test_the_command_refuses_a_file_without_engines(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    command = [sys.executable, "-m", "trainer", "--config", str(tmp_path / "config.toml")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "neither [[engine]] tables nor [control] url" in done.stderr


def test_a_token_of_the_cluster_that_is_not_there_is_named_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        GOOD + '[trainer]\nrunner = "ray"\nray = { token = "env:NOT_SET_ANYWHERE" }\n'
    )
    command = [sys.executable, "-m", "trainer", "--config", str(tmp_path / "config.toml")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "[trainer.ray] token: write env:NAME or file:PATH" in done.stderr) == (2, True), (
        done.stderr
    )


def test_there_is_a_link_to_swanlab_where_it_has_pages(tmp_path: Path) -> None:
    def dashboard(mode: str) -> str:
        told = {"swanlab": mode, "swanlab_url": "http://lab:5092", "swanlab_dir": "swanlog"}
        tracking = Tracking.model_validate(told)
        assert tracking.told()["swanlab_dir"] == str(Path("swanlog").absolute())
        return WorkerTable(python=tmp_path / "bin/python", tracking=tracking).dashboard

    assert [dashboard(mode) for mode in ("disabled", "offline", "local")] == ["", "", ""]
    assert dashboard("self-hosted") == "http://lab:5092"
    (tmp_path / "lib/python3.11/site-packages/swanboard").mkdir(parents=True)
    assert [dashboard(mode) for mode in ("disabled", "offline", "local")] == ["", "", "http://lab:5092"]
    assert WorkerTable(tracking=Tracking(swanlab="cloud")).dashboard == ""
