"""What the gateway costs a model that is served here: `python -m tests.load.serving`, or `make bench-serving`.

`tunegate up` with vLLM on the CPU; 16 streams at a time, to the engine itself and through the gateway in turn, by the
same client. Written to `docs/bench/serving.md`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.processes import eventually, free_port

OUT = Path("docs/bench/serving.md")
STREAMS, EACH, TOKENS = 16, 6, 96
BUDGET = 0.95
"""Least tokens per second through the gateway, as a part of those without it."""


def tokens_per_second(address: str, key: str) -> float:
    """Of all streams together: each thread makes some requests, one after another."""
    counts, failures = [0] * STREAMS, []

    def work(number: int) -> None:
        try:
            for turn in range(EACH):
                counts[number] += _stream(address, key, f"Tell me of {number} and {turn}.")
        except (OSError, http.client.HTTPException, AssertionError) as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(STREAMS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{len(failures)} streams failed: {failures[0]}")
    return sum(counts) / (time.perf_counter() - began)


def _stream(address: str, key: str, question: str) -> int:
    """Ask for a stream of TOKENS tokens; how many events with content came."""
    connection = http.client.HTTPConnection(address, timeout=120)
    body = {
        "model": "alpha", "messages": [{"role": "user", "content": question}], "stream": True, "max_tokens": TOKENS,
        "min_tokens": TOKENS, "ignore_eos": True, "temperature": 0,
    }  # fmt: skip
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read(500)
    count = sum(line.startswith(b"data: {") for line in answer)
    connection.close()
    return count


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gateway, console = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "control", "up", "--data", folder, "--listen", gateway, "--console", console]
        log = Path(folder) / "up.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            eventually(lambda: "Ctrl-C stops everything" in log.read_text() or process.poll() is not None, 200)
            pairs = _measure(Path(folder), gateway, options.rounds)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    ratio = median(through / direct for direct, through in pairs)
    lines = [
        "# A served model through the gateway", "",
        f"`make bench-serving` on {datetime.now(UTC):%Y-%m-%d}: vLLM for the CPU with the tiny model's adapter "
        f"`alpha`, {STREAMS} streams at a time of {TOKENS} tokens each, {options.rounds} rounds in turn, everything "
        f"on one machine. Budget: at least {BUDGET} of the tokens per second without the gateway.", "",
        "| round | engine alone, tokens/s | through the gateway | ratio |", "|--:|--:|--:|--:|",
        *(
            f"| {number} | {direct:.0f} | {through:.0f} | {through / direct:.3f} |"
            for number, (direct, through) in enumerate(pairs, 1)
        ), "", f"Median ratio: {ratio:.3f}. {'Kept' if ratio >= BUDGET else 'Missed'}.",
    ]  # fmt: skip
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines[4:]))
    return 0


def _measure(folder: Path, gateway: str, rounds: int) -> list[tuple[float, float]]:
    """(engine alone, through the gateway) of each round, who is first in turn; one round before is not counted."""
    engine = f"127.0.0.1:{tomllib.loads((folder / 'config.toml').read_text())['engine'][0]['port']}"
    key = (folder / "first-key").read_text().strip()
    pairs = []
    for number in range(rounds + 1):
        order = (engine, gateway) if number % 2 else (gateway, engine)
        found = {address: tokens_per_second(address, key) for address in order}
        pairs.append((found[engine], found[gateway]))
        print(f"round {number}: {found[engine]:.0f} alone, {found[gateway]:.0f} through the gateway", flush=True)
    return pairs[1:]


if __name__ == "__main__":
    sys.exit(main())
