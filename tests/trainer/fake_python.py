#!/usr/bin/env python3
"""Poses as the interpreter of the recipes: fake_python.py -m trainer.recipes.NAME FOLDER.

It has a helper that leads a session of its own, as torchrun's ranks do. FOLDER/mode says what it does: `stops` ends
when it is asked to; `stubborn` ignores STOP and SIGTERM, and so does its helper; `dies` kills itself; `learns N`
tells of N steps and has an adapter, `learns plainly N` one without a name that control refuses; `waits` does so when
there is a file GO, or ends before with a checkpoint when asked to. The mode is that of FOLDER/mode, or the first word
of the base model's id in run.json.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def learn(folder: Path, mode: str) -> int:
    first = (
        int((folder / "checkpoints/step").read_text()) if json.loads((folder / "run.json").read_text())["resume"] else 0
    )
    with (folder / "events.jsonl").open("a", buffering=1) as events:

        def tell(**event: object) -> None:
            events.write(json.dumps({"at": time.time(), **event}) + "\n")

        tell(kind="started", total_steps=int(mode.rsplit(maxsplit=1)[-1]), first_step=first, device="cpu")
        while mode.startswith("waits") and not (folder.parent / "GO").exists():
            if (folder / "STOP").exists():
                (folder / "checkpoints/step").write_text("3")
                tell(kind="finished", outcome="stopped", step=3)
                return 0
            time.sleep(0.02)
        for step in range(first + 1, int(mode.rsplit(maxsplit=1)[-1]) + 1):
            tell(kind="metrics", step=step, values={"loss": 1 / step})
        tell(kind="phase", name="keep")
        (folder / "adapter/deep").mkdir(parents=True)
        (folder / "adapter/adapter_model.safetensors").write_bytes(b"weights")
        (folder / "adapter/deep" / ("more.txt" if "plainly" in mode else "a b.txt")).write_bytes(b"more")
        tell(kind="finished", outcome="completed", step=1, output="adapter")
    return 0


def main() -> int:
    folder = Path(sys.argv[-1])
    given = folder / "mode"
    mode = given.read_text() if given.exists() else json.loads((folder / "run.json").read_text())["spec"]["base"]["id"]
    if mode.startswith(("learns", "waits")):
        print("learning", flush=True)
        return learn(folder, mode)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # inherited by the helper
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
    partial = folder / f"pids.{os.getpid()}.partial"  # of this node alone
    partial.write_text(f"{os.getpid()} {helper.pid}")
    partial.rename(folder / "pids")
    print("arguments:", *sys.argv[1:], flush=True)
    print("code:", os.environ["PYTHONPATH"], "secret:", os.environ.get("TUNEGATE_SECRET"), flush=True)
    if mode == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    while mode == "stubborn" or not (folder / "STOP").exists():
        time.sleep(0.02)
    helper.kill()
    return 7


if __name__ == "__main__":
    sys.exit(main())
