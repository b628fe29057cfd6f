"""`tunegate train`: one job without control, with a bar, that stops with a checkpoint and goes on."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import eventually, processes_with
from tests.trainer.runs import PYTHON, ROOT, dialogues, needs_recipes, preferences, tiny, write_rows
from trainer.progress import Progress
from trainer.train import Wrong, read_spec

SPEC = """
name = "job"
base.id = "tiny/base"
data.train = "rows.jsonl"
lora.r = 8
[training]
max_steps = {steps}
learning_rate = 0.005
precision = "fp32"
max_length = 256
save_every = 50
"""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Path]:
    """A folder with a spec, its rows, and a link to the base model."""
    (tmp_path / "job.toml").write_text(SPEC.format(steps=8))
    write_rows(tmp_path / "rows.jsonl", dialogues("Yes, with pleasure."))
    yield tmp_path
    assert not processes_with(str(tmp_path))


def command(job: Path, *more: str, python: Path = PYTHON) -> list[str]:
    out = ["--out", str(job / "run"), "--python", str(python)]
    return [sys.executable, "-c", "import sys; from control.cli import main; sys.exit(main(sys.argv[1:]))", "train",
            str(job / "job.toml"), *out, *more]  # fmt: skip


def train(job: Path, *more: str, python: Path = PYTHON) -> subprocess.CompletedProcess[str]:
    argv = command(job, *more, python=python)
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)


@needs_recipes
def test_a_job_is_run_to_its_end_and_shown(job: Path) -> None:
    (job / "tiny").symlink_to(tiny())
    with (job / "rows.jsonl").open("a") as rows:
        rows.write('{"neither": "nor"}\n')
    done = train(job)
    assert done.returncode == 0, done.stderr
    assert "24 of 25 rows accepted" in done.stderr
    assert "1 rejected" in done.stderr
    assert "8/8  loss" in done.stderr
    assert f"completed: {job / 'run/adapter'}" in done.stderr
    assert (job / "run/adapter/adapter_model.safetensors").exists()
    again = train(job)
    assert again.returncode == 2
    assert "--resume goes on with it" in again.stderr


@needs_recipes
def test_interrupted_it_stops_with_a_checkpoint_and_goes_on(job: Path) -> None:
    (job / "tiny").symlink_to(tiny())
    (job / "job.toml").write_text(SPEC.format(steps=400))
    main, terminal = pty.openpty()
    process = subprocess.Popen(command(job), cwd=ROOT, stderr=terminal, stdout=terminal, start_new_session=True)
    os.close(terminal)
    events = job / "run/events.jsonl"
    eventually(lambda: process.poll() is not None or (events.exists() and '"step":3,' in events.read_text()), 60)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does at Ctrl-C
    shown = b""
    while piece := read(main):
        shown += piece
    assert process.wait(30) == 3, shown
    assert "█".encode() in shown or "·".encode() in shown
    assert b"stopped after step" in shown
    (job / "job.toml").write_text(SPEC.format(steps=json.loads(events.read_text().splitlines()[-1])["step"] + 2))
    done = train(job, "--resume")
    assert done.returncode == 0, done.stderr
    assert "goes on after step" in done.stderr


def read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so when the other side has closed
        return b""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("\n[lora]\nr = 0", "lora.r: "),
        ('\n[x]\ny = "z"', "x: Extra inputs are not permitted"),
        ("\n[resources]\nnodes = 2", "resources.nodes"),
        ("\n[", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_spec_is_named_with_its_place(tmp_path: Path, change: str, words: str) -> None:
    text = SPEC.format(steps=1).replace("lora.r = 8\n", "")
    (tmp_path / "job.toml").write_text(text + change)
    with pytest.raises(Wrong) as caught:
        read_spec(tmp_path / "job.toml")
    assert words in str(caught.value)


def test_rows_of_another_kind_are_refused_before_anything_is_run(job: Path) -> None:
    write_rows(job / "rows.jsonl", preferences("Yes.", "No."))
    done = train(job, python=Path(sys.executable))
    assert done.returncode == 2
    assert "rows are of kind preference, and lora_sft learns from sft or pretrain" in done.stderr
    assert not (job / "run/launcher.json").exists()


def test_what_cannot_fit_is_refused_with_the_setting_to_change(job: Path) -> None:
    (job / "tiny/base").mkdir(parents=True)
    shape = {
        "hidden_size": 16384, "num_hidden_layers": 126, "intermediate_size": 53248, "num_attention_heads": 128,
        "num_key_value_heads": 8, "vocab_size": 128256,
    }  # fmt: skip
    (job / "tiny/base/config.json").write_text(json.dumps(shape))
    done = train(job, python=Path(sys.executable))
    assert done.returncode == 2
    assert "MiB of the" in done.stderr


def test_without_the_recipes_environment_it_says_what_to_do(job: Path) -> None:
    done = train(job, python=job / "no/python")
    assert done.returncode == 2
    assert "`make install` makes it" in done.stderr


def test_there_is_nothing_to_resume_where_nothing_was_run(job: Path) -> None:
    done = train(job, "--resume", python=Path(sys.executable))
    assert (done.returncode, "no run that could go on" in done.stderr) == (2, True)


def test_a_recipe_that_ends_without_a_word_is_told_of_with_its_log(job: Path) -> None:
    done = train(job, python=Path("/bin/false"))
    assert done.returncode == 1
    assert "ended (status 1) without a word" in done.stderr


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_drawn_over_itself_and_lines_come_above_it(tmp_path: Path) -> None:
    out = Terminal()
    progress = Progress(tmp_path, out)
    lines = [
        {"kind": "started", "total_steps": 4, "first_step": 0, "device": "cpu", "processes": 1, "rows": 2, "tokens": 9,
         "truncated": 0, "parameters": 100, "trainable": 5},
        {"kind": "metrics", "step": 2, "values": {"loss": 1.5}},
        {"kind": "sample", "step": 2, "prompt": "Hi", "text": "Yes"},
    ]  # fmt: skip
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "met')
    progress.look()
    shown = out.getvalue()
    assert "5 weights learn (5 %)" in shown
    assert "\r\x1b[K[███████████████···············] 2/4  loss 1.5000  0:00 left" in shown
    assert shown.endswith("\r\x1b[K  'Hi' → 'Yes'\n")
    assert progress.finished is None
