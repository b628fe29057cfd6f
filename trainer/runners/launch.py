"""`python -m trainer.runners.launch FOLDER ARGV…`: runs a recipe, its output in FOLDER/log.txt, and writes down in
FOLDER/exit.json how it ended, whether anybody is there to hear of it or not.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run until the recipe has ended."""
    folder, argv = Path(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is the recipe that ends; this one tells of it
    environment = {**os.environ, "PYTHONPATH": os.environ["TUNEGATE_RUN_PATH"]}
    with (folder / "log.txt").open("ab") as log:
        try:
            status = subprocess.Popen(
                argv, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - there are no threads here
            ).wait()  # fmt: skip
        except OSError as exc:
            log.write(f"{argv[0]}: {exc.strerror}\n".encode())
            status = 127
    partial = folder / "exit.json.partial"
    partial.write_text(json.dumps({"status": status}), encoding="utf-8")
    partial.replace(folder / "exit.json")
    return 0


def _end_with_parent() -> None:
    """In the new process: end when the launcher does."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
