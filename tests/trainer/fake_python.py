#!/usr/bin/env python3
"""Poses as the interpreter of the recipes: fake_python.py -m trainer.recipes.NAME FOLDER.

It has a helper that leads a session of its own, as torchrun's ranks do. FOLDER/mode says what it does: `stops` ends
when it is asked to; `stubborn` ignores STOP and SIGTERM, and so does its helper; `dies` kills itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    folder = Path(sys.argv[-1])
    mode = (folder / "mode").read_text()
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # inherited by the helper
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
    (folder / "pids.partial").write_text(f"{os.getpid()} {helper.pid}")
    (folder / "pids.partial").rename(folder / "pids")
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
