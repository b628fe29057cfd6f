"""Clients that leave: the upstream is closed (or drained, by policy), and its place is free again."""

from __future__ import annotations

import threading
import time

import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import Gateway, endpoint, eventually, new_id, route
from tests.fakes.upstream import Wait
from tests.fakes.wire import Usage

NEVER = threading.Event()
WORDS = [wire.word_event(f"word{i} ") for i in range(5)]
HELD = scripts.stream([*WORDS, Wait(NEVER, 5)], end=False)


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    config = {
        "endpoint": [
            endpoint(upstream.url, max_connections=2, max_queue=10, queue_timeout=1.0),
            endpoint(upstream.url, "drains", on_client_gone="drain", drain_seconds=0.7, max_connections=2),
        ],
        "route": [route("x/*"), route("drain/*", "drains")],
    }
    return start(config)


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("point", ["before headers", "mid-stream", "complete reply"])
def test_the_upstream_is_closed_within_a_second_and_its_slot_is_free(gateway, upstream, scripted, how, point):
    """Six in a row through two slots: a leak of a single one would show."""
    script = HELD if point == "mid-stream" else [Wait(NEVER, 5)]
    for _ in range(6):
        name, rid = scripted(script), new_id()
        conn = gateway.open(f"x/{name}", rid, stream=point != "complete reply")
        eventually(lambda name=name: upstream.of(name), 2, "no free slot")
        if point == "mid-stream":
            conn.response(stop=len(WORDS[0]))
        begin = time.monotonic()
        getattr(conn, how)()
        gone = eventually(lambda name=name: upstream.of(name)[0].gone, 2, "the upstream was not closed")
        assert gone - begin < 1.0
        assert gateway.row(rid)["end"].startswith("client_gone")
    assert gateway.chat(f"x/{scripted(scripts.chat())}").status == 200


def test_a_client_that_leaves_the_queue_takes_no_slot(gateway, upstream, scripted):
    held = [gateway.open(f"x/{scripted(HELD)}", new_id(), stream=True) for _ in range(2)]
    eventually(lambda: upstream.answering == 2)
    name, rid = scripted(scripts.chat()), new_id()
    gateway.open(f"x/{name}", rid).abort()
    assert gateway.row(rid, within=2)["end"] == "client_gone"
    for conn in held:
        conn.close()
    eventually(lambda: upstream.answering == 0)
    assert upstream.of(name) == []
    assert gateway.chat(f"x/{scripted(scripts.chat())}").status == 200


def test_half_a_close_is_a_leave_or_is_answered(gateway, upstream, scripted):
    """A client that shuts its sending side gets its whole answer or is treated as gone: nothing between."""
    rid = new_id()
    with gateway.open(f"x/{scripted(scripts.chat(gap=0.05))}", rid, stream=True) as conn:
        conn.sock.shutdown(1)
        reply = conn.response()
    row = gateway.row(rid)
    if reply.complete:
        assert row["end"] == "success"
    else:
        assert row["end"].startswith("client_gone")


def test_drain_reads_on_and_then_the_connection_is_used_again(gateway, upstream, scripted):
    go, rid = threading.Event(), new_id()
    rest = [wire.finish_event(), wire.usage_event(Usage(7, 3)), wire.DONE]
    name = scripted(scripts.stream([*WORDS, Wait(go), *rest]), scripts.chat())
    with gateway.open(f"drain/{name}", rid, stream=True) as conn:
        conn.response(stop=10)
    time.sleep(0.1)
    go.set()
    assert gateway.row(rid)["tokens"] == Usage(7, 3).buckets()
    assert gateway.chat(f"drain/{name}").status == 200
    seen = upstream.of(name)
    assert seen[0].gone is None


def test_drain_ends_at_its_cap(gateway, upstream, scripted):
    name, rid = scripted(scripts.stream([*WORDS, *[wire.word_event("x")] * 100], gap=0.05)), new_id()
    with gateway.open(f"drain/{name}", rid, stream=True) as conn:
        conn.response(stop=10)
    begin = time.monotonic()
    gone = eventually(lambda: upstream.of(name)[0].gone, 10, "the drain has no end")
    assert 0.4 < gone - begin < 1.5
    row = gateway.row(rid)
    assert (row["end"], row["usage_source"]) == ("client_gone_partial", "estimated")


def test_a_client_that_does_not_read_slows_its_upstream_and_fills_no_memory(gateway, upstream, scripted):
    """200 MB of answer for a client that reads nothing: the gateway must hold the upstream back."""
    big = wire.word_event("x" * 100_000)
    name, rid = scripted(scripts.stream([big] * 2000)), new_id()
    before = rss(gateway.pid)
    with gateway.open(f"x/{name}", rid, stream=True) as conn:
        conn.response(stop=10)
        time.sleep(1.0)
        assert not upstream.of(name)[0].finished
        assert rss(gateway.pid) - before < 40_000_000
    assert gateway.row(rid)["end"] == "client_gone_partial"


def rss(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_many_leave_at_once(gateway, upstream, scripted):
    name = scripted(scripts.stream([*WORDS, *[wire.word_event("x")] * 50], gap=0.02))
    ids = [new_id() for _ in range(2)]
    conns = [gateway.open(f"drain/{name}", rid, stream=True) for rid in ids]
    for conn in conns:
        conn.response(stop=10)
    for conn in conns:
        conn.abort()
    assert {gateway.row(rid, within=4)["end"] for rid in ids} == {"client_gone_partial"}
    eventually(lambda: upstream.answering == 0, 10)
