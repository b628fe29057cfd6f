"""The rules of a guard: the same finds however a text is cut, masks that stand for one thing, nothing overlooked."""

from __future__ import annotations

import itertools
import json
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings, strategies as st

from gateway.contract import guard as wire
from gateway.contract.patterns import Redaction
from gateway.errors import GatewayError
from gateway.guarded import Guard, Guarded, in_arguments
from gateway.protocols.canonical import (
    Block,
    BlockEnd,
    Choice,
    CitationDelta,
    Delta,
    Finished,
    Reply,
    Start,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolDelta,
    ToolStart,
)  # fmt: skip
from gateway.protocols.collect import Collector, deltas_of
from gateway.redact import BUILT_IN, Rule, Scan, keyword_rule, own_rule, replaced
from gateway.streaming.guarding import Gate

KINDS = get_args(Redaction)
PRIVATE = {
    "email": ["alice@example.com", "wang.wei@example.com.cn"],
    "phone": ["13812345678", "138 1234 5678", "+86-138-1234-5678", "(415) 555-2671", "１３８１２３４５６７８"],
    "id_card": ["11010519491231002X", "440524188001010014"],
    "bank_card": ["4111 1111 1111 1111", "6212262201023557228"],
    "secret": ["Bearer abcdefgh.ijkl_mnop", "sk-proj-AbCdEfGhIjKlMnOp", "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM"],
}
RULES: list[Rule] = [
    *BUILT_IN.values(),
    own_rule("pattern", r"EMP-\d{6}"),
    own_rule("pattern", r"^项目|\bend$|\b[a-c]{2,9}\b"),
    keyword_rule(["机密", "top secret", "ſecret", "top"]),
]
NOISE = ["1", "12", " ", "-", "+", "a", "ab", "@", ".", "\n", "\\n", "x", "X", "sk-", "Bearer ", "Basic  ", "ey", "J",
         "(", ")", "top ", "secret", "EMP-", "项目", "机", "密", "。", "end", "１", "["]  # fmt: skip
TEXTS = st.lists(st.sampled_from([*NOISE, *(one for some in PRIVATE.values() for one in some)]), max_size=12).map(
    "".join
)


def spec(**members: Any) -> Guard:
    return Guard(wire.Guard.model_validate(members), b"")


def cut(text: str, places: list[int]) -> list[str]:
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in itertools.pairwise(borders)]


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 500), max_size=25))
@example("Bearer abcdefgh.ijkl_mnop", [6, 7, 8])
@example("x Basic  sk-proj-AbCdEfGhIjKlMnOp.", [4, 8, 9, 20])
@example("a\\nsk-0123456789abcdef", [2, 3])
@example("1381234567812", [11])
@example("机密机密", [1, 2, 3])
def test_a_text_that_comes_in_pieces_is_found_like_the_whole(text: str, places: list[int]) -> None:
    for rule in RULES:
        whole = replaced(rule, text, lambda found: f"<{found}>")
        scan = Scan(rule, lambda found: f"<{found}>")
        told = "".join(scan.feed(piece) for piece in cut(text, places)) + scan.end()
        assert told == whole, rule.kind


@pytest.mark.parametrize(("kind", "text"), [(kind, one) for kind, some in PRIVATE.items() for one in some])
def test_letter_by_letter_nothing_of_it_is_told_early_and_prose_is_not_held(kind: str, text: str) -> None:
    scan = Scan(BUILT_IN[kind], lambda _: "#")  # type: ignore[index]
    told = ""
    for letter in f"我的号码是{text}，谢谢":
        told += scan.feed(letter)
        assert text[:7] not in told
    assert told + scan.end() == "我的号码是#，谢谢"
    for word in ("The ", "bearer ", "of ", "this ", "letter, ", "你好，", "世界。"):
        assert len(word) - len(scan.feed(word)) <= 14, "prose flows"


def pieces(delta: Delta, places: list[int]) -> list[Delta]:
    """A delta as an upstream may have sent it."""
    if isinstance(delta, TextDelta | ThinkingDelta):
        return [delta._replace(text=piece) for piece in cut(delta.text, places)] or [delta]
    if isinstance(delta, ToolDelta):
        return [delta._replace(arguments=piece) for piece in cut(delta.arguments, places)] or [delta]
    return [delta]


def streamed(guarded: Guarded, answer: Reply, places: list[int]) -> Reply:
    gate, collector = Gate(guarded), Collector()
    for delta in deltas_of(answer):
        for piece in pieces(delta, places):
            for told in gate.sift([piece]):
                collector.add(told)
    for told in gate.end():
        collector.add(told)
    return collector.reply


def block_of(kind: str, text: str) -> Block:
    if kind == "call":
        return ToolCall("c", "f", json.dumps({"a": text, text: [1, 13812345678]}))
    return Text(text) if kind == "text" else Thinking(text)


