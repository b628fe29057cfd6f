"""What a gateway bears, and what it does beyond that: `make heavy` writes docs/bench/heavy.md.

10,000 streams at a time, every chunk through; then three times as many requests as an endpoint can take: what is too
much is refused at once with a 503 that says when to come back, and the rest is answered as if nothing were. Meanwhile
health and metrics are asked for. Upstream and load generator are the benchmark's, all on loopback.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes.gateway import Config, Gateway, route
from tests.fakes.http import once
from tests.load import native, proc

OUT = Path("docs/bench/heavy.md")
CACHE = Path(".cache/bench")
STREAMS, RAMP, CHUNKS, GAP_US = 10_000, 20.0, 30, 1_000_000
PLACES, ANSWER_US, SECONDS, TIMES = 16, 20_000, 8.0, 3
FILES = 65_536
WORKERS = 2
"""For the streams: each is two files of its process, of which a container often may have 20,000."""
KEPT = 0.9
"""Part of the best goodput that is left when three times as much is offered."""


class Watched(NamedTuple):
    """Of health and metrics while it was busy."""

    asked: int
    failed: int
    slowest: float
    """Seconds."""
    memory: int
    """Most resident bytes."""


class Watcher(threading.Thread):
    """Asks for health and metrics twice a second."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(daemon=True)
        self._gateway, self._over = gateway, threading.Event()
        self.times: list[float] = []
        self.failed = 0
        self.memory = 0

    def run(self) -> None:
        """Until `stop`."""
        while not self._over.wait(0.5):
            for path in ("/healthz", "/metrics"):
                began = time.monotonic()
                try:
                    good = once(self._gateway.url, "GET", path, timeout=30).status == 200
                except (OSError, TimeoutError):
                    good = False
                self.failed += not good
                self.times.append(time.monotonic() - began)
            self.memory = max(self.memory, proc.usage(self._gateway.pid).rss)

    def stop(self) -> Watched:
        """What was seen."""
        self._over.set()
        self.join(60)
        return Watched(len(self.times), self.failed, max(self.times, default=0.0), self.memory)


@contextmanager
def gateway(folder: Path, upstream: int, workers: int, **limits: int) -> Iterator[Gateway]:
    """So many workers in front of the scripted upstream; `limits` are the endpoint's."""
    folder.mkdir()
    config: Config = {
        "gateway": {"max_connections": 60_000, "workers": workers},
        "endpoint": [{"name": "up", "provider": "openai", "base_url": f"http://127.0.0.1:{upstream}/v1", **limits}],
        "route": [route("bench", "up/bench-upstream")],
        "key": [{"name": "bench", "key": "env:BENCH_KEY", "limits": {"rpm": 900_000_000, "concurrency": 1_000_000}}],
        "telemetry": {"access_log": "off"},
    }  # fmt: skip
    with Gateway(config, folder, env={"BENCH_KEY": native.KEY}) as one:
        yield one


def load(tool: Path, one: Gateway, *args: str) -> tuple[dict[str, Any], Watched]:
    """What the load generator says, and what was seen meanwhile."""
    port = int(one.url.rpartition(":")[2])
    command = native.load_command(tool, 0, port=port, args=args, model="bench", path="/v1/chat/completions", headers=())
    watcher = Watcher(one)
    watcher.start()
    try:
        said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    finally:
        seen = watcher.stop()
    return native.parse_load(said), seen


