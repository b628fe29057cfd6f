"""A clock that jumps, and a disk that is slow: of the gateway, and of control on SQLite."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fakes.gateway import Gateway, endpoint, eventually, key, new_id, route
from tests.fakes.plane import Plane
from tests.fakes.upstream import Upstream
from tests.integration.test_session import serve

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
SLOW = 0.2
"""Seconds that each write to a file takes."""
needs_faketime = pytest.mark.skipif(
    not FAKETIME.exists() and os.environ.get("REQUIRE_DATABASES") != "1",
    reason="libfaketime is not installed: as root on Debian, make test installs it",
)
needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc, which compiles slow_disk.c")
FOREVER = "sk-tg-clock-forever-0123456789"


@needs_faketime
def test_a_clock_that_jumps_lifts_no_limit_and_breaks_no_request(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    env = {
        "LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    soon = datetime.now(UTC) + timedelta(minutes=30)
    with Upstream() as upstream:
        config = {
            "endpoint": [endpoint(upstream.url)], "route": [route("x/*")],
            "key": [key("forever", FOREVER, limits={"rpm": 4}), key("soon", expires_at=soon)],
        }  # fmt: skip
        with Gateway(config, tmp_path, env=env) as gateway:
            asked = []

            def ask(secret: str) -> int:
                asked.append(new_id())
                return gateway.chat("x/auto", secret=secret, rid=asked[-1]).status

            with gateway.open("x/auto", new_id(), stream=True, metadata={"words": 20, "gap": 0.05}) as stream:
                statuses = [ask(FOREVER)]
                for jump, expired in (("+3600", True), ("-7200", False), ("+0", False)):
                    clock.write_text(jump)
                    statuses.append(ask(FOREVER))
                    assert gateway.chat("x/auto").status == (401 if expired else 200), jump
                assert statuses == [200] * 4
                assert ask(FOREVER) == 429, "a minute is a minute, whatever the clock says"
                assert b"[DONE]" in stream.response().body
            rows = eventually(lambda: [row for rid in asked[:4] for row in gateway.rows(rid)], 5)
            assert len({row["id"] for row in rows}) == len(rows) == 4
            assert all(0 <= row["duration_ms"] < 20_000 for row in rows)


@pytest.fixture(scope="module")
def slow_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload."""
    library = tmp_path_factory.mktemp("slow") / "slow_disk.so"
    source = Path(__file__).with_name("slow_disk.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    return library


@contextmanager
def slow(flag: Path) -> Iterator[None]:
    """The disk is slow meanwhile."""
    flag.touch()
    try:
        yield
    finally:
        flag.unlink()


@needs_compiler
def test_a_slow_disk_delays_no_request(slow_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flag = tmp_path / "slow"
    preload = {"LD_PRELOAD": str(slow_disk), "SLOW_DISK": str(flag), "SLOW_DISK_MS": str(int(SLOW * 1000))}
    for name, value in preload.items():
        monkeypatch.setenv(name, value)  # for control; what the tests themselves write is as fast as ever
    with Upstream() as upstream, Plane(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'control.db'}") as control:
        (tmp_path / "gateway").mkdir()
        config = {"control": {"url": control.url, "token": "env:TOKEN"}}
        serve(control, upstream)
        secret = control.post("/keys", name="app")["secret"]
        with Gateway(config, tmp_path / "gateway", env={"TOKEN": control.service_token}) as gateway:
            eventually(lambda: gateway.chat("gpt", secret=secret).status == 200, 10)
            with slow(flag):
                replies = [gateway.chat("gpt", secret=secret) for _ in range(15)]
            assert {reply.status for reply in replies} == {200}
            overhead = [int(reply.header("x-tunegate-overhead-us")) / 1e6 for reply in replies]
            assert statistics.median(overhead) < SLOW / 4, "no write to a file is waited for"
            eventually(lambda: control.get("/usage/requests", per_page=50)["items"][15:], 20)
