"""An engine table becomes exactly this command line and this environment."""

from __future__ import annotations

from pathlib import Path

import trainer
from trainer.engines.vllm import launch
from trainer.settings import Engine

SERVER = Path(trainer.__file__).parent / "launchers/vllm_server.py"
ENGINE = Engine(
    name="tiny",
    model=Path("/models/tiny/base"),
    adapters={"alpha": Path("/models/tiny/alpha"), "beta": Path("/models/tiny/beta"), "c": Path("/c")},
    port=8101,
    dtype="float32",
    max_model_len=1024,
    max_num_seqs=16,
    kv_cache_bytes=67_108_864,
    max_lora_rank=8,
    python=Path("/venv/bin/python"),
    env={"OMP_NUM_THREADS": "1"},
)


def arguments_of(engine: Engine) -> str:
    return " ".join(launch(engine, {}).argv)


def test_every_setting_reaches_its_flag() -> None:
    assert arguments_of(ENGINE) == (
        f"/venv/bin/python {SERVER}"
        " --model /models/tiny/base --served-model-name tiny --host 127.0.0.1 --port 8101 --dtype float32"
        " --disable-access-log-for-endpoints /health,/metrics"
        " --max-model-len 1024 --max-num-seqs 16 --kv-cache-memory-bytes 67108864"
        " --enable-lora --max-loras 4 --max-cpu-loras 4 --max-lora-rank 8"
        " --lora-modules alpha=/models/tiny/alpha beta=/models/tiny/beta c=/c"
    )


def test_what_is_not_set_is_left_to_the_engine() -> None:
    plain = arguments_of(Engine(name="big", model=Path("/models/big"), port=1, python=Path("/p")))
    assert plain == (
        f"/p {SERVER} --model /models/big --served-model-name big"
        " --host 127.0.0.1 --port 1 --dtype auto --disable-access-log-for-endpoints /health,/metrics"
    )


def test_fewer_slots_than_adapters_are_possible_and_the_others_wait_in_memory() -> None:
    few = arguments_of(ENGINE.model_copy(update={"max_loras": 2}))
    assert " --max-loras 2 --max-cpu-loras 3 " in few
    fewer = arguments_of(ENGINE.model_copy(update={"max_loras": 1, "max_cpu_loras": 2}))
    assert " --max-loras 1 --max-cpu-loras 2 " in fewer


def test_a_value_with_spaces_or_quotes_stays_one_argument() -> None:
    odd = ENGINE.model_copy(update={"model": Path("/my models/a'b; rm -rf")})
    assert "/my models/a'b; rm -rf" in launch(odd, {}).argv


def test_relative_paths_are_made_absolute_and_the_environments_link_is_kept() -> None:
    argv = launch(ENGINE.model_copy(update={"python": Path(".venv-vllm/bin/python")}), {}).argv
    assert argv[0] == str(Path.cwd() / ".venv-vllm/bin/python")


def test_the_engine_inherits_the_environment_but_no_secret_of_the_other_planes() -> None:
    inherited = {"PATH": "/bin", "TUNEGATE_CI_KEY": "secret", "PYTHONPATH": "/x", "OMP_NUM_THREADS": "9"}
    env = launch(ENGINE, inherited).env
    assert env["PATH"] == "/bin"
    assert "secret" not in env.values()
    assert "PYTHONPATH" not in env
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["OMP_NUM_THREADS"] == "1"
