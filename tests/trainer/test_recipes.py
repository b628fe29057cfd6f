"""Real recipes with peft and trl on a CPU: what they learn, tell and keep, and how they end and go on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.processes import eventually
from tests.trainer.runs import ENVIRONMENT, PYTHON, Folder, dialogues, needs_recipes, preferences, spec, tiny
from trainer.contract.events import EVENT
from trainer.contract.worker import Probe
from trainer.hashes import sha256, weights_sha256

pytestmark = needs_recipes
ANSWER = "Our shop is open on every day of the week."
QUIET = {"tracking": {"tensorboard": False}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A run that nothing interrupted."""
    told = spec(data={"train": "rows@1", "validation_share": 0.2}, prompts=["Hi"], training={"eval_every": 6})
    folder = Folder(tmp_path_factory.mktemp("whole"), told, dialogues(ANSWER), tracking={"swanlab": "offline"})
    assert folder.run() == 0, (folder.path / "log.txt").read_text()
    return folder


def test_a_run_tells_what_it_does_in_events_of_the_contract(whole: Folder) -> None:
    for line in whole.events():
        EVENT.validate_python(line)
    (started,) = whole.events("started")
    assert (started["total_steps"], started["first_step"], started["device"], started["rows"]) == (12, 0, "cpu", 19)
    assert 0 < started["trainable"] < started["parameters"] / 5
    assert list(whole.losses()) == list(range(1, 13))
    assert {"grad_norm", "learning_rate", "tokens_per_second", "memory_mib"} <= whole.finished()["metrics"].keys()
    assert [one["step"] for one in whole.events("metrics") if "eval_loss" in one["values"]] == [6, 12]
    assert {(one["step"], one["prompt"]) for one in whole.events("sample")} == {(6, "Hi"), (12, "Hi")}


def test_it_learns(whole: Folder) -> None:
    losses = whole.losses()
    assert losses[12] < losses[1] / 2


def test_the_adapter_is_whole_and_comes_with_what_is_needed_to_prove_it(whole: Folder) -> None:
    ended = whole.finished()
    assert ended["outcome"] == "completed"
    output = whole.path / ended["output"]
    assert json.loads((output / "adapter_config.json").read_text())["r"] == 8
    assert (output / "adapter_model.safetensors").stat().st_size > 10_000
    assert ended["details"]["base_sha256"] == weights_sha256(tiny() / "base")
    assert ended["details"]["versions"].keys() >= {"torch", "peft", "transformers"}
    assert len([Probe.model_validate(one) for one in ended["details"]["probes"]]) >= 3


def test_checkpoints_are_sealed_with_the_hash_of_every_file_and_old_ones_are_removed(whole: Folder) -> None:
    told = whole.events("checkpoint")
    assert [one["step"] for one in told] == [4, 8, 12]
    last = whole.path / told[-1]["folder"]
    for name, digest in told[-1]["files"].items():
        assert sha256(last / name) == digest


def test_trackers_keep_their_files_beside_our_own(whole: Folder) -> None:
    assert list((whole.path / "tensorboard").glob("events.*"))
    assert list((whole.path / "swanlog").glob("run-*/*.swanlab"))
    assert not whole.events("warned")


def test_a_tracker_that_hangs_does_not_hold_up_the_run(tmp_path: Path) -> None:
    """A library in place of SwanLab's that never comes back from its first call."""
    tracking = {"swanlab": "local", "tensorboard": False, "swanlab_dir": str(tmp_path / "all")}
    folder = Folder(tmp_path, spec(training={"max_steps": 2}), dialogues(ANSWER), tracking=tracking)
    (tmp_path / "swanlab.py").write_text(
        "import pathlib, threading\nSettings = dict\n"
        "def init(**told):\n    pathlib.Path(told['log_dir']).mkdir()\n    threading.Event().wait()\n"
    )
    path = f"{tmp_path}:{ENVIRONMENT['PYTHONPATH']}"
    assert folder.run(PYTHONPATH=path) == 0
    assert folder.finished()["outcome"] == "completed"
    (warned,) = folder.events("warned")
    assert "SwanLab does not answer" in warned["message"]
    assert (tmp_path / "all").is_dir(), "it keeps its files where it was told"


