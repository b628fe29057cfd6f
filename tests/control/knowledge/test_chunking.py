"""Cutting documents, and the words that BM25 gets: pure functions, tried with text of every kind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from control.knowledge.chunking import Chunk, cut, estimated, plain
from control.knowledge.schemas import Chunking
from control.knowledge.terms import MOST_BYTES, asked, terms

KINDS = st.sampled_from(["heading", "text", "text", "table", "code"])
TEXTS = st.text(st.sampled_from("ab 年假。！.?\n;, ｗ🚀"), min_size=1, max_size=300).filter(lambda text: text.strip())
BLOCKS = st.lists(
    st.builds(
        lambda kind, text, level, page: {
            "kind": kind, "text": " ".join(text.split()) if kind == "heading" else text.strip("\n"), "page": page,
            "level": level if kind == "heading" else 0,
        },
        KINDS, TEXTS, st.integers(1, 3), st.none() | st.integers(1, 9),
    ),
    max_size=12,
)  # fmt: skip


def block(text: str, kind: str = "text", level: int = 0, page: int | None = None) -> dict[str, Any]:
    return {"kind": kind, "text": text, "level": level, "page": page}


def cut_up(blocks: list[dict[str, Any]], size: int = 16, overlap: int = 0, parent: int = 1000) -> list[Chunk]:
    return list(cut(blocks, Chunking(size=size, overlap=overlap, parent=parent), estimated))


@given(BLOCKS, st.integers(16, 60), st.integers(0, 8), st.integers(60, 200))
def test_chunks_are_ranges_of_the_text_fit_and_leave_out_nothing(
    blocks: list[dict[str, Any]], size: int, overlap: int, parent: int
) -> None:
    text, chunks = plain(blocks), cut_up(blocks, size, overlap, parent)
    covered = [False] * len(text)
    for number, chunk in enumerate(chunks):
        assert chunk.number == number
        assert text[chunk.start : chunk.end] == chunk.text == chunk.text.strip()
        assert chunk.text
        assert 0 < chunk.tokens <= size
        assert chunk.parent <= number
        assert chunks[chunk.parent].parent == chunk.parent
        assert chunks[chunk.parent].section == chunk.section
        covered[chunk.start : chunk.end] = [True] * (chunk.end - chunk.start)
    headings, at = set[int](), 0
    for one in blocks:
        if one["kind"] == "heading":  # one without text below it is only in the names of sections
            headings |= set(range(at, at + len(one["text"])))
        at += len(one["text"]) + 2
    missed = "".join(c for at, c in enumerate(text) if not covered[at] and at not in headings)
    assert not missed.strip()


def test_a_chunk_stays_below_its_headings_and_knows_its_page() -> None:
    blocks = [
        block("Manual", "heading", 1), block("Leave", "heading", 2, 3), block("Thirty days.", page=3),
        block("Carry over", "heading", 3, 4), block("Five days.", page=4), block("Pay", "heading", 2, 5),
        block("Monthly.", page=5),
    ]  # fmt: skip
    found = [(chunk.section, chunk.page, chunk.text) for chunk in cut_up(blocks, 100)]
    assert found == [
        ("Manual › Leave", 3, "Leave\n\nThirty days."),
        ("Manual › Leave › Carry over", 4, "Carry over\n\nFive days."),
        ("Manual › Pay", 5, "Pay\n\nMonthly."),
    ]


def test_sentences_of_both_languages_and_rows_of_tables_stay_whole() -> None:
    text = "第一条规定年假三十天。第二条规定病假十天！Rule three is about 3.5 days. Rule four is short."
    assert [chunk.text for chunk in cut_up([block(text)], 16)] == [
        "第一条规定年假三十天。", "第二条规定病假十天！", "Rule three is about 3.5 days.", "Rule four is short.",
    ]  # fmt: skip
    rows = "\n".join(f"item: bolt number {n}; price: {n}" for n in range(4))
    assert [chunk.text for chunk in cut_up([block(rows, "table")], 24)] == [
        "item: bolt number 0; price: 0\nitem: bolt number 1; price: 1",
        "item: bolt number 2; price: 2\nitem: bolt number 3; price: 3",
    ]


def test_chunks_overlap_by_whole_sentences_in_a_section_only() -> None:
    text = "One is here. Two is here. Three is here. Four is here. Five is here."
    blocks = [block(text), block("Next", "heading", 1), block("Six is here.")]
    found = [chunk.text for chunk in cut_up(blocks, 16, 5)]
    assert found[1].startswith("Three is here.")
    assert found[0].endswith("Three is here.")
    assert found[-1] == "Next\n\nSix is here."


def test_parents_are_pieces_of_a_section() -> None:
    text = " ".join(f"Sentence number {n} stands here." for n in range(12))
    chunks = cut_up([block(text)], 16, 0, 32)
    assert len({chunk.parent for chunk in chunks}) > 1
    for parent in {chunk.parent for chunk in chunks}:
        assert sum(chunk.tokens for chunk in chunks if chunk.parent == parent) <= 32


def test_text_without_any_break_is_cut_all_the_same() -> None:
    chunks = cut_up([block("x" * 10_000)], 100)
    assert "".join(chunk.text for chunk in chunks) == "x" * 10_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("年假有30天", "年假 假有 30 天"),
        ("版本2的Foo_Bar", "版本 2 的 foo bar"),
        ("ＨＴＴＰ／2 Naïve", "http 2 naïve"),
        ("日本語 한국어", "日本 本語 한국 국어"),
        ("𠮷野家", "𠮷野 野家"),
        ("— … !", ""),
    ],
)
def test_words(text: str, expected: str) -> None:
    assert terms(text) == expected


@given(st.text(max_size=3000))
def test_words_are_words_and_few_enough(text: str) -> None:
    assert len(terms(text * 20).encode()) <= MOST_BYTES
    assert terms(text) == " ".join(terms(text).split())


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("How is the annual leave taken?", "how annual leave taken"),
        ("To be or not to be", "to be or not to be"),
        ("年假是 the 多少天", "年假 假是 多少 少天"),
        ("", ""),
    ],
)
def test_a_question_is_asked_without_the_words_that_every_chunk_has(question: str, words: str) -> None:
    assert asked(question) == words
