"""What the request log must not hold: each kind is found however it is spelt, and what only looks alike stays."""

from __future__ import annotations

import json
import time
from typing import get_args

import orjson
import pytest

from gateway.contract.patterns import Redaction, check_pattern
from gateway.copies.render import render
from gateway.redact import WINDOW, Redactor

ALL = Redactor(get_args(Redaction), ())


def redacted(text: str, redactor: Redactor = ALL) -> str:
    return redactor.redact(text, {})


FOUND = {
    "email": ["alice@example.com", "a.b+c-d@ex-ample.co.uk"],
    "phone": [
        "13812345678", "138 1234 5678", "138-1234-5678", "+86 13812345678", "8613812345678", "+86-138-1234-5678",
        "010-12345678", "0755 12345678", "+1 (415) 555-2671", "+44 20 7946 0958", "415-555-2671", "(415) 555-2671",
        "\\n13812345678", "１３８１２３４５６７８",
    ],
    "id_card": ["11010519491231002X", "11010519491231002x", "440524188001010014"],
    "bank_card": [
        "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "6212262201023557228", "378282246310005",
    ],
    "secret": [
        "Bearer abcdefgh.ijkl_mnop", "bearer 0123456789abcdef", "Basic dXNlcjpwYXNz", "sk-tg-0123456789abcdef",
        "sk-proj-AbCdEfGhIjKlMnOp", "\\nsk-0123456789abcdef", "ghp_0123456789abcdef0123", "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_it_is_found_in_the_middle_of_a_text_and_only_if_asked_for(kind: Redaction, text: str) -> None:
    lead = "\\n" if text.startswith("\\n") else ""
    secret = text.removeprefix("\\n")
    for before, after in (("", ""), ("我的号码是", "，谢谢"), ("(", ")"), ('"', '"'), ("x: ", ". Then more.")):
        counts: dict[str, int] = {}
        assert Redactor((kind,), ()).redact(f"{before}{text}{after}", counts) == f"{before}{lead}[{kind}]{after}"
        assert counts == {kind: 1}
        assert secret not in redacted(f"{before}{text}{after}")
    others: tuple[Redaction, ...] = tuple(one for one in get_args(Redaction) if one != kind)
    assert f"[{kind}]" not in redacted(text, Redactor(others, ()))
    assert redacted(text, Redactor((), ())) == text


LEFT_ALONE = [
    "", "user@localhost", "a @ b.c", "1730000000", "1730000000123", "110105194912310021", "11010519490231002X1",
    "4111111111111112", "12345678901", "a task-oriented-dialogue-system", "20261124-120000", "v1.2.3-4567",
    "the bearer of this letter", "3.14159265358979",
]  # fmt: skip


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_what_only_looks_alike_stays(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize("offset", [*range(WINDOW - 25, WINDOW + 3), 2 * WINDOW - 5])
def test_nothing_hides_at_the_border_of_two_windows(offset: int) -> None:
    for kind, texts in FOUND.items():
        text = texts[0]
        assert redacted(f"{'. ' * (offset // 2)}{text} end", ALL) == f"{'. ' * (offset // 2)}[{kind}] end"


def test_own_patterns_come_after_the_others() -> None:
    redactor = Redactor(("phone",), (r"EMP-\d{6}", r"客户[A-Z]{2,4}"))
    counts: dict[str, int] = {}
    assert redactor.redact("EMP-123456 客户ABC 13812345678", counts) == "[custom] [custom] [phone]"
    assert counts == {"custom": 2, "phone": 1}


BAD = [
    r"(a+)+$", r"a*", r"a+", r".*secret", r"(?=a)b", r"(?<=a)b", r"(a)\1b", r"(", r"[a", "", r"a?", r"(a|aa){1,20}b",
    r"(a?){30}a{30}", r"a{0,1000}b", r"(?:(?:x{0,15}){0,15}){0,15}y", r"(?>ab)", r"a{1,5}+b", "a{99999999999}",
    r"(?:)*a", r"(\d{1,20}){1,10}x",
]  # fmt: skip


@pytest.mark.parametrize("pattern", BAD)
def test_a_pattern_that_could_take_long_or_is_none_is_refused_with_the_reason(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"regular expression|matches nothing|more than|look-around"):
        check_pattern(pattern)


WORST = [r"(a|b|ab){1,4}c", r"(?:x?y?z?){1,2}!", r"\w{1,200}!", r".{0,200}!", r"a{0,15}a{0,15}!"]


@pytest.mark.parametrize("pattern", WORST)
def test_the_worst_patterns_that_are_allowed_take_little_on_the_worst_text(pattern: str) -> None:
    redactor = Redactor((), (check_pattern(pattern),))
    for text in ("a" * 65_536, "ab" * 32_768, "xyz" * 20_000):
        began = time.process_time()
        assert redactor.redact(text, {}) == text
        assert time.process_time() - began < 3.0


@pytest.mark.parametrize("piece", ["1", "a@", "+1", "sk-", "eyJ", "Bearer "])
def test_hostile_texts_take_little_too(piece: str) -> None:
    began = time.process_time()
    redacted(piece * (262_144 // len(piece)))
    assert time.process_time() - began < 3.0


# ---- bodies


def rendered(raw: bytes, cut: bool = False, most: int = 100_000) -> tuple[str, bool, dict[str, int]]:
    counts: dict[str, int] = {}
    text, was_cut = render(raw, cut, ALL, most, counts)
    return text, was_cut, counts


def test_json_is_redacted_as_it_reads_and_stays_json() -> None:
    body = {
        "messages": [{"role": "user", "content": "call 13812345678"}], "n": 13812345678, "created": 1730000000,
        "arguments": json.dumps({"text": "\n13812345678"}), "alice@example.com": True, "f": 1.5, "none": None,
    }  # fmt: skip
    escaped = json.dumps(body).replace("13812345678", "\\u0031381234567\\u0038", 1)
    text, cut, counts = rendered(escaped.encode())
    assert "1381234" not in text
    assert not cut
    assert counts == {"phone": 3, "email": 1}
    document = json.loads(text)
    assert document["messages"] == [{"role": "user", "content": "call [phone]"}]
    assert (document["created"], document["n"], document["[email]"], document["f"]) == (
        1730000000,
        "[phone]",
        True,
        1.5,
    )


def sse(*chunks: object) -> bytes:
    return b"".join(b"data: " + (c if isinstance(c, bytes) else orjson.dumps(c)) + b"\n\n" for c in chunks)


def delta(index: int = 0, **fields: object) -> dict[str, object]:
    return {"id": "c1", "choices": [{"index": index, "delta": fields, "finish_reason": None}]}


def test_a_stream_is_put_together_so_that_no_secret_is_hidden_in_pieces() -> None:
    raw = sse(
        delta(role="assistant", content=""),
        *(delta(content=piece) for piece in ("my ", "num", "ber 138", "1234", "5678")),
        delta(tool_calls=[{"index": 0, "id": "t1", "function": {"name": "mail", "arguments": '{"to":"bob@'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": 'example.com"}'}}]), delta(1, content="two"),
        {"choices": [], "usage": {"total_tokens": 7}}, b"[DONE]",
    )  # fmt: skip
    text, cut, counts = rendered(raw)
    document = json.loads(text)
    assert (cut, counts) == (False, {"phone": 1, "email": 1})
    first, second = document["choices"]
    assert first["delta"]["content"] == "my number [phone]"
    assert first["delta"]["tool_calls"][0]["function"] == {"name": "mail", "arguments": '{"to":"[email]"}'}
    assert (second["delta"]["content"], document["usage"]) == ("two", {"total_tokens": 7})


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\xff\xfe\x00", b"null", b"[" * 900 + b"]" * 900, b"data: {broken\n\ndata: 7\n\n: ping\n\n",
        b'{"a":"\\ud800"}', sse({"choices": {"a": 1}}, {"choices": [{"delta": {}}]}),
        sse({"choices": [1, {"index": []}, {"index": {}, "delta": 3}]}, {"choices": [{"delta": {"content": "x"}}]}),
    ],
)  # fmt: skip
def test_any_bytes_become_some_text(raw: bytes) -> None:
    text, _, _ = rendered(raw)
    assert json.loads(json.dumps(text)) == text
    text.encode()


def test_what_cannot_be_parsed_is_redacted_all_the_same() -> None:
    whole = json.dumps({"text": "mail alice@example.com, call\n13812345678 now", "rest": "x" * 100}).encode()
    text, cut, counts = rendered(whole[:-20], cut=True)
    assert cut
    assert counts == {"phone": 1, "email": 1}
    assert "alice@" not in text
    deep, _, counts = rendered(b'{"a":' * 500 + b'"13812345678"' + b"}" * 500)
    assert "[phone]" in deep
    assert counts == {"phone": 1}


def test_a_text_is_cut_at_whole_characters() -> None:
    text, cut, _ = rendered(json.dumps("汉" * 200, ensure_ascii=False).encode(), most=256)
    assert cut
    assert len(text.encode()) <= 256
    assert set(text) == {'"', "汉"}