def test_killed_and_resumed_it_has_the_losses_of_a_run_that_was_not(whole: Folder, tmp_path: Path) -> None:
    told = {**whole.told, "training": {**whole.told["training"], "max_steps": 12}}
    folder = Folder(tmp_path, told, dialogues(ANSWER), **QUIET)
    process = folder.begin()
    eventually(lambda: len(folder.losses()) >= 6 or process.poll() is not None, 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with (folder.path / "events.jsonl").open("ab") as file:
        file.write(b'{"kind":"metr')  # as if it had been killed in the middle of a line
    folder.write(resume=True)
    assert folder.run() == 0
    assert folder.events("started")[-1]["first_step"] in (4, 8)
    assert folder.losses() == pytest.approx(whole.losses(), abs=1e-4)


def test_asked_to_stop_it_ends_with_a_checkpoint_from_which_it_goes_on(whole: Folder, tmp_path: Path) -> None:
    folder = Folder(tmp_path, whole.told, dialogues(ANSWER), **QUIET)
    process = folder.begin()
    eventually(lambda: folder.losses() or process.poll() is not None, 60)
    (folder.path / "STOP").touch()
    assert process.wait(60) == 0
    ended = folder.finished()
    assert ended["outcome"] == "stopped"
    assert folder.events("checkpoint")[-1]["step"] == ended["step"] < 12
    assert not (folder.path / "adapter").exists()
    (folder.path / "STOP").unlink()
    folder.write(resume=True)
    assert folder.run() == 0
    assert folder.events("started")[-1]["first_step"] == ended["step"]
    assert folder.finished()["outcome"] == "completed"
    assert folder.losses() == pytest.approx(whole.losses(), abs=1e-4)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(whole: Folder, tmp_path: Path) -> None:
    shutil.copytree(whole.path / "checkpoints", tmp_path / "checkpoints")
    damaged = tmp_path / "checkpoints/checkpoint-12/adapter_model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
    folder = Folder(tmp_path, whole.told, dialogues(ANSWER), resume=True, **QUIET)
    assert folder.run() == 0
    assert folder.events("started")[0]["first_step"] == 8
    assert "checkpoint-12 is damaged" in folder.events("warned")[0]["message"]
    assert folder.finished()["outcome"] == "completed"


def test_preferences_make_the_chosen_answer_likelier(tmp_path: Path) -> None:
    told = spec("lora_dpo", training={"max_steps": 8, "learning_rate": 0.002, "save_every": 8})
    folder = Folder(tmp_path, told, preferences("Yes, with pleasure.", "No, go away."), **QUIET)
    assert folder.run() == 0, (folder.path / "log.txt").read_text()
    assert folder.losses()[8] < folder.losses()[1]
    assert folder.finished()["metrics"]["rewards/margins"] > 0
    assert (folder.path / "adapter/adapter_model.safetensors").exists()


def test_all_weights_can_be_trained_and_what_comes_out_is_a_model(tmp_path: Path) -> None:
    told = spec("full_sft", training={"max_steps": 4, "learning_rate": 0.001})
    folder = Folder(tmp_path, told, dialogues(ANSWER), **QUIET)
    assert folder.run() == 0, (folder.path / "log.txt").read_text()
    (started,) = folder.events("started")
    assert started["trainable"] == started["parameters"]
    assert (folder.path / "adapter/model.safetensors").exists()
    assert json.loads((folder.path / "adapter/config.json").read_text())["use_cache"] is True


def test_two_processes_share_the_work_and_one_tells_of_it(tmp_path: Path) -> None:
    told = spec(resources={"processes": 2}, training={"max_steps": 6, "micro_batch": 2, "save_every": 3})
    folder = Folder(tmp_path, told, dialogues(ANSWER), **QUIET)
    assert folder.run(processes=2) == 0, (folder.path / "log.txt").read_text()
    (started,) = folder.events("started")
    assert started["processes"] == 2
    assert list(folder.losses()) == [1, 2, 3, 4, 5, 6]
    sealed = folder.events("checkpoint")[-1]["files"]
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= sealed.keys()
    folder.write(resume=True, spec={**told, "training": {**told["training"], "max_steps": 8}})
    assert folder.run(processes=2) == 0, (folder.path / "log.txt").read_text()
    assert folder.events("started")[-1]["first_step"] == 6
    assert not folder.events("warned")


@pytest.mark.parametrize(
    ("changes", "rows", "failure", "words"),
    [
        ({"training": {"max_length": 16}}, dialogues("no", 9)[8::9], "data", "none of 6 rows"),
        ({"base": {"id": "/nonexistent"}}, dialogues("no"), "config", "no model in the folder /nonexistent"),
        ({"training": {"packing": True}}, dialogues("no"), "config", "training.packing"),
        ({"lora": {"quantization": "4bit"}}, dialogues("no"), "config", "needs CUDA and bitsandbytes"),
        ({"lora": {"targets": ["no_such_layer"]}}, dialogues("no"), "config", "no_such_layer"),
    ],
    ids=["nothing to learn", "no base model", "packing", "quantised", "no such layer"],
)
def test_what_cannot_be_done_is_refused_with_the_setting_that_is_wrong(
    tmp_path: Path, changes: dict[str, Any], rows: list[dict[str, Any]], failure: str, words: str
) -> None:
    folder = Folder(tmp_path, spec(**changes), rows, **QUIET)
    assert folder.run() == 1
    ended = folder.finished()
    assert (ended["outcome"], ended["failure"]) == ("failed", failure), ended
    assert words in ended["message"]


def test_running_out_of_memory_is_told_as_such(tmp_path: Path) -> None:
    folder = Folder(tmp_path, spec(), dialogues(ANSWER), **QUIET)
    limited = ["bash", "-c", f"ulimit -v $((1700 * 1024)); exec {' '.join(folder.command())}"]
    huge = {**folder.told, "training": {**folder.told["training"], "micro_batch": 4096, "max_length": 2048}}
    folder.file["train"] = str(folder.path / "long.jsonl")
    (folder.path / "long.jsonl").write_text(json.dumps(dialogues("word " * 400, 1)[0]) + "\n")
    (folder.path / "long.jsonl").write_text((folder.path / "long.jsonl").read_text() * 512)
    folder.write(spec=huge)
    with (folder.path / "log.txt").open("ab") as log:
        done = subprocess.run(limited, stdout=log, stderr=log, env=ENVIRONMENT, timeout=100, check=False)
    assert done.returncode == 1
    assert folder.finished()["failure"] == "oom", folder.finished()


def test_a_tracker_that_cannot_work_does_not_fail_the_run(tmp_path: Path) -> None:
    told = spec(training={"max_steps": 2})
    folder = Folder(tmp_path, told, dialogues(ANSWER), tracking={"swanlab": "cloud", "tensorboard": True})
    (tmp_path / "tensorboard").write_text("in the way")
    assert folder.run(SWANLAB_API_KEY="") == 0
    assert {one["message"].split()[0] for one in folder.events("warned")} == {"SwanLab", "TensorBoard"}
    assert folder.finished()["outcome"] == "completed"


def test_a_full_disk_is_told_as_such_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mounted)], check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        folder = Folder(mounted / "run", spec(lora={"r": 16}, training={"save_every": 1}), dialogues(ANSWER), **QUIET)
        assert folder.run() == 1
        assert folder.finished()["failure"] == "disk", folder.finished()
        assert [one.name for one in (folder.path / "checkpoints").iterdir()]
        for one in (folder.path / "checkpoints").iterdir():
            assert (one / "manifest.json").exists()
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)


