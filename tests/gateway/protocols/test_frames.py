"""AWS's binary frames: whole and undamaged ones come out, however they are cut; anything else is refused."""

from __future__ import annotations

import struct
from binascii import crc32

import pytest
from hypothesis import given, strategies as st

from gateway.protocols.base import BadReply, Origin
from gateway.protocols.canonical import Message, Request, Text, ToolCall
from gateway.protocols.converse.frames import Frames, read_frame
from tests.gateway.protocols.dialects import INBOUND, collected, deltas
from tests.gateway.protocols.eventstream import event, frame
from tests.gateway.protocols.test_streams import cut

HEADERS = st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=40), max_size=4)


@given(sent=st.lists(st.tuples(HEADERS, st.binary(max_size=90)), max_size=4), at=st.lists(st.integers(0, 999)))
def test_frames_come_out_as_they_were_sent_however_they_are_cut(sent, at):
    framer = Frames(10_000)
    stream = b"".join(frame(headers, payload) for headers, payload in sent)
    found = [read_frame(one) for piece in cut(stream, at) for one in framer.feed(piece)]
    assert found == sent
    assert framer.rest() == []


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_one_wrong_bit_anywhere_is_found(at, bit):
    data = bytearray(event("messageStop", b'{"stopReason":"end_turn"}'))
    data[at % len(data)] ^= 1 << bit
    framer = Frames(10_000)
    with pytest.raises(ValueError, match=r"damaged|longer|ended"):
        assert framer.feed(bytes(data)) == framer.rest() == []


def test_a_frame_that_is_too_long_is_refused_by_its_head():
    with pytest.raises(ValueError, match="one frame is longer than 100 bytes"):
        Frames(100).feed(event("messageStop", b" " * 100)[:12])


@pytest.mark.parametrize(("length", "headers"), [(16, 1), (0, 0), (15, 0)])
def test_a_head_that_fits_its_sum_but_not_itself_is_refused(length, headers):
    prelude = struct.pack(">II", length, headers)
    with pytest.raises(ValueError, match="headers of a frame are longer"):
        Frames(100).feed(prelude + struct.pack(">I", crc32(prelude)))


def test_a_stream_that_ends_in_a_frame_is_refused():
    framer = Frames(10_000)
    assert framer.feed(event("messageStop", b"{}")[:-1]) == []
    with pytest.raises(ValueError, match="in the middle of a frame"):
        framer.rest()


def test_headers_of_every_kind_are_passed_over():
    values = b"".join(
        b"\x01" + name + bytes([kind]) + value
        for name, kind, value in [
            (b"a", 0, b""), (b"b", 1, b""), (b"c", 2, b"x"), (b"d", 3, b"xx"), (b"e", 4, b"x" * 4), (b"f", 5, b"x" * 8),
            (b"g", 6, b"\x00\x02xx"), (b"h", 8, b"x" * 8), (b"i", 9, b"x" * 16), (b"j", 7, b"\x00\x02ok"),
        ]
    )  # fmt: skip
    whole = struct.pack(">III", 16 + len(values), len(values), 0) + values + b"\0\0\0\0"
    assert read_frame(whole).headers == {"j": "ok"}


@pytest.mark.parametrize("headers", [b"\x01a\x0a", b"\x09a", b"\x01a\x07\x00\x09x", b"\x01\xff\x00"])
def test_headers_that_cannot_be_read_are_a_bad_reply(headers):
    with pytest.raises(BadReply):
        read_frame(struct.pack(">III", 16 + len(headers), len(headers), 0) + headers + b"\0\0\0\0")


def test_a_piece_without_its_index_is_the_first_blocks_and_the_end_of_another_ends_none_of_it():
    """Found by atheris: the end of block 1 ended the call of block 0, whose next arguments then had no place."""
    start = b'{"contentBlockIndex":%d,"start":{"toolUse":{"toolUseId":"t%d","name":"f"}}}'
    data = b"".join(
        [
            event("messageStart", b'{"role":"assistant"}'),
            event("contentBlockStart", start % (0, 0)),
            event("contentBlockStart", start % (1, 1)),
            event("contentBlockDelta", b'{"delta":{"toolUse":{"input":"{"}}}'),
            event("contentBlockStop", b'{"contentBlockIndex":1}'),
            event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"toolUse":{"input":"}"}}}'),
            event("messageStop", b'{"stopReason":"tool_use"}'),
        ]
    )
    found = deltas("bedrock", [data])
    for inbound in INBOUND.values():
        writer = inbound.writer(Request([Message("user", [Text("x")])]), Origin("r", "m", 1))
        told = b"".join(map(writer.write, found)) + writer.end()
        assert told
    [choice] = collected(found).choices
    assert [block.arguments for block in choice.blocks if isinstance(block, ToolCall)] == ["{}", ""]
