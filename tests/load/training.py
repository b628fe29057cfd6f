"""What a job costs beside the script that one would write: `python -m tests.load.training`, or `make bench-training`.

Both learn the same rows with the same seed, in turn, on this machine. Written to `docs/bench/training.md`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from tests.trainer.runs import ENVIRONMENT, PYTHON, tiny

OUT = Path("docs/bench/training.md")
PLAIN = Path(__file__).with_name("plain_training.py")
ANSWER = "Your order has left the warehouse and arrives within two days, unless it rains in the mountains. " * 6
STEPS = 40
BUDGET = 0.98
"""Least speed of a job, as a part of the script's."""


def prepare(folder: Path) -> None:
    """A run's folder with 96 rows of about 250 tokens."""
    rows = [
        {"messages": [{"role": "user", "content": f"Where is order {n}?"}, {"role": "assistant", "content": ANSWER}]}
        for n in range(96)
    ]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {
        "name": "bench", "base": {"id": str(tiny() / "base")}, "data": {"train": "rows@1"},
        "lora": {"r": 8, "alpha": 16},
        "training": {
            "max_steps": STEPS, "micro_batch": 4, "accumulation": 2, "learning_rate": 0.001, "precision": "fp32",
            "max_length": 2048, "save_every": 1000, "seed": 7,
        },
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps({"spec": spec, "train": str(data)}))


def job(folder: Path) -> dict[str, float]:
    """Seconds of the steps of a job, by its own events, and its final loss."""
    _run([str(PYTHON), "-W", "ignore", "-m", "trainer.recipes.lora_sft", str(folder)])
    events: list[dict[str, Any]] = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["kind"] == "metrics" and "loss" in event["values"]]
    assert len(steps) == STEPS, f"{len(steps)} steps were told of"
    return {"seconds": steps[-1]["at"] - events[0]["at"], "loss": steps[-1]["values"]["loss"]}


def script(folder: Path) -> dict[str, float]:
    """The same of the plain script."""
    found: dict[str, float] = json.loads(_run([str(PYTHON), "-W", "ignore", str(PLAIN), str(folder)]).splitlines()[-1])
    return found


def _run(command: list[str]) -> str:
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": "2"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=300).stdout


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    pairs = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            for folder in (one, other):
                prepare(Path(folder))
            turns = [lambda one=one: job(Path(one)), lambda other=other: script(Path(other))]
            found = [turn() for turn in (turns if number % 2 else reversed(turns))]
            ours, plain = found if number % 2 else reversed(found)
            pairs.append((ours, plain))
            print(f"round {number + 1}: job {ours['seconds']:.2f} s, script {plain['seconds']:.2f} s", flush=True)
    ratio = median(plain["seconds"] / ours["seconds"] for ours, plain in pairs)
    apart = max(abs(plain["loss"] - ours["loss"]) for ours, plain in pairs)
    kept = ratio >= BUDGET and apart == 0
    lines = [
        "# A job beside the script that one would write", "",
        f"`make bench-training` on {datetime.now(UTC):%Y-%m-%d}: {STEPS} steps of LoRA on the tiny model, CPU, the "
        f"same rows and seed; {options.rounds} rounds in turn. The script is `tests/load/plain_training.py`: "
        f"transformers and peft alone. Budget: at least {BUDGET} of its speed, and the same final loss.", "",
        "| round | job s | script s | speed | final loss of both |", "|--:|--:|--:|--:|--:|",
        *(
            f"| {number} | {ours['seconds']:.2f} | {plain['seconds']:.2f} | {plain['seconds'] / ours['seconds']:.3f} | "
            f"{ours['loss']:.6f} / {plain['loss']:.6f} |"
            for number, (ours, plain) in enumerate(pairs, 1)
        ), "",
        f"Median speed of the job: {ratio:.3f} of the script's. Largest difference of the final loss: {apart:g}. "
        f"{'Kept' if kept else 'Missed'}.",
    ]  # fmt: skip
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[4:]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