BLOCKS = st.lists(st.tuples(st.sampled_from(["text", "think", "call"]), TEXTS), max_size=4)


@settings(max_examples=150, deadline=None)
@given(BLOCKS, st.lists(st.integers(0, 500)), st.sampled_from(["mask", "block"]))
def test_any_cut_of_an_answer_gives_the_same_answer(
    blocks: list[tuple[str, str]], places: list[int], action: str
) -> None:
    guard = spec(answer={"personal": KINDS, "patterns": [r"EMP-\d{6}"], "patterns_action": action})
    one, other = Guarded(guard), Guarded(guard)
    told: list[Any] = []
    for guarded, ways in ((one, places), (other, [])):
        answer = Reply("1", "m", [Choice([block_of(*block) for block in blocks], "stop")])
        try:
            told.append(streamed(guarded, answer, ways).choices)
        except GatewayError as error:
            told.append(error.message)
    assert told[0] == told[1]
    assert one.blocked == other.blocked
    assert one.blocked or one.found_in_answer == other.found_in_answer


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), st.lists(st.integers(0, 500)), st.booleans())
@example(["[PHONE_1] 13812345678", "[PHONEX_2] alice@example.com"], [], True)
@example(["phone 13812345678 top 机密"], [12], False)
def test_what_a_model_repeats_of_a_masked_text_is_the_text_again(
    said: list[str], places: list[int], args: bool
) -> None:
    guard = spec(
        restore=True,
        prompt={"personal": KINDS, "keywords": ["机密", "phone", "top"], "keywords_action": "mask",
                "patterns": [r"EMP-\d{6}", '"x"'], "patterns_action": "mask"},
    )  # fmt: skip
    guarded = Guarded(guard)
    document = {"messages": [{"role": "user", "content": text} for text in said]}
    masked = guarded.screen(document)
    text = "".join(message["content"] for message in masked["messages"])
    block = ToolCall("c", "f", json.dumps([text])) if args else Text(text)
    answer = streamed(guarded, Reply("1", "m", [Choice([block], "stop")]), places)
    [back] = answer.choices[0].blocks or [Text("")]
    assert (json.loads(back.arguments)[0] if isinstance(back, ToolCall) else back.text) == "".join(said)


def test_masks_are_the_same_for_the_same_thing_and_unlike_what_stands_there() -> None:
    guarded = Guarded(spec(restore=True, prompt={"personal": ["phone", "email"]}))
    said = ["13812345678 and 13912345678", "again 13812345678, a@example.com", "[PHONE_1] [PHONEX_7]"]
    masked = guarded.screen({"input": said})["input"]
    assert masked == ["[PHONEXX_1] and [PHONEXX_2]", "again [PHONEXX_1], [EMAILXX_1]", "[PHONE_1] [PHONEX_7]"]
    assert guarded.found_in_prompt == {"phone": 3, "email": 1}
    assert b"138" not in guarded.fact() + guarded.line()


REQUESTS = {
    "chat": {"messages": [
        {"role": "user", "content": [{"type": "text", "text": "13812345678"},
                                     {"type": "image_url", "image_url": {"url": "data:13812345678"}}]},
        {"role": "assistant", "tool_calls": [{"id": "13812345678", "function": {
            "name": "f", "arguments": '{"to": "\\u00313812345678", "n": 13812345678}'}}]},
        {"role": "tool", "tool_call_id": "13812345678", "content": "13812345678"}]},
    "messages": {"system": "13812345678", "messages": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {"id": 13812345678}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "13812345678"}]},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "13812345678"}}]}]},
    "responses": {"instructions": "13812345678", "input": [
        {"type": "function_call_output", "call_id": "c", "output": "13812345678"},
        {"role": "user", "content": [{"type": "input_text", "text": "13812345678"}]}]},
    "gemini": {"contents": [{"parts": [{"text": "13812345678"},
                                       {"functionCall": {"name": "f", "args": {"13812345678": 1}}},
                                       {"inlineData": {"mimeType": "image/png", "data": "13812345678"}}]}]},
    "embeddings": {"input": ["13812345678"], "user": "13812345678"},
    "rerank": {"query": "13812345678", "documents": ["13812345678", {"text": "13812345678"}]},
}  # fmt: skip
OPAQUE = {"chat": 3, "gemini": 1}
"""Places that hold no text: identities, images."""


@pytest.mark.parametrize("name", REQUESTS)
def test_every_text_of_a_request_is_found_and_nothing_that_is_none(name: str) -> None:
    document = REQUESTS[name]
    guarded = Guarded(spec(prompt={"personal": ["phone"]}))
    before = json.dumps(document)
    masked = json.dumps(guarded.screen(document))
    assert masked.count("13812345678") == OPAQUE.get(name, 0)
    assert guarded.found_in_prompt["phone"] == masked.count("[phone]")
    assert json.dumps(document) == before, "what was given is not changed"
    plain = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    assert Guarded(spec(prompt={"personal": KINDS})).screen(plain) is plain


