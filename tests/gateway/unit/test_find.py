"""Usage is found by searching bytes, and never where it only looks like usage."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, strategies as st

from gateway.streaming.find import last_object

TEXT = st.text(max_size=10) | st.sampled_from(['"usage":{}', '"usage":{"prompt_tokens":1}', "usage", "\\"])
NUMBERS = st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.integers(0, 10**9) | st.none(), max_size=4)
USAGE = st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.integers(0, 10**9) | NUMBERS, max_size=4)


@given(usage=USAGE, before=TEXT, after=TEXT, indent=st.sampled_from([None, 2]))
def test_the_usage_object_is_found_wherever_it_stands(usage, before, after, indent):
    document = {"id": before, "usage": usage, "choices": [{"text": after}]}
    assert last_object(json.dumps(document, indent=indent).encode()) == usage


@given(first=USAGE, last=USAGE)
def test_of_several_the_last_one_counts(first, last):
    events = b"".join(b"data: " + json.dumps({"usage": usage}).encode() + b"\n\n" for usage in (first, last, None))
    assert last_object(events) == last


@given(text=TEXT)
def test_a_text_that_speaks_of_usage_is_no_usage(text):
    assert last_object(json.dumps({"content": text}).encode()) is None


@given(data=st.lists(st.sampled_from([b'"usage"', b":", b"{", b"}", b"1", b'"', b",", b" "]), max_size=40))
def test_no_bytes_whatever_raise(data):
    last_object(b"".join(data))


@pytest.mark.parametrize(
    "data",
    [
        b'"usage":{' * 20_000,
        b'"usage":{' + b"{}" * 200_000,
        b'"usage":{' + b"{{}" * 100_000,
        b'"usage":' + b" " * 500_000,
        b'"usage"' * 50_000,
    ],
    ids=["nested", "pairs", "ladder", "spaces", "keys"],
)
def test_a_hostile_reply_costs_no_more_than_its_length(data):
    began = time.process_time()
    assert last_object(data) is None
    assert time.process_time() - began < 1.0
