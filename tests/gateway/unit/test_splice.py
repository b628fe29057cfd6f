"""A spliced body is the client's own bytes but for the value that had to change."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import assume, given, strategies as st

from gateway.errors import GatewayError
from gateway.providers.splice import replace_model, rewrite

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["model", '"model"', "\\", '\\"model\\":', "{", "}", "中文", "\U0001f600"]
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)
STYLES = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, 0, 2, "\t"]),
        "separators": st.sampled_from([(",", ":"), (" , ", " : "), (",\r\n", ":\t")]),
    }
)


def encode(members: list[tuple[str, object]], style: dict) -> bytes:
    """An object of these members in this order, so that a key can come twice."""
    inner = style["separators"][0].join(
        json.dumps(k, ensure_ascii=style["ensure_ascii"]) + style["separators"][1] + json.dumps(v, **style)
        for k, v in members
    )
    return (" \n{ " + inner + " }\t").encode()


@given(document=OBJECTS, style=STYLES, new=VALUES, other=VALUES, at=st.integers(0, 5))
def test_rewriting_changes_the_parsed_document_in_these_members_only(document, style, new, other, at):
    members = list(document.items())
    members.insert(at, ("model", "old"))
    assume("model" not in document)
    body = encode(members, style)
    replace = {"model": orjson.dumps(new, option=orjson.OPT_PASSTHROUGH_SUBCLASS) if _fits(new) else b"1"}
    if "stream_options" in document:
        replace["stream_options"] = json.dumps(other).encode()

    out = b"".join(rewrite(body, replace))

    expected = {**json.loads(body), **{name: json.loads(value) for name, value in replace.items()}}
    assert json.loads(out) == expected
    assert list(json.loads(out)) == list(json.loads(body)), "the order stays"


def _fits(value: object) -> bool:
    """Whether orjson can encode it: it takes no integer of more than 64 bits."""
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


@given(document=OBJECTS, style=STYLES, old=TEXT, new=TEXT, at=st.integers(0, 5))
def test_replacing_the_model_leaves_every_other_byte_alone(document, style, old, new, at):
    document.pop("model", None)
    members = list(document.items())
    members.insert(at, ("model", old))
    body = encode(members, style)

    pieces = replace_model(body, orjson.dumps(old), orjson.dumps(new))

    out = b"".join(pieces)
    assert json.loads(out) == {**document, "model": new}
    if new == old:
        return  # either it was left as it came, or its spelling was normalised
    before, after = pieces[0], pieces[-1]
    assert body.startswith(before)
    assert body.endswith(after)
    assert out == before + orjson.dumps(new) + after


@pytest.mark.parametrize(
    "body",
    [
        b'{"mod\\u0065l":"a"}',
        b'{"tools":[{"model":"a"}],"model":"a"}',
        b'{"model":"\\u0061"}',
        '{"x":"中文 \\"model\\":\\"a\\"","model":"a"}'.encode(),
        b'{"model" \r\n:\t"a"}',
        b'{"x":"model","model":"a"}',
        b'{"metadata":{"mod\\u0065l":"b"},"model":"a"}',
    ],
)
def test_the_model_is_found_however_it_is_spelt(body):
    out = json.loads(b"".join(replace_model(body, b'"a"', b'"new"')))
    assert out == {**json.loads(body), "model": "new"}


@pytest.mark.parametrize("body", [b'{"model":"a","model":"b"}', b'{"model":"a","mod\\u0065l":"b"}'])
def test_a_model_that_is_given_twice_is_refused_since_readers_disagree_about_it(body):
    with pytest.raises(GatewayError, match="twice") as caught:
        replace_model(body, b'"a"', b'"new"')
    assert (caught.value.code, caught.value.param) == ("caller_bad_request", "model")


def test_numbers_keep_their_spelling():
    body = b'{"temperature":1.0e-2,"seed":12345678901234567890123,"model":"a","x":0.10000000000000000001}'
    assert b"".join(replace_model(body, b'"a"', b'"b"')) == body.replace(b'"a"', b'"b"')


def test_a_member_that_is_absent_is_left_absent():
    assert rewrite(b'{"a":1}', {"model": b"2"}) == [b'{"a":1}']
