"""One part of an installation is paused or cut off while requests go on: what still holds, and that all comes back by
itself. `tests/faults/cells.toml` says which cell of docs/degraded-modes.md each of them is.
"""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stack import Stack, paused, stack
from tests.processes import eventually

pytestmark = pytest.mark.timeout(180)
MANY = 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("stack")) as one:
        yield one


@pytest.fixture(autouse=True)
def healthy_after(whole: Stack) -> Iterator[None]:
    """Whatever a test has done: then everything works again, and nothing was lost or counted twice."""
    eventually(lambda: whole.ask() == 200, 20)
    yield
    eventually(lambda: whole.ask() == 200, 20)
    whole.settled(30)
    whole.known(15)


def _asked(whole: Stack) -> None:
    assert [whole.ask() for _ in range(MANY)] == [200] * MANY


def _backends(whole: Stack) -> list[int]:
    """The database server with its processes."""
    parent = whole.database.process.pid
    children = subprocess.run(["pgrep", "-P", str(parent)], check=False, capture_output=True, text=True).stdout.split()
    return [parent, *map(int, children)]


def test_a_database_that_hangs_costs_no_request(whole: Stack) -> None:
    with paused(*_backends(whole)):
        _asked(whole)


@pytest.mark.parametrize("cable", ["database", "control"])
def test_a_network_that_is_cut_behind_the_gateway_costs_no_request(whole: Stack, cable: str) -> None:
    whole.cables[cable].cut()
    try:
        _asked(whole)
        assert whole.gateway.metric("tunegate_spool_backlog_bytes") > 0, "what control cannot take waits on the disk"
    finally:
        whole.cables[cable].mend()


def test_a_redis_that_cannot_be_reached_costs_no_request(whole: Stack) -> None:
    whole.cables["redis"].cut()
    try:
        _asked(whole)
        eventually(lambda: whole.gateway.metric("limits_redis_breaker") > 0, 5)
        _asked(whole)
    finally:
        whole.cables["redis"].mend()
    eventually(lambda: whole.gateway.metric("limits_redis_breaker") == 0, 10)


def test_control_that_hangs_costs_no_request(whole: Stack) -> None:
    assert whole.control.process is not None
    with paused(whole.control.process.pid):
        _asked(whole)


def test_an_upstream_that_is_cut_off_is_a_clear_error_and_then_one_at_once(whole: Stack) -> None:
    whole.cables["upstream"].cut()
    try:
        reply = whole.gateway.chat("gpt", secret=whole.secret)
        assert (reply.status, reply.fault) == (504, "provider_timeout")
        eventually(lambda: whole.gateway.chat("gpt", secret=whole.secret).status == 503, 15)
        began = time.monotonic()
        statuses = [whole.gateway.chat("gpt", secret=whole.secret).status for _ in range(MANY)]
        assert statuses.count(503) >= MANY - 1, "but for a probe now and then"
        assert time.monotonic() - began < 5, "the breaker answers, not the clock"
    finally:
        whole.cables["upstream"].mend()


def test_a_gateway_that_was_paused_goes_on_where_it_was(whole: Stack) -> None:
    with paused(whole.gateway.pid):
        time.sleep(2.5)  # longer than control waits for a report, and than time-outs of this upstream
    _asked(whole)


def test_a_disk_that_takes_no_more_of_control_costs_no_request(tmp_path: Path) -> None:
    with stack(tmp_path, f"sqlite+aiosqlite:///{tmp_path / 'control.db'}") as one:
        assert one.control.process is not None
        pid = one.control.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        _asked(one)
        said = one.control.client.post("/api/v1/keys", json={"name": "not-now"})
        assert said.status_code == 503, said.text
        assert said.headers["content-type"] == "application/problem+json"
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        one.settled(30)
        one.known(15)
