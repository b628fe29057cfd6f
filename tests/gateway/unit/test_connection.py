"""An upstream connection on its own: what it writes when, and answers whose head it has seen before."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.contract.snapshot import Timeouts
from gateway.upstream.call import UpstreamCall
from gateway.upstream.connection import UpstreamConnection
from gateway.upstream.pool import Pool

HEAD = b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: %d\r\n\r\n%b"


class Collected:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.heads: list[tuple[int, dict[bytes, bytes]]] = []
        self.body = b""
        self.ended = False

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.heads.append((status, headers))

    def on_data(self, data: bytes) -> None:
        self.body += data

    def on_end(self) -> None:
        self.ended = True

    def on_failure(self, failure: Exception) -> None:
        raise failure


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    abort = close


def call(limit: int = 1000) -> tuple[UpstreamCall, Collected]:
    sink = Collected()
    return UpstreamCall(b"POST\r\n\r\n", [b"{}"], 2, sink, Timeouts(), limit, 0.0, lambda _: None), sink


@pytest.fixture
def soon() -> list[tuple[Any, ...]]:
    return []


@pytest.fixture
def connection(soon) -> UpstreamConnection:
    pool = SimpleNamespace(now=lambda: 1.0, soon=lambda *work: soon.append(work), release=lambda _: None)
    made = UpstreamConnection(cast(Pool, pool))
    made.connection_made(cast(asyncio.Transport, Wire()))
    return made


def test_a_request_is_written_once_the_loop_has_turned(connection, soon):
    connection.send(call()[0])
    assert connection.transport.written == []
    for work, *arguments in soon:
        work(*arguments)
    assert connection.transport.written == [b"POST\r\n\r\n{}"]


def test_a_call_that_is_aborted_before_that_is_never_written(connection, soon):
    aborted, _ = call()
    connection.send(aborted)
    aborted.abort()
    for work, *arguments in soon:
        work(*arguments)
    assert connection.transport.closed
    assert connection.transport.written == []


@pytest.mark.parametrize("pieces", [1, 2, 30])
def test_answers_with_the_same_head_are_read_as_the_first_was(connection, pieces):
    for body in (b"{}", b'{"a":1}', b"x" * 300, b"{}"):
        asked, sink = call()
        connection.send(asked)
        answer = HEAD % (len(body), body)
        size = -(-len(answer) // pieces)
        for start in range(0, len(answer), size):
            connection.data_received(answer[start : start + size])
        assert sink.ended
        assert sink.heads == [(200, {b"date": b"now", b"content-length": b"%d" % len(body)})]
        assert sink.body == body


def test_an_answer_above_the_limit_is_refused_though_its_head_is_known(connection):
    first, _ = call()
    connection.send(first)
    connection.data_received(HEAD % (2, b"{}"))
    second, sink = call(limit=10)
    connection.send(second)
    with pytest.raises(Exception, match="more than 10 bytes"):
        connection.data_received(HEAD % (20, b"x" * 20))
    assert sink.body == b""


def test_two_answers_at_once_are_not_cut_by_comparing(connection):
    connection.send(call()[0])
    connection.data_received(HEAD % (2, b"{}"))
    asked, sink = call()
    connection.send(asked)
    connection.data_received(HEAD % (2, b"{}") * 2)
    assert sink.body == b"{}"
    assert connection.transport.closed, "nothing more is asked on a connection that says too much"
