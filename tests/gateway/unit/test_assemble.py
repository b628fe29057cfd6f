"""The kept body of a stream is the whole message, in every dialect that clients speak, also of one that broke off."""

from __future__ import annotations

import orjson
import pytest

from gateway.copies.assemble import assembled
from tests.gateway.protocols.dialects import SPOKEN, collected, deltas
from tests.gateway.protocols.golden import having, load, rendered
from tests.matrix.anthropic_vendor import AnthropicVendor
from tests.matrix.gemini_vendor import GeminiVendor
from tests.matrix.responses_vendor import ResponsesVendor
from tests.matrix.told import Call, Said

DIALECTS = ("anthropic", "gemini", "responses")
CASES = [case for case in having("stream") if case.partition("/")[0] in DIALECTS]
VENDORS = {"anthropic": AnthropicVendor(), "gemini": GeminiVendor(), "responses": ResponsesVendor()}
SAID = Said("Hello, 世界: call 13812345678", reasoning="Let me think.", signature="c2ln",
            calls=(Call("c1", "get", {"city": "北京"}),), finish="tool_calls")  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_golden_stream_assembles_to_what_its_reader_reads(case):
    kind = case.partition("/")[0]
    events = rendered(kind, load(case)["stream"])
    dialect, usage = SPOKEN[kind]
    whole = dialect.read_reply(assembled(b"".join(events)), usage)
    told = collected(deltas(kind, events))
    assert [choice.blocks for choice in whole.choices] == [choice.blocks for choice in told.choices]
    assert whole.usage == told.usage


@pytest.mark.parametrize("kind", DIALECTS)
def test_of_a_stream_that_broke_off_everything_so_far_is_there_in_one_piece(kind):
    events = VENDORS[kind].events(SAID, "m")
    for end in range(1, len(events) + 1):
        text = orjson.dumps(assembled(b"".join(events[:end]))).decode()
        so_far = "".join(SAID.pieces(SAID.text))
        assert "unreadable" not in text
        if end == len(events):
            assert so_far in text
            assert SAID.reasoning in text
            assert "city" in text


def test_half_of_a_text_is_one_text():
    kinds = {
        "anthropic": (AnthropicVendor(), lambda whole: whole["content"][0]["text"]),
        "gemini": (GeminiVendor(), lambda whole: whole["candidates"][0]["content"]["parts"][0]["text"]),
        "responses": (ResponsesVendor(), lambda whole: whole["output"][0]["content"][0]["text"]),
    }
    for vendor, read in kinds.values():
        events = vendor.events(Said("One two three four five six seven eight."), "m")
        told = [
            read(whole) for end in range(len(events)) if "One" in str(whole := assembled(b"".join(events[: end + 1])))
        ]
        assert len(set(told)) > 2, told
        assert all("One two three four five six seven eight.".startswith(text) for text in told), told


@pytest.mark.parametrize(
    "chunk",
    [
        {"type": "message_start", "message": []},
        {"type": "content_block_delta", "index": -1, "delta": 3},
        {"type": "content_block_delta", "index": 10**9, "delta": {"type": "text_delta", "text": 1}},
        {"type": "message_delta", "delta": None, "usage": []},
        {"type": "response.output_text.delta", "output_index": "x", "content_index": 99_999, "delta": {}},
        {"type": "response.output_item.done", "item": None},
        {"candidates": [1, {"content": {"parts": [None, {"text": 3}]}}]},
        {"type": []},
    ],
)
def test_what_is_not_as_its_dialect_says_is_no_error(chunk):
    for first in (b"", b'data: {"type":"message_start"}\n\n', b'data: {"type":"response.created","response":1}\n\n'):
        assembled(first + b"data: %b\n\n" % orjson.dumps(chunk) * 2)
