"""A long body is searched a window at a time, and nothing is found elsewhere, or not at all, for that."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from gateway import search
from gateway.search import LONG, finder

MARK = b'"model"'


@given(data=st.binary(max_size=60), mark=st.binary(min_size=1, max_size=4), start=st.integers(0, 70))
def test_windows_find_what_one_search_finds(data, mark, start):
    real, search.LONG = search.LONG, 7
    try:
        assert finder(data)(mark, start) == data.find(mark, start)
    finally:
        search.LONG = real


@pytest.mark.parametrize("size", [LONG - 1, LONG, LONG + 1, 3 * LONG])
@pytest.mark.parametrize("place", [0, 100, LONG - 8, LONG - 7, LONG - 6, LONG - 1, LONG, 2 * LONG - 10, 3 * LONG - 7])
def test_a_mark_is_found_wherever_a_window_ends(size, place):
    data = bytearray(b"x" * size)
    data[place : place + len(MARK)] = MARK
    body = bytes(data)
    assert finder(body)(MARK, 0) == body.find(MARK) >= 0
    assert finder(body)(MARK, place + 1) == -1
