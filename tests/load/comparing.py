"""How fast a run of a suite asks, beside a script: `python -m tests.load.comparing`, or `make bench-compare`.

A scripted upstream streams each answer for a second. 4 routes are asked about every case, 64 requests at a time: by a
run of control's, through the gateway, with every cell recorded, scored and priced; and by an aiohttp script that asks
the upstream itself and keeps the text. In turn, in one run. Written to `docs/bench/comparing.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import aiohttp

from tests.fakes.gateway import Gateway
from tests.fakes.plane import Plane
from tests.load import native
from tests.processes import free_port

OUT = Path("docs/bench/comparing.md")
ROUTES, AT_ONCE = 4, 16
"""Routes, and requests at a time to each."""
QUESTION = "plan=50:20000; Question {n}: which of the answers is the best one?"
"""What the upstream is told: 50 chunks, one every 20 ms."""
BUDGET = 0.95
"""Least answers per second of a run, as a part of the script's."""


async def script(url: str, cases: int) -> float:
    """Seconds in which a plain script has all answers."""
    texts: list[str] = []
    began = time.perf_counter()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(route: int, number: int) -> None:
            body = {
                "model": f"m{route}", "messages": [{"role": "user", "content": QUESTION.format(n=number)}],
                "stream": True, "stream_options": {"include_usage": True},
            }  # fmt: skip
            parts = []
            async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                assert answer.status == 200, await answer.text()
                async for line in answer.content:
                    if line.startswith(b"data: {"):
                        choices = json.loads(line[6:])["choices"]
                        parts += [choices[0]["delta"].get("content") or ""] if choices else []
            texts.append("".join(parts))

        async def lane(route: int) -> None:
            numbers = iter(range(cases))

            async def work() -> None:
                for number in numbers:
                    await ask(route, number)

            await asyncio.gather(*(work() for _ in range(AT_ONCE)))

        await asyncio.gather(*(lane(route) for route in range(ROUTES)))
    assert len(texts) == cases * ROUTES
    assert all(texts), "an answer without text"
    return time.perf_counter() - began


def run(plane: Plane) -> float:
    """Seconds in which a run has all answers, scored, in the database."""
    candidates = [{"route": f"m{route}"} for route in range(ROUTES)]
    made = plane.post("/suites/bench/runs", candidates=candidates, concurrency=AT_ONCE)
    found = made
    while found["state"] in ("queued", "running"):
        time.sleep(1)  # asking costs what is measured
        found = plane.get(f"/runs/{made['id']}")
    assert found["state"] == "done", found
    ended, started = (datetime.fromisoformat(found[name]) for name in ("ended_at", "started_at"))
    return (ended - started).total_seconds()


def prepare(plane: Plane, url: str, cases: int) -> None:
    """Endpoint, routes and suite."""
    plane.post("/endpoints", name="up", provider="openai", spec={"base_url": f"{url}/v1"})
    for route in range(ROUTES):
        target = [{"endpoint": "up", "model": f"m{route}"}]
        plane.post("/routes", name=f"m{route}", spec={"target": target}, grants=[{"principal_kind": "everyone"}])
    plane.post("/suites", name="bench")
    plane.post(
        "/suites/bench/versions",
        prompts=[{"name": "plain", "messages": [{"role": "user", "content": "{{question}}"}]}],
        scorers=[{"name": "has", "kind": "regex", "pattern": "[a-z]"}],
        sources=[{"kind": "cases", "cases": [{"variables": {"question": QUESTION.format(n=n)}} for n in range(cases)]}],
    )  # fmt: skip


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    plain, ours = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tool = native.compile_tools(folder)["upstream"]
        plane = Plane(folder, f"sqlite+aiosqlite:///{folder / 'bench.db'}")
        address = f"127.0.0.1:{free_port()}"
        told = plane.config.read_text().replace("[database]", f'gateway_url = "http://{address}"\n[database]')
        plane.config.write_text(told)
        with native.upstream(tool, 0) as (_, upstream), plane:
            url = f"http://127.0.0.1:{upstream}"
            prepare(plane, url, options.cases)
            config = {
                "control": {"url": plane.url, "token": "env:TOKEN"}, "gateway": {"listen": address},
                "telemetry": {"access_log": "errors"},
            }  # fmt: skip
            (folder / "gateway").mkdir()
            with Gateway(config, folder / "gateway", env={"TOKEN": plane.service_token}):
                for _ in range(options.rounds):
                    plain.append(asyncio.run(script(url, options.cases)))
                    plane.sign_in()
                    ours.append(run(plane))
                    print(f"script {plain[-1]:.1f} s, run {ours[-1]:.1f} s", flush=True)
    text = page(options.cases, plain, ours)
    options.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


def page(cases: int, plain: list[float], ours: list[float]) -> str:
    """The page of docs/bench."""
    cells = cases * ROUTES
    ratio = median(one / other for one, other in zip(plain, ours, strict=True))
    kept = "kept" if ratio >= BUDGET else "**missed**"
    rows = [
        f"| {number} | {one:.1f} | {other:.1f} | {one / other:.3f} |"
        for number, (one, other) in enumerate(zip(plain, ours, strict=True), 1)
    ]
    lines = [
        "# Runs of suites", "",
        f"`make bench-compare` on {datetime.now(UTC):%Y-%m-%d}: {cases:,} cases × {ROUTES} routes, {ROUTES * AT_ONCE} "
        "requests at a time; the upstream takes a second for each answer (50 chunks). The script asks the upstream "
        "itself; the run goes through the gateway, and each cell is recorded, scored and priced. All on one machine of "
        "two cores; other programs may have run beside it.", "",
        "| round | script, s | run, s | script ÷ run |", "|--:|--:|--:|--:|", *rows, "",
        f"Median: {ratio:.3f} of the script's answers per second (budget {BUDGET}: {kept}); {cells / median(ours):.1f} "
        f"answers per second, where {ROUTES * AT_ONCE} are the most.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