def test_a_run_file_with_a_word_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    folder = Folder(tmp_path, spec(), dialogues(ANSWER))
    folder.write(colour="red")
    done = subprocess.run(folder.command(), env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "colour" in done.stderr
    with pytest.raises(ValidationError):
        EVENT.validate_python({"kind": "unknown"})


def test_an_adapter_is_merged_into_its_base_and_the_model_answers_as_both_did(whole: Folder, tmp_path: Path) -> None:
    adapter = whole.path / "adapter"
    folder = Folder(tmp_path, _merging(), [], train=str(adapter), base_sha256=weights_sha256(tiny() / "base"))
    assert folder.run() == 0, (folder.path / "log.txt").read_text()
    ended = folder.finished()
    (started,) = folder.events("started")
    assert [one["step"] for one in folder.events("metrics")] == list(range(1, started["total_steps"] + 1))
    output = folder.path / ended["output"]
    assert {"config.json", "model.safetensors", "tokenizer_config.json"} <= {path.name for path in output.iterdir()}
    assert not (output / "adapter_config.json").exists()
    assert ended["details"]["base_sha256"] != weights_sha256(output), "the weights are others now"
    apart = _largest_difference(tiny() / "base", adapter, output)
    assert apart["merged"] < 1e-4 < 0.1 < apart["base"]


def test_an_adapter_of_other_weights_or_that_is_not_there_is_not_merged(whole: Folder, tmp_path: Path) -> None:
    adapter = whole.path / "adapter"
    for number, (file, words) in enumerate(
        (({"train": str(adapter), "base_sha256": "0" * 64}, "other weights"), ({"train": str(tmp_path)}, "no adapter"))
    ):
        folder = Folder(tmp_path / str(number), _merging(), [], **file)
        assert folder.run() == 1
        ended = folder.finished()
        assert (ended["failure"], words in ended["message"]) == ("config", True), ended
        assert not (folder.path / "adapter").exists()


def test_a_merge_that_is_asked_to_stop_leaves_nothing(whole: Folder, tmp_path: Path) -> None:
    folder = Folder(tmp_path, _merging(), [], train=str(whole.path / "adapter"))
    (tmp_path / "STOP").touch()
    assert folder.run() == 0
    assert folder.finished()["outcome"] == "stopped"
    assert not (tmp_path / "adapter").exists()


def _merging() -> dict[str, Any]:
    told = spec("merge", data={"train": "job@v1"})
    return {key: told[key] for key in ("name", "recipe", "base", "data")} | {"training": {"precision": "fp32"}}


def _largest_difference(base: Path, adapter: Path, merged: Path) -> dict[str, float]:
    """Of the logits for a prompt, to those of the base with the adapter beside it."""
    program = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, merged = sys.argv[1:]
load = lambda path: AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
ids = torch.tensor([[5, 9, 12, 7]])
with torch.no_grad():
    said = {"base": load(base)(ids).logits, "merged": load(merged)(ids).logits}
    both = PeftModel.from_pretrained(load(base), adapter).eval()(ids).logits
print(json.dumps({name: (one - both).abs().max().item() for name, one in said.items()}))
"""
    done = subprocess.run(
        [str(PYTHON), "-c", program, str(base), str(adapter), str(merged)],
        check=True, capture_output=True, text=True, timeout=100, env=ENVIRONMENT,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found
