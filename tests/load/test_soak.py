"""A long, even load with 20 % of the clients leaving: memory flat, nothing left open, one row each.

`TUNEGATE_SOAK_SECONDS` sets the length (600 by default); the first fifth is warm-up.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.fakes.gateway import Gateway, endpoint, eventually, route
from tests.fakes.load import Load
from tests.fakes.upstream import Upstream

SECONDS = float(os.environ.get("TUNEGATE_SOAK_SECONDS", "600"))


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 180)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_a_soak_leaves_nothing_behind(tmp_path):
    with Upstream() as upstream:
        config = {
            "telemetry": {"access_log": "errors"},
            "endpoint": [endpoint(upstream.url, max_connections=64)],
            "route": [route("x/*", price={"input": 1.0, "output": 2.0})],
        }
        with Gateway(config, tmp_path) as gateway:
            files_before = open_files(gateway.pid)
            samples: list[tuple[float, int]] = []
            begin = time.monotonic()
            with Load(lambda: gateway.url, "x/auto", clients=24, aborts=0.2, pause=0.03) as load:
                while time.monotonic() - begin < SECONDS:
                    time.sleep(min(1.0, SECONDS / 60))
                    samples.append((time.monotonic() - begin, rss(gateway.pid)))
                    # The fakes keep everything; what they need for the end is kept, the bulk is let go.
                    del upstream.requests[:-1000]
            eventually(lambda: upstream.answering == 0, 10, "upstream slots are still taken")
            eventually(lambda: open_files(gateway.pid) <= files_before + 70, 10, "files are still open")
            time.sleep(1.0)  # the ledger is complete some 0.3 s after the last request
            report(samples, load)
            assert_flat(samples)
            upstream.drop_idle()
            eventually(lambda: open_files(gateway.pid) <= files_before + 3, 10, "sockets are not given back")
            eventually(lambda: upstream.open_connections == 0, 5)
            assert_one_row_each(load, gateway)
        assert gateway.process is None


def assert_one_row_each(load: Load, gateway: Gateway) -> None:
    """Read line by line: half a million rows as objects would need a gigabyte."""
    rows: dict[str, tuple[str, int, int]] = {}
    twice = []
    for file in (gateway.data / "usage").rglob("*.jsonl"):
        with file.open() as lines:
            for line in lines:
                row = json.loads(line)
                if row["request_id"] in rows:
                    twice.append(row["request_id"])
                rows[row["request_id"]] = (row["end"], row["tokens"]["input"], row["tokens"]["output"])
    assert twice == []
    for one in load.asked:
        if one.unheard:
            continue
        assert one.rid in rows, one
        assert not one.trouble, one
        if not one.aborted:
            assert one.whole, one
            assert rows[one.rid] == ("success", one.prompt, one.completion), one


def report(samples: list[tuple[float, int]], load: Load) -> None:
    """Print what the note of a soak needs."""
    aborted = sum(a.aborted for a in load.asked)
    warm = [m for t, m in samples if t > SECONDS / 5]
    print(
        f"\n{len(load.asked)} requests, {aborted} aborted, {SECONDS:.0f} s; "
        f"RSS after warm-up {warm[0] / 2**20:.1f} MiB, at the end {warm[-1] / 2**20:.1f} MiB, "
        f"highest {max(warm) / 2**20:.1f} MiB"
    )


def assert_flat(samples: list[tuple[float, int]]) -> None:
    """After the warm-up, the last quarter may not hold more than a few percent above the first one."""
    warm = [m for t, m in samples if t > SECONDS / 5]
    quarter = max(1, len(warm) // 4)
    early, late = (sorted(part)[len(part) // 2] for part in (warm[:quarter], warm[-quarter:]))
    assert late - early < max(0.03 * early, 3 * 2**20), f"RSS grew from {early} to {late} bytes"
