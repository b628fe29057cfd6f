"""How many instructions the gateway's own code runs per request and per streamed chunk: what `tests.load.micro` runs,
counted by valgrind. A busy machine does not change the figure, so a change of half a per cent can be seen; how long an
instruction takes, it does not say.

    python -m tests.load.instructions     needs valgrind; takes half a minute
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from . import micro

COUNTS = {"chat": 400, "stream": 6, "long": 40}
WARM = 2
"""Runs of each kind that are not counted: the interpreter adapts its code to what it sees."""


def _count(out: Path) -> None:
    """In valgrind: run the benchmark, counting only in its third run of each kind."""
    real, kinds = micro._run, {micro.request(kind): kind for kind in micro.KINDS}
    runs = dict.fromkeys(micro.KINDS, 0)

    async def run(connection: Any, request: bytes, count: int) -> float:
        kind = kinds[request]
        runs[kind] += 1
        counted = runs[kind] == WARM + 1
        if counted:
            await _control("-z")
            await _control("-i", "on")
        took = await real(connection, request, COUNTS[kind])
        if counted:
            await _control("-i", "off")
            await _control("-d", kind)
        return took

    micro._run = run
    uvloop.run(micro._measure(out, WARM + 1, ""))


async def _control(*args: str) -> None:
    ended = await asyncio.create_subprocess_exec(
        "callgrind_control", *args, str(os.getpid()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert not await ended.wait()


def main() -> None:
    """Count, and print."""
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed (apt-get install valgrind)")
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            _count(Path(folder))
            return
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out"]
        command = [*valgrind, sys.executable, "-m", "tests.load.instructions", "counted"]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        texts = [(Path(folder) / f"out.{n}").read_text() for n, _ in enumerate(micro.KINDS, 1)]
    found = [int(re.findall(r"^totals: (\d+)", text, re.M)[0]) for text in texts]
    chat, stream, long = (total / COUNTS[kind] for total, kind in zip(found, micro.KINDS, strict=True))
    print(f"{chat:9,.0f} instructions per chat request")
    print(f"{(stream - chat) / micro.CHUNKS:9,.0f} instructions per further chunk of a stream")
    print(f"{long:9,.0f} instructions per request of a long conversation")


if __name__ == "__main__":
    main()
