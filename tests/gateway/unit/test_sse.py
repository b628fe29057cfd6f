"""However a stream is cut on its way, the same bytes and the same events come out of the framer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from gateway.protocols.sse import Framer, last_border, split
from gateway.providers.openai import event_data
from tests.fuzz.targets import contents

PIECES = st.sampled_from(
    [b"data: one", b"data:two", b": ping", b"event: x", b"data: [DONE]", b"data: {}", b"\n", b"\r\n", b"\r", b"\n\n",
     b"\r\n\r\n", "中".encode()]
)  # fmt: skip
STREAMS = st.lists(PIECES, max_size=24).map(b"".join)


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    borders = sorted({0, len(stream), *(place % (len(stream) + 1) for place in at)})
    return [stream[a:b] for a, b in pairwise(borders)]


@given(stream=STREAMS, at=st.lists(st.integers(0, 1000), max_size=12))
def test_any_cut_of_any_stream_joins_to_the_same_bytes_and_the_same_events(stream, at):
    framer = Framer(10_000)
    blocks = [framer.feed(piece) for piece in cut(stream, at)]
    rest = framer.flush()

    assert b"".join(blocks) + rest == stream
    events = [event for block in blocks if block for event in split(block)]
    assert b"".join(events) == b"".join(blocks), "split loses nothing"
    assert [data for event in [*events, rest] for data in contents(event)] == contents(stream)
    assert not contents(rest) or rest.endswith(b"\r"), "a whole event waits only if half of its line end may come yet"


@given(stream=STREAMS)
def test_the_last_border_ends_the_last_whole_event(stream):
    end = last_border(stream)
    assert contents(stream[:end]) + contents(stream[end:]) == contents(stream)
    assert len(contents(stream[end:])) <= stream.endswith(b"\r")
    assert last_border(stream[end:]) == 0


@given(events=st.lists(st.sampled_from([b"data: a\n\n", b"data: b\ndata: c\n\n", b": x\n\n"]), min_size=1, max_size=9))
def test_a_block_splits_into_the_events_that_it_was_made_of(events):
    assert split(b"".join(events)) == events
    windows = [event.replace(b"\n", b"\r\n") for event in events]
    assert split(b"".join(windows)) == windows


def test_a_whole_event_comes_out_at_once_and_unchanged():
    data = b"data: {}\n\n"
    assert Framer(100).feed(data) is data


def test_an_event_longer_than_the_limit_is_refused_before_it_fills_the_memory():
    framer = Framer(100)
    assert framer.feed(b"data: " + b"x" * 90) == b""
    with pytest.raises(ValueError, match="longer than 100 bytes"):
        framer.feed(b"x" * 10)


def test_what_was_flushed_does_not_come_again():
    framer = Framer(100)
    framer.feed(b"data: half")
    assert (framer.flush(), framer.flush()) == (b"data: half", b"")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("lines", [[b"data: one"], [b"data:one", b"data: two"], [b"event: x", b"data: one", b": ping"]])
def test_the_data_of_an_event_is_read_whatever_its_line_ends(lines, end):
    event = end.join([*lines, b"", b""])
    assert [event_data(event)] == contents(event)


def test_the_data_of_an_event_with_mixed_line_ends_is_read_as_a_client_reads_it():
    event = b"data: one\rdata: two\n\n"
    assert [event_data(event)] == contents(event)
