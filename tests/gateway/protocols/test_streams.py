"""Whatever is said, and however its bytes are cut on their way, the same answer arrives; nothing else than BadReply
or ValueError comes out of bytes that are none."""

from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings, strategies as st

from gateway.protocols.base import BadReply, Origin
from gateway.protocols.canonical import Message, Request, Text
from gateway.protocols.collect import deltas_of
from tests.gateway.protocols.conversations import heard, in_members, streams
from tests.gateway.protocols.dialects import INBOUND, SPOKEN, collected, deltas

REQUEST = Request([Message("user", [Text("Hello")])], include_usage=True)
ORIGIN = Origin("req-1", "a-model", 1_790_000_000)


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    borders = sorted({0, len(stream), *(place % (len(stream) + 1) for place in at)})
    return [stream[a:b] for a, b in pairwise(borders)]


@pytest.mark.parametrize("name", INBOUND)
@settings(max_examples=100, deadline=None)
@given(data=st.data(), at=st.lists(st.integers(0, 100_000), max_size=12))
def test_what_a_writer_tells_its_reader_collects_to_the_same_answer_however_it_is_cut(name, data, at):
    given_deltas = data.draw(streams(1 if name in ("responses", "anthropic") else 2))
    writer = INBOUND[name].writer(REQUEST, ORIGIN)
    stream = b"".join(map(writer.write, given_deltas)) + writer.end()
    assert collected(deltas(name, cut(stream, at))) == heard(name, collected(given_deltas))


@pytest.mark.parametrize("name", INBOUND)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_whole_answer_says_what_its_stream_says(name, data):
    said = heard(name, collected(data.draw(streams(1))))
    writer = INBOUND[name].writer(REQUEST, ORIGIN)
    whole = orjson.loads(INBOUND[name].write_reply(said, REQUEST, ORIGIN))
    read = SPOKEN[name].dialect.read_reply(whole, SPOKEN[name].usage)
    stream = b"".join(map(writer.write, deltas_of(said))) + writer.end()
    told = collected(deltas(name, [stream]))
    assert read == told if name != "openai" else in_members(read) == in_members(told)


@pytest.mark.parametrize("name", SPOKEN)
@settings(max_examples=100, deadline=None)
@given(pieces=st.lists(st.binary(max_size=60), max_size=6))
def test_random_bytes_are_no_answer(name, pieces):
    with pytest.raises((BadReply, ValueError)):
        deltas(name, pieces)