def refusal(one: Gateway) -> tuple[int, str]:
    """(status, retry-after) of the first request that is refused; (0, "") if none is within a second."""
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        reply = one.chat("bench", secret=native.KEY)
        if reply.status != 200:
            return reply.status, reply.header("retry-after") or ""
    return 0, ""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES, hard), hard))
    CACHE.mkdir(parents=True, exist_ok=True)
    tools = native.compile_tools(CACHE)
    with tempfile.TemporaryDirectory() as name, native.upstream(tools["upstream"], 0) as (_, port):
        folder = Path(name)
        with gateway(folder / "streams", port, WORKERS, max_connections=options.streams + 100) as one:
            told, streams = load(
                tools["loadgen"], one, "--mode", "once", "--conns", str(options.streams), "--ramp", str(RAMP),
                "--stream", f"{CHUNKS}:{GAP_US}", "--seconds", "60",
            )  # fmt: skip
        with gateway(folder / "overload", port, 1, max_connections=PLACES, max_queue=PLACES) as one:
            answer = ("--stream", f"1:{ANSWER_US}", "--seconds", str(SECONDS))
            best, _ = load(tools["loadgen"], one, "--mode", "closed", "--conns", str(PLACES), *answer)
            offered = int(best["rps"] * TIMES)
            refused: list[tuple[int, str]] = []
            asking = threading.Timer(SECONDS / 2, lambda: refused.append(refusal(one)))
            asking.start()
            much, busy = load(
                tools["loadgen"], one, "--mode", "rate", "--rate", str(offered), "--conns", "400", *answer
            )
            asking.join()
    text = page(options.streams, told, streams, best, offered, much, busy, refused[0])
    options.out.write_text(text, encoding="utf-8")
    print(text)
    return int("**missed**" in text)


def page(
    streams: int, told: dict[str, Any], seen: Watched, best: dict[str, Any], offered: int, much: dict[str, Any],
    busy: Watched, refused: tuple[int, str],
) -> str:  # fmt: skip
    """The page of docs/bench."""

    def kept(good: bool) -> str:
        return "kept" if good else "**missed**"

    whole = told["requests"] == streams and not told["errors"] and not seen.failed
    shed = much["error_kinds"]["status"]
    sheds = refused[0] == 503 and bool(refused[1]) and not busy.failed and shed > 0
    wrong = much["errors"] - shed
    goodput = much["rps"] / best["rps"]
    lines = [
        "# Much load, and too much", "",
        f"`make heavy` on {datetime.now(UTC):%Y-%m-%d}: a gateway with a key, limits, spool and metrics; "
        "upstream, load generator and gateway on one machine of two cores, where other programs may have run.", "",
        f"## {streams:,} streams at a time", "",
        "| | |", "|---|--:|",
        f"| streams, begun within {RAMP:.0f} s, a chunk a second each | {told['requests']:,} whole of {streams:,} |",
        f"| chunks | {told['chunks']:,} |",
        f"| errors | {told['errors']}{told['first_error'] and ': '}{told['first_error']} |",
        f"| a chunk from upstream to client, p50 / p99 | {told['transit_us']['p50'] / 1000:.1f} / "
        f"{told['transit_us']['p99'] / 1000:.1f} ms |",
        f"| memory of the gateway, {WORKERS} workers, at most | {seen.memory / 2**20:.0f} MiB |",
        f"| health and metrics, asked {seen.asked} times | {seen.failed} failed, {seen.slowest:.2f} s at most |", "",
        f"Without an error: {kept(whole)}.", "",
        f"## {TIMES} times what an endpoint can take", "",
        f"The endpoint has {PLACES} connections and a queue of {PLACES}; an answer takes {ANSWER_US // 1000} ms.", "",
        "| | |", "|---|--:|", f"| answers/s, {PLACES} clients that wait for each other | {best['rps']:,.0f} |",
        f"| offered | {offered:,} requests/s |", f"| answers/s then | {much['rps']:,.0f} ({goodput:.0%}) |",
        f"| refused | {shed:,}, with status {refused[0]} and retry-after {refused[1] or 'none'} |",
        f"| anything else | {wrong} |",
        f"| health and metrics, asked {busy.asked} times | {busy.failed} failed, {busy.slowest:.2f} s at most |", "",
        f"Refused with 503 and retry-after: {kept(sheds)}; {KEPT:.0%} of the answers or more: {kept(goodput >= KEPT)}.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
