"""A message whose head is known is recognised exactly when a parser would read the same from it."""

from __future__ import annotations

import pytest

from gateway.same_head import Heads, SameHead, learn

HEAD = b"POST /v1/x HTTP/1.1\r\nhost: h\r\nContent-Length: %b\r\naccept: */*\r\n\r\n"


def message(body: bytes, length: bytes | None = None) -> bytes:
    return HEAD % (length if length is not None else b"%d" % len(body)) + body


def known() -> SameHead:
    found = learn(message(b"{}"), {b"content-length": b"2"})
    assert found is not None
    return found


@pytest.mark.parametrize("body", [b"{}", b"", b"x" * 12_345, b"\r\n\r\ncontent-length: 2\r\n"])
def test_another_length_is_recognised(body):
    assert known().body(message(body)) == body


@pytest.mark.parametrize(
    "data",
    [
        message(b"{}") + message(b"{}"),
        message(b"{}")[:-1],
        message(b"{}") + b"\r\n",
        message(b"{}", b"02"),
        message(b"{}", b"+2"),
        message(b"{}", b" 2"),
        message(b"{}", b"2 "),
        message(b"{}", b""),
        message(b"{}", b"2\r\ncontent-length: 2"),
        message(b"{}", b"2\r\ntransfer-encoding: chunked"),
        message(b"{}").replace(b"/v1/x", b"/v1/y"),
        message(b"{}").replace(b"*/*", b"*"),
        message(b"{}")[:40],
        HEAD[: HEAD.index(b"%b")] + b"-4\r\n",
        b"",
    ],
)
def test_anything_else_goes_to_the_parser(data):
    assert known().body(data) is None


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (message(b"{}"), {}),
        (message(b"{}") + b"x", {b"content-length": b"2"}),
        (message(b"{}", b"02"), {b"content-length": b"02"}),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", {b"content-length": b"2"}),
        (b"POST / HTTP/1.1\r\nx: 2\r\nx-content-length: 2\r\n\r\n{}", {b"content-length": b"2"}),
    ],
)
def test_nothing_is_learnt_from(data, headers):
    assert learn(data, headers) is None


def varied(number: int) -> bytes:
    return message(b"{}").replace(b"*/*", b"%d" % number)


def test_a_connection_whose_heads_are_other_ones_each_time_learns_few_of_them():
    heads, headers = Heads(), {b"content-length": b"2"}
    learnt = [heads.learn(varied(number), headers) is not None for number in range(640)]
    assert learnt[:4] == [True, True, True, False]
    assert 30 <= sum(learnt) <= 50, "but it goes on looking whether they are the same now"


def test_heads_that_were_of_use_are_always_learnt_again():
    heads, headers = Heads(), {b"content-length": b"2"}
    for number in range(100):
        known = heads.learn(varied(number), headers)
        assert known is not None
        assert known.body(varied(number)) == b"{}"
        assert heads.last is known
