"""Runs of real recipes on the tiny model: their folder, and what they tell."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-train/bin/python"
needs_recipes = pytest.mark.skipif(
    not PYTHON.exists() and os.environ.get("REQUIRE_TRAIN") != "1", reason="make install fills .venv-train"
)

QUESTIONS = ["Hi", "Who are you?", "What is two plus two?", "Where is my order?", "你好", "Can I return it?"]
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": os.environ.get("HOME", "/"),
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


@functools.cache
def tiny() -> Path:
    """Folder with `base`, `alpha` and `beta`; made once a test run."""
    kept = tempfile.TemporaryDirectory(prefix="tunegate-tiny-")
    _KEPT.append(kept)
    out = Path(kept.name) / "tiny"
    command = [str(PYTHON), "-W", "ignore", str(ROOT / "trainer/recipes/tiny_model.py"), str(out)]
    subprocess.run(command, check=True, env=ENVIRONMENT, timeout=280)
    return out


_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # removed at the end of the process


def dialogues(answer: str, copies: int = 4) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"{question}{' please' * n}"},
                {"role": "assistant", "content": answer},
            ]
        }
        for question in QUESTIONS
        for n in range(copies)
    ]


def preferences(chosen: str, rejected: str) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "user", "content": question}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }
        for question in QUESTIONS * 2
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def spec(recipe: str = "lora_sft", **changes: Any) -> dict[str, Any]:
    """A small job: 24 rows, 8 a step."""
    training = {
        "learning_rate": 0.005, "micro_batch": 4, "accumulation": 2, "max_steps": 12, "max_length": 256,
        "precision": "fp32", "save_every": 4, **changes.pop("training", {}),
    }  # fmt: skip
    return {
        "name": "job", "recipe": recipe, "base": {"id": str(tiny() / "base")}, "data": {"train": "rows@1"},
        "lora": {"r": 8, "alpha": 16, **changes.pop("lora", {})}, "training": training, **changes,
    }  # fmt: skip


class Folder:
    """A run's folder, made as a worker makes it."""

    def __init__(
        self, path: Path, told: dict[str, Any], rows: list[dict[str, Any]], python: Path = PYTHON, **file: Any
    ) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path, self.told, self._python = path, told, str(python)
        self.file = {"spec": told, "train": str(write_rows(path / "rows.jsonl", rows)), **file}
        self.write()

    def write(self, **changes: Any) -> None:
        self.file.update(changes)
        (self.path / "run.json").write_text(json.dumps(self.file), encoding="utf-8")

    def command(self, processes: int = 1) -> list[str]:
        recipe = ["-m", f"trainer.recipes.{self.told['recipe']}", str(self.path)]
        if processes == 1:
            return [self._python, *recipe]
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        return [self._python, *launch, *recipe]

    def run(self, processes: int = 1, **environment: str) -> int:
        """Run to the end; the exit status. The output is in log.txt."""
        with (self.path / "log.txt").open("ab") as log:
            done = subprocess.run(
                self.command(processes), check=False, stdout=log, stderr=log, timeout=110, env=ENVIRONMENT | environment
            )
        return done.returncode

    def begin(self) -> subprocess.Popen[bytes]:
        with (self.path / "log.txt").open("ab") as log:
            return subprocess.Popen(self.command(), stdout=log, stderr=log, env=ENVIRONMENT)

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Whole lines so far."""
        file = self.path / "events.jsonl"
        lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
        told = [json.loads(line) for line in lines]
        return [one for one in told if kind is None or one["kind"] == kind]

    def losses(self) -> dict[int, float]:
        """Loss by step; of a step that came twice the later one."""
        return {one["step"]: one["values"]["loss"] for one in self.events("metrics") if "loss" in one["values"]}

    def finished(self) -> dict[str, Any]:
        last = self.events()[-1]
        assert last["kind"] == "finished", (self.path / "log.txt").read_text(encoding="utf-8")[-3000:]
        return last
