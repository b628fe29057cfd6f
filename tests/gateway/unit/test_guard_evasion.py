"""Ways around a guard that are closed: places where nobody looks, words of other width, judges that say too little."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.copies.moderation import flagged
from gateway.errors import GatewayError
from gateway.guarded import Guarded, check_readable, in_arguments, repeated
from gateway.steps.guard import CheckFailed
from tests.gateway.unit.test_guarding import spec

PHONE = "13812345678"
SCHEMA = {"properties": {"url": {"type": "string", "description": PHONE}, "id": {"enum": [PHONE]}}}
HIDDEN: dict[str, dict[str, Any]] = {
    "an object in a place for names": {"messages": [{"role": "user", "content": "x", "id": {"text": PHONE}}]},
    "a role that is no word": {"messages": [{"role": f"user\n{PHONE}", "content": "x"}]},
    "a type that is no word": {"messages": [{"role": "user", "content": [{"type": f"a {PHONE}", "text": "x"}]}]},
    "what a schema says of names": {"tools": [{"type": "function", "function": {"parameters": SCHEMA}}]},
    "variables of a stored prompt": {"prompt": {"id": "p", "variables": {"id": PHONE, "data": f"at {PHONE}"}}},
    "metadata by any name": {"metadata": {"id": PHONE, "url": int(PHONE)}},
    "documents with names of their own": {"documents": [{"data": {"text": PHONE}}, {"url": PHONE, "id": PHONE}]},
}


@pytest.mark.parametrize("where", HIDDEN)
def test_there_is_no_place_to_hide(where: str) -> None:
    guarded = Guarded(spec(prompt={"personal": ["phone"]}))
    assert PHONE not in json.dumps(guarded.screen(HIDDEN[where]))


def test_what_is_no_text_stays_as_it_is() -> None:
    media = {"type": "image_url", "image_url": {"url": f"https://example.com/{PHONE}", "detail": "low"}}
    call = {"id": f"call-{PHONE}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    document = {
        "messages": [{"role": "user", "content": [media]}, {"role": "assistant", "tool_calls": [call]}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": ["object", "null"]}}},
    }
    assert Guarded(spec(prompt={"personal": ["phone"]})).screen(document) is document


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"a": 1, "b": {"a": 2}}', None),
        (b'{"a": 1, "a": 2}', "a"),
        (b'{"messages": [{"content": "bad", "content": "good"}]}', "content"),
        (b'{"a": 1, "\\u0061": 2}', "a"),
        (b'{"big": ' + b"9" * 5000 + b"}", None),
    ],
)
def test_a_member_that_comes_twice_is_noticed(body: bytes, name: str | None) -> None:
    assert repeated(body) == name
    if name is not None:
        with pytest.raises(GatewayError, match=f"'{name}' comes twice"):
            check_readable(json.loads(body), body)


@pytest.mark.parametrize(
    ("document", "param"),
    [
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": ["text", [1, 2]]}, "prompt"),
        ({"input": [[1, 2], [3]]}, "input"),
        ({"prompt": "", "prompt_embeds": "AAAA"}, "prompt_embeds"),
        ({"prompt": ["a", "b"], "input": [{"role": "user"}]}, None),
    ],
)
def test_tokens_and_vectors_are_not_taken_for_text(document: dict[str, Any], param: str | None) -> None:
    body = json.dumps(document).encode()
    if param is None:
        check_readable(document, body)
        return
    with pytest.raises(GatewayError) as caught:
        check_readable(document, body)
    assert (caught.value.code, caught.value.param) == ("caller_bad_request", param)


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(GatewayError, match="nested too deeply"):
        check_readable({}, b"[" * 100_000 + b"]" * 100_000)


def test_arguments_of_a_tool_keep_the_member_that_was_looked_at() -> None:
    text = f'{{"to": "{PHONE}", "to": "ok"}}'
    assert json.loads(in_arguments(text, lambda one: one), object_pairs_hook=list) == [("to", "ok")]
    assert in_arguments('{ "to": "ok" }', lambda one: one) == '{ "to": "ok" }'


@pytest.mark.parametrize("text", ["ｆａｌｃｏｎ", "ＦａLcｏＮ", "Falcon", "１２-b", "12－Ｂ", "x [ｙ]", "x　[y］"])
def test_a_word_is_found_in_letters_of_any_width(text: str) -> None:
    for words in (["falcon", "12-B", "x [y]"], ["ｆａｌｃｏｎ", "１２－Ｂ", "x　［y］"]):
        with pytest.raises(GatewayError, match="a word that is not allowed"):
            Guarded(spec(prompt={"keywords": words})).screen({"messages": [{"content": f"say {text} now"}]})


def moderation(*results: dict[str, Any]) -> bytes:
    return json.dumps({"results": results}).encode()


FINE, BAD = {"flagged": False, "category_scores": {"hate": 0.1}}, {"flagged": True, "category_scores": {"hate": 0.9}}


@pytest.mark.parametrize("threshold", [None, 0.7])
def test_a_moderation_must_tell_of_each_text(threshold: float | None) -> None:
    assert flagged(moderation(FINE, BAD), threshold, 2)
    assert not flagged(moderation(FINE, FINE), threshold, 2)
    for some in ([FINE], [FINE, FINE, FINE], [], [FINE, {}], [FINE, "fine"]):
        with pytest.raises(CheckFailed):
            flagged(moderation(*some), threshold, 2)


@pytest.mark.parametrize("scores", [{}, {"hate": "nan"}, {"hate": True}, {"hate": None}])
def test_a_moderation_without_scores_is_none_where_scores_count(scores: dict[str, Any]) -> None:
    with pytest.raises(CheckFailed):
        flagged(moderation({"flagged": False, "category_scores": scores}), 0.7, 1)