@pytest.mark.parametrize(
    ("prompt", "text", "kind"),
    [
        ({"personal": ["id_card"], "personal_action": "block"}, "证件11010519491231002X", "id_card"),
        ({"personal": ["bank_card"], "personal_action": "block"}, "4111 1111 1111 1111", "bank_card"),
        ({"keywords": ["机密"]}, "这是机密文件", "keyword"),
        ({"keywords": ["Falcon"]}, "project FALCON!", "keyword"),
        ({"patterns": [r"EMP-\d{6}"]}, "EMP-123456", "pattern"),
    ],
)
def test_a_find_blocks_and_the_message_does_not_quote_it(prompt: dict[str, Any], text: str, kind: str) -> None:
    guarded = Guarded(spec(prompt=prompt))
    with pytest.raises(GatewayError) as caught:
        guarded.screen({"messages": [{"content": text}]})
    assert (caught.value.code, caught.value.status, guarded.blocked) == ("policy_guard", 400, kind)
    assert text not in caught.value.body.decode()


@pytest.mark.parametrize("text", ["11010519491231002", "110105194912310021", "4111111111111112", "falcons", "xfalcon"])
def test_what_only_looks_alike_passes(text: str) -> None:
    rules = {"personal": ["id_card", "bank_card"], "personal_action": "block", "keywords": ["falcon"]}
    document = {"messages": [{"content": text}]}
    assert Guarded(spec(prompt=rules)).screen(document) is document


def test_size_counts_the_characters_of_texts_and_too_deep_is_refused() -> None:
    guard = spec(max_prompt_chars=10)
    assert Guarded(guard).screen({"model": "x" * 99, "messages": [{"role": "user", "content": "一" * 10}]})
    with pytest.raises(GatewayError, match="more text"):
        Guarded(guard).screen({"messages": [{"content": "一" * 6}, {"content": "一" * 5}]})
    deep: Any = "13812345678"
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(GatewayError, match="nested too deeply") as caught:
        Guarded(spec(prompt={"personal": ["phone"]})).screen({"input": deep})
    assert caught.value.code == "caller_bad_request"


@pytest.mark.parametrize("text", ['{"a": [1]}', ' [1, "x"]\n', ""])
def test_an_answer_that_is_json_passes_in_any_pieces(text: str) -> None:
    for places in ([], [1], list(range(20))):
        answer = Reply("1", "m", [Choice([Text(text)] if text else [ToolCall("c", "f", "{}")], "stop")])
        assert streamed(Guarded(spec(json_answer=True)), answer, places).choices[0].finish == "stop"


@pytest.mark.parametrize("text", ["Sure: {}", "```json\n{}\n```", '{"a": 1', '{"a": 1} thanks', '"text"', "17"])
def test_an_answer_that_is_no_json_is_blocked_as_soon_as_that_is_sure(text: str) -> None:
    for places in ([], list(range(20))):
        answer = Reply("1", "m", [Choice([Text(text)], "stop")])
        with pytest.raises(GatewayError, match="than JSON"):
            streamed(Guarded(spec(json_answer=True)), answer, places)
    if text[0] not in "{[":
        with pytest.raises(GatewayError):
            Gate(Guarded(spec(json_answer=True))).sift([TextDelta(text[:1])])


def test_log_probabilities_and_citations_tell_nothing_either() -> None:
    gate = Gate(Guarded(spec(answer={"personal": ["phone"]})))
    told = gate.sift([
        Start("1", "m"),
        TextDelta("call 13812345678.", 0, {"content": [{"token": "13812345678"}]}),
        CitationDelta({"cited_text": "13812345678"}),
        ToolStart(0, "c", "f"),
        ToolDelta(0, '{"n": 13812'),
        ToolDelta(0, "345678}"),
        BlockEnd(),
        Finished("stop"),
    ])  # fmt: skip
    assert "138" not in repr(told)
    assert ToolDelta(0, '{"n":"[phone]"}') in told
    assert in_arguments("no json 1", str.upper) == "NO JSON 1"


def test_a_signature_stays_behind_its_reasoning() -> None:
    gate = Gate(Guarded(spec(answer={"personal": ["phone"]})))
    told = gate.sift([ThinkingDelta("so 138"), ThinkingDelta("12345678", signature="s"), TextDelta("x. ")])
    assert "".join(one.text for one in told if isinstance(one, ThinkingDelta)) == "so [phone]"
    assert [one.signature for one in told if isinstance(one, ThinkingDelta)][-1] == "s"


def test_a_long_hostile_answer_takes_little() -> None:
    gate = Gate(Guarded(spec(answer={"personal": KINDS, "keywords": [f"word{n}" for n in range(200)]})))
    for piece in ("1", "a@", "sk-", "eyJ", "Bearer ", "word"):
        gate.sift([TextDelta(piece * 3) for _ in range(1500)])
        gate.end()
