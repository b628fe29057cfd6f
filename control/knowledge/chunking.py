"""Cuts a document into chunks along its structure: headings, tables, code, sentences of Chinese and English.

A document's plain text is its blocks joined by empty lines; every chunk is a range of it. A chunk never crosses a
heading or the border of a page, so that what is cited stands where the citation says. Sizes are tokens, as `count`
counts them: of each unit by itself, so a chunk may have a few less in truth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from control.knowledge.schemas import Chunking

Count = Callable[[Sequence[str]], list[int]]
"""Tokens of each of some texts."""

BETWEEN = "\n\n"
SECTION = " › "
SECTION_CHARS = 500
_SENTENCE = re.compile(r".+?(?:[。！？；…]+[”’」』）]*|[.!?;]+[\"')\]]*(?=\s)|\n|$)\s*", re.DOTALL)
_WHOLE = re.compile(r".+", re.DOTALL)
_LINE = re.compile(r".*?(?:\n|$)", re.DOTALL)
_WIDE = re.compile(r"[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_NARROW = re.compile(r"[A-Za-z0-9]+|[^\sA-Za-z0-9]")
_UNITS = {"table": _LINE, "code": _LINE, "grid": _WHOLE}
"""What is not cut, by the kind of a block; of others, sentences."""


def below(section: str, text: str) -> str:
    """A text below its headings, if it has any."""
    return f"{section}\n{text}" if section else text


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document."""

    number: int
    parent: int
    """Number of the first chunk of the piece of the section that may be given instead."""
    page: int | None
    section: str
    start: int
    end: int
    tokens: int
    text: str

    @property
    def with_section(self) -> str:
        """What is embedded and searched: a piece says little without the headings above it."""
        return below(self.section, self.text)


@dataclass(frozen=True, slots=True)
class _Unit:
    """What is not cut: a sentence, a row, a line."""

    start: int
    end: int
    page: int | None
    tokens: int
    is_heading: bool


def plain(blocks: Sequence[dict[str, Any]]) -> str:
    """The document's plain text, in which ranges are."""
    return BETWEEN.join(block["text"] for block in blocks)


def estimated(texts: Sequence[str]) -> list[int]:
    """Tokens where there is no tokenizer: one for each wide character and each sign, one for four letters of a word."""
    return [
        len(_WIDE.findall(text)) + sum(-(-len(word) // 4) for word in _NARROW.findall(_WIDE.sub(" ", text)))
        for text in texts
    ]


def cut(blocks: Sequence[dict[str, Any]], chunking: Chunking, count: Count) -> Iterator[Chunk]:
    """The chunks of a document, in order."""
    text, number = plain(blocks), 0
    for section, units in _sections(blocks, text, chunking.size, count):
        parent, held = number, 0
        for some in _packed(units, chunking):
            raw = text[some[0].start : some[-1].end]
            piece = raw.strip()
            tokens = sum(unit.tokens for unit in some)
            if held and held + tokens > chunking.parent:
                parent, held = number, 0
            held += tokens
            start = some[0].start + len(raw) - len(raw.lstrip())
            yield Chunk(number, parent, some[0].page, section, start, start + len(piece), tokens, piece)
            number += 1


def _sections(
    blocks: Sequence[dict[str, Any]], text: str, size: int, count: Count
) -> Iterator[tuple[str, list[_Unit]]]:
    """(headings, units) from heading to heading. One without anything below it is only in the headings of the next."""
    path: list[tuple[int, str]] = []
    units: list[_Unit] = []
    at = 0
    for block in blocks:
        heading = block["kind"] == "heading"
        if heading:
            if any(not unit.is_heading for unit in units):
                yield _named(path), units
            units = []
            path = [(level, title) for level, title in path if level < block["level"]]
            path.append((block["level"], block["text"]))
        pattern = _UNITS.get(block["kind"], _SENTENCE)
        ranges = [(found.start(), found.end()) for found in pattern.finditer(block["text"]) if found.group().strip()]
        tokens = count([block["text"][start:end] for start, end in ranges])
        for (start, end), many in zip(ranges, tokens, strict=True):
            units += _small(text, _Unit(at + start, at + end, block["page"], many, heading), size, count)
        at += len(block["text"]) + len(BETWEEN)
    if any(not unit.is_heading for unit in units):
        yield _named(path), units


def _named(path: Sequence[tuple[int, str]]) -> str:
    return SECTION.join(title for _, title in path)[:SECTION_CHARS]


def _small(text: str, unit: _Unit, size: int, count: Count) -> Iterator[_Unit]:
    """The unit, or halves of it, none of which has more tokens than fit; between words if there are any."""
    if unit.tokens <= size or unit.end - unit.start < 2:
        yield unit
        return
    middle = (unit.start + unit.end) // 2
    space = text.rfind(" ", unit.start + 1, middle)
    middle = space if space > unit.start + (middle - unit.start) // 2 else middle
    for start, end in ((unit.start, middle), (middle, unit.end)):
        many = count([text[start:end]])[0]
        yield from _small(text, _Unit(start, end, unit.page, many, unit.is_heading), size, count)


def _packed(units: Sequence[_Unit], chunking: Chunking) -> Iterator[list[_Unit]]:
    """Units in groups that fit, each beginning with the last ones of the group before on its page."""
    held: list[_Unit] = []
    tokens = 0
    for unit in units:
        turned = bool(held) and unit.page != held[-1].page
        if held and (turned or tokens + unit.tokens > chunking.size):
            yield held
            held = [] if turned else _tail(held, min(chunking.overlap, chunking.size - unit.tokens))
            tokens = sum(one.tokens for one in held)
        held.append(unit)
        tokens += unit.tokens
    if held:
        yield held


def _tail(units: Sequence[_Unit], most: int) -> list[_Unit]:
    """The last units that have at most so many tokens together, but never all."""
    tail: list[_Unit] = []
    for unit in reversed(units[1:]):
        most -= unit.tokens
        if most < 0:
            break
        tail.insert(0, unit)
    return tail
