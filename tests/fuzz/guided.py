"""The decoders of upstreams' streams under atheris, which looks for input that reaches code not reached before.

    python -m tests.fuzz.guided [--seconds N] [--decoder NAME] [--at-once N]

Each decoder is a process of its own, since libFuzzer ends its process; what is told of each is what it has counted.
The seeds are the golden streams. A byte before the stream says how it is cut into reads.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

DECODERS = ("openai", "anthropic", "responses", "gemini", "bedrock", "bedrock-events", "cohere")
LONGEST = 16_384
"""Bytes of one input."""
PATIENCE = 10
"""Seconds for one input, after which it counts as a hang."""
MEMORY = 2 << 30
"""Bytes that a decoder may hold, with atheris around it. Not libFuzzer's own limit, which looks at the peak that the
kernel tells: that of the process which started this one is in it."""
_DONE = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+) ft: (\d+) corp: (\d+)/")


class Outcome(NamedTuple):
    """What became of one decoder."""

    decoder: str
    runs: int
    edges: int
    """Of the code's branches, how many were seen."""
    corpus: int
    """Inputs that each reach something that no other one does."""
    problem: str


def missing() -> str:
    """Why nothing can be run here, or nothing."""
    if find_spec("atheris") is None:
        return "atheris is not installed: it has wheels for Python 3.11 to 3.13 on Linux/x86_64 only"
    return ""


def hunt(decoder: str, seconds: int) -> Outcome:
    """Run one decoder in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.fuzz.guided", "--inside", folder, "--decoder", decoder]
        done = subprocess.run(
            [*command, "--seconds", str(seconds)], capture_output=True, text=True, timeout=seconds + 120, check=False
        )
    found = _DONE.search(done.stderr)
    if done.returncode or found is None:
        told = "\n".join([done.stdout[-4000:], *done.stderr.splitlines()[-8:]])
        return Outcome(decoder, 0, 0, 0, told.strip() or f"exit status {done.returncode}")
    runs, edges, _, corpus = map(int, found.groups())
    return Outcome(decoder, runs, edges, corpus, "")


def inside(decoder: str, seconds: int, folder: str) -> None:
    """Hunt in this process, which does not come back from it."""
    import atheris  # noqa: PLC0415  (only where it is installed)

    with atheris.instrument_imports(include=["gateway.protocols", "gateway.providers"]):
        from tests.fuzz import dialects  # noqa: PLC0415  (instrumented as it is imported)

    for number, seed in enumerate(dialects.seeds(decoder)):
        Path(folder, f"seed-{number}").write_bytes(b"\0" + seed)

    def one(data: bytes) -> None:
        if data:
            dialects.decode(decoder, data[1:], cuts=data[0])

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={PATIENCE}", "-rss_limit_mb=0"]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=0", f"-artifact_prefix={folder}/", folder], one)
    atheris.Fuzz()


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="for each decoder")
    parser.add_argument("--decoder", choices=DECODERS, help="only this one")
    parser.add_argument("--at-once", type=int, default=1, help="how many run at a time")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if why := missing():
        print(f"SKIPPED the stream decoders under atheris: {why}", file=sys.stderr)
        return 0
    if arguments.inside:
        inside(arguments.decoder, arguments.seconds, arguments.inside)
    names = [arguments.decoder] if arguments.decoder else list(DECODERS)
    with ThreadPoolExecutor(arguments.at_once) as pool:
        outcomes = list(pool.map(lambda name: hunt(name, arguments.seconds), names))
    for one in outcomes:
        told = f"FAILED {one.problem}" if one.problem else f"{one.runs:,} runs, {one.edges:,} edges, {one.corpus} kept"
        print(f"atheris, {one.decoder}: {told}")
    return int(any(one.problem for one in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
