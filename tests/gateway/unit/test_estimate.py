"""Estimates of large prompts: texts by their bytes, media at a flat rate, tools by their JSON."""

from __future__ import annotations

import orjson

from gateway.api.body import IMAGE_TOKENS, WALK_ABOVE, measure, prompt_estimate, tools_estimate

LARGE = b" " * (WALK_ABOVE + 1)
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def test_texts_count_by_their_bytes_however_deep_they_are():
    assert measure("a" * 8) == 3
    assert measure("你" * 4) == 4, "twelve bytes"
    assert measure([{"role": "user", "content": [{"text": "a" * 8}]}]) == measure("user") + 3
    assert measure([None, 7, True, 1.5]) == 3


def test_media_count_at_a_flat_rate_whatever_their_size():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    assert measure([image, {"text": "a" * 8}]) == IMAGE_TOKENS + 3


def test_tools_of_a_large_prompt_count_by_their_json():
    assert tools_estimate(TOOLS) == len(orjson.dumps(TOOLS)) // 4 > 0
    assert tools_estimate(None) == 0
    assert prompt_estimate(LARGE, "a" * 8, tools=TOOLS) == 3 + tools_estimate(TOOLS)


def test_a_small_prompt_is_a_quarter_of_its_bytes():
    assert prompt_estimate(b"x" * 400, "a" * 8, tools=TOOLS) == 100
