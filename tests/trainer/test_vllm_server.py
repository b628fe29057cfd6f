"""The program that starts vLLM: what the server finds when its turn comes, shown by a package that poses as vLLM."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trainer.engines.vllm import launch
from trainer.settings import Engine

PLATFORMS = """
import os
class {name}Platform:
    device_type = "{kind}"
    @classmethod
    def check_and_update_config(cls, vllm_config):
        vllm_config.update(checked=cls.__name__)
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
current_platform = {name}Platform()
"""
SERVER = """
import gc, os, sys
ENABLED_AT_IMPORT = gc.isenabled()
if __name__ == "__main__":
    import json
    from vllm.entrypoints.openai import api_server
    from vllm.platforms import current_platform
    config = {}
    current_platform.check_and_update_config(config)
    print(json.dumps({
        **config, "argv": sys.argv[1:], "method": os.environ["VLLM_WORKER_MULTIPROC_METHOD"],
        "collected": [api_server.ENABLED_AT_IMPORT, gc.isenabled()], "frozen": gc.get_freeze_count() > 1000,
    }))
"""
TINY = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""As the first `tunegate up` writes it."""


def started(folder: Path, platform: str, env: dict[str, str]) -> dict[str, Any]:
    """What the server says of itself, started with the command of an engine."""
    server = folder / "vllm/entrypoints/openai/api_server.py"
    server.parent.mkdir(parents=True)
    server.write_text(SERVER)
    (folder / "vllm/platforms.py").write_text(PLATFORMS.format(name=platform.title(), kind=platform))
    inherited = {
        name: value for name, value in os.environ.items() if name not in {*TINY, "VLLM_WORKER_MULTIPROC_METHOD"}
    }
    engine = Engine(name="tiny", model=Path("/m"), port=1, python=Path(sys.executable), env=env)
    command = launch(engine, inherited)
    done = subprocess.run(
        command.argv, env={**command.env, "PYTHONPATH": str(folder)}, check=True, capture_output=True, timeout=60
    )
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize(
    ("platform", "env", "method"),
    [
        ("cpu", TINY, "fork"),
        ("cpu", {**TINY, "OMP_NUM_THREADS": "2"}, "spawn"),
        ("cpu", {"OMP_NUM_THREADS": "1"}, "spawn"),
        ("cpu", {**TINY, "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}, "spawn"),
        ("cuda", TINY, "spawn"),
    ],
)
def test_on_a_cpu_with_one_thread_that_is_not_bound_processes_are_copies(
    tmp_path: Path, platform: str, env: dict[str, str], method: str
) -> None:
    said = started(tmp_path, platform, env)
    assert said["method"] == method
    assert said["checked"] == f"{platform.title()}Platform"


def test_the_server_gets_its_arguments_and_the_collector_only_pauses_for_the_import(tmp_path: Path) -> None:
    said = started(tmp_path, "cuda", {})
    assert said["argv"][:4] == ["--model", "/m", "--served-model-name", "tiny"]
    assert said["collected"] == [False, True]
    assert said["frozen"]
