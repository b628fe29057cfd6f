"""A form is read the same however it arrives, and one that two parsers could read differently is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from gateway.errors import GatewayError
from gateway.protocols.multipart import FIELD_BYTES, Form
from tests.fakes.forms import TYPE, File, form

BODY = form(model="x/whisper", language="中文", file=File(b"RIFF\r\n--other\r\n\r\n-\0\xff" * 9), prompt="a\r\n--b")


def read(body: bytes, at: list[int] = [], kind: bytes = TYPE) -> Form:  # noqa: B006 - never changed
    found = Form(kind)
    borders = sorted({0, len(body), *(place % (len(body) + 1) for place in at)})
    for a, b in pairwise(borders):
        found.feed(body[a:b])
    return found


@given(at=st.lists(st.integers(0, 1000), max_size=20))
def test_any_cut_of_a_form_gives_the_same_fields_in_the_same_places(at):
    found = read(BODY, at)
    found.end()
    assert found.fields == {"model": "x/whisper", "language": "中文", "prompt": "a\r\n--b"}
    span = found.spans["model"]
    assert BODY[span.start : span.end] == b"x/whisper"
    assert found.file_begun


def test_byte_by_byte_the_fields_are_known_before_the_file_and_it_is_not_kept():
    body = form(model="m", file=File(b"x" * 100_000))
    found, largest = Form(TYPE), 0
    for at in range(len(body)):
        found.feed(body[at : at + 1])
        largest = max(largest, len(found._buffer))
        if found.file_begun:
            assert found.fields == {"model": "m"}
    found.end()
    assert largest < 1000


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "breaks off"),
        (BODY[:-4], "breaks off"),
        (b"hello" * 50, "does not begin with its boundary"),
        (b"\n" + BODY, "does not begin with its boundary"),
        (form(("model", "a"), ("model", "b")), "occurs twice"),
        (form(("model", "a"), ("file", File(b"x")), ("model", "b")), "occurs twice"),
        (form(model=File(b"a")), "must be a field"),
        (BODY.replace(b"\r\n--XyZ\r\n", b"\n--XyZ\r\n", 1), "inside a part"),
        (BODY.replace(b"\r\n--XyZ\r\n", b"\r\n--XyZ \r\n", 1), "inside a part"),
        (BODY.replace(b"RIFF", b"--XyZ"), "inside a part"),
        (BODY.replace(b'name="model"', b'name*="model"'), "no plain `name`"),
        (BODY.replace(b'name="model"', b'name="mod\\"el"'), "no plain `name`"),
        (BODY.replace(b'name="model"', b'name="x"; name="model"'), "no plain `name`"),
        (BODY.replace(b"Content-Disposition: form-data; ", b"X: ", 1), "no plain `name`"),
        (BODY.replace(b"Content-Disposition", b"Content-Disposition ", 1), "malformed"),
        (BODY.replace(b"Content-Disposition", b"X: 1\nContent-Disposition", 1), "malformed"),
        (BODY.replace(b"Content-Disposition", b"Content-Disposition: a\r\nContent-Disposition", 1), "two"),
        (BODY.replace(b"Content-Disposition", b"Content-Transfer-Encoding: base64\r\nContent-Disposition", 1), "taken"),
        (BODY.replace(b"Content-Disposition", b"X: %b\r\nContent-Disposition" % (b"y" * 9000), 1), "too long"),
        (form(prompt="x" * (FIELD_BYTES + 10_000)), "longer than"),
        (BODY.replace("中文".encode(), b"\xff\xfe"), "not UTF-8"),
        (form(*((f"f{n}", "x") for n in range(1100))), "more than 1000 parts"),
    ],
)
def test_what_is_no_form_or_an_ambiguous_one_is_refused(body, told):
    with pytest.raises(GatewayError, match=told) as caught:
        read(body, list(range(0, len(body), 4096))).end()
    assert caught.value.code == "caller_bad_request"


@pytest.mark.parametrize("kind", [b"", b"application/json", b"multipart/form-data", b"multipart/mixed; boundary=x"])
def test_another_content_type_is_415(kind):
    with pytest.raises(GatewayError) as caught:
        Form(kind)
    assert caught.value.status == 415


@pytest.mark.parametrize(
    "kind", [b'multipart/form-data; boundary="XyZ"', b"Multipart/Form-Data;charset=a; boundary=XyZ"]
)
def test_a_boundary_may_be_quoted_and_follow_other_parameters(kind):
    read(BODY, kind=kind).end()


@given(
    st.lists(st.sampled_from([b"--XyZ", b"\r\n", b"--", b"\n", b'Content-Disposition: form-data; name="model"', b"a"]))
)
def test_any_bytes_are_a_form_or_refused(pieces):
    found = Form(TYPE)
    try:
        for piece in pieces:
            found.feed(piece)
        found.end()
    except GatewayError:
        pass
