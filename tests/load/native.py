"""The two C programs: compiled on first use, run on the harness's core, answers read as JSON."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCES = ("net.h", "samples.h", "upstream.c", "loadgen.c")
KEY = "sk-bench-3f9c1d7a5e2b4860"
LONGEST = 3600
"""Seconds after which an upstream ends, whatever happened to the benchmark."""


def compile_tools(cache: Path) -> dict[str, Path]:
    """Compile upstream and loadgen, named by a digest of their sources: an old binary is never used."""
    digest = sha256(b"".join((HERE / name).read_bytes() for name in SOURCES)).hexdigest()[:12]
    tools = {}
    for name in ("upstream", "loadgen"):
        target = cache / f"{name}-{digest}"
        if not target.exists():
            command = [
                "gcc",
                "-O2",
                "-Wall",
                "-Wno-format-truncation",
                "-o",
                str(target),
                str(HERE / f"{name}.c"),
            ]
            subprocess.run(command, check=True)
        tools[name] = target
    return tools


def pinned(command: Sequence[str], core: int) -> list[str]:
    """The command on one core, told to end when the benchmark does, even if that is killed."""
    guard = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    return [*guard, "taskset", "-c", str(core), *command]


@contextmanager
def upstream(tool: Path, core: int) -> Iterator[tuple[int, int]]:
    """Run the scripted upstream; gives its process id and its port."""
    command = pinned([str(tool), "0", "10", "0", str(LONGEST)], core)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


def load_command(
    tool: Path, core: int, *, port: int, args: Sequence[str], model: str, path: str, headers: Sequence[str]
) -> list[str]:
    """The command line of one load run."""
    command = [str(tool), "--port", str(port), "--key", KEY, "--model", model, "--path", path, *args]
    if headers:
        command += ["--headers", ";".join(headers)]
    return pinned(command, core)


def parse_load(text: str) -> dict[str, Any]:
    """The load generator's JSON."""
    result: dict[str, Any] = json.loads(text)
    return result
