"""A Chinese page says what the English one of its name says: headings, tables, lists, code, settings and figures are
those of the other, so that a page which was forgotten in a change is found. Words are not compared.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.pages import ROOT, Block, blocks_of, links, prose

CHINESE = ROOT / "docs/zh"
BOTH = sorted(page.name for page in CHINESE.glob("*.md") if (ROOT / "docs" / page.name).exists())
PAIRS = [name for name in BOTH if name != "README.md"]
OWN_EXAMPLES = {"quick-start.md", "keys-and-budgets.md", "routes-and-fallback.md"}
"""The Chinese ones show other vendors and names: they are compared by settings."""
_COMMENT = re.compile(r"(?m)(^|  +)#.*$")
_FIGURE = re.compile(r"\d[\d,.]*\d")


def _both(name: str) -> tuple[Path, Path]:
    return ROOT / "docs" / name, CHINESE / name


def _fences(page: Path) -> list[tuple[str, bool, int]]:
    """Language, whether it is a fragment, and the number of lines of each block."""
    return [(block.language, block.fragment, block.text.count("\n")) for block in blocks_of(page)]


def _code(page: Path) -> list[tuple[str, list[str]]]:
    """The lines of each block without their comments. Drawings have none: their words are in the page's language."""
    return [
        (block.language, [line.rstrip() for line in _COMMENT.sub("", block.text).splitlines()])
        for block in blocks_of(page)
        if block.language
    ]


def _settings(tables: Any, at: str = "") -> Iterator[str]:
    for name, value in tables.items():
        yield f"{at}{name}"
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from _settings(inner, f"{at}{name}.")


def _shown(block: Block) -> set[str]:
    """What an own example is compared by: settings, and the first word of each command."""
    if block.language == "toml":
        return set(_settings(tomllib.loads(block.text)))
    return set(re.findall(r"(?m)^(?:export )?[\w./]+", block.text))


def _tables(page: Path) -> list[tuple[int, int]]:
    """(rows, columns) of each table."""
    groups = re.findall(r"(?:^\|.*\n)+", prose(page) + "\n", re.MULTILINE)
    return [(group.count("\n"), group.partition("\n")[0].replace("\\|", "").count("|")) for group in groups]


def _words(page: Path) -> set[str]:
    """What stands between backticks: names of settings, codes, headers, addresses."""
    return {" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))}


def _figures(page: Path) -> set[str]:
    return set(_FIGURE.findall(re.sub(r"\]\([^)]*\)", "", prose(page))))


def test_every_page_for_people_who_use_it_is_there_in_chinese() -> None:
    english_only = {
        "degraded-modes.md", "dialects.md", "logs.md", "metrics.md", "metrics-control.md", "runbooks.md",
        "settings.md", "settings-control.md",
    }  # fmt: skip
    assert {page.name for page in ROOT.glob("docs/*.md")} - english_only == set(BOTH)


@pytest.mark.parametrize("name", PAIRS)
def test_both_have_the_same_headings_tables_and_lists(name: str) -> None:
    english, chinese = _both(name)
    for pattern in (r"(?m)^#+(?= )", r"(?m)^ *- (?=\S)", r"(?m)^\d\.", r"!\["):
        assert re.findall(pattern, prose(chinese)) == re.findall(pattern, prose(english)), pattern
    assert _tables(chinese) == _tables(english)


@pytest.mark.parametrize("name", PAIRS)
def test_both_have_the_same_code_but_for_its_comments(name: str) -> None:
    english, chinese = _both(name)
    if name in OWN_EXAMPLES:
        assert [kind for kind, *_ in _fences(chinese)] == [kind for kind, *_ in _fences(english)]
        assert [*map(_shown, blocks_of(chinese))] == [*map(_shown, blocks_of(english))]
    else:
        assert _fences(chinese) == _fences(english)
        assert _code(chinese) == _code(english)


@pytest.mark.parametrize("name", PAIRS)
def test_both_name_the_same_settings_codes_and_figures(name: str) -> None:
    english, chinese = _both(name)
    assert _words(chinese) == _words(english)
    assert not _figures(english) - _figures(chinese)


@pytest.mark.parametrize("name", BOTH)
def test_a_chinese_page_leads_to_chinese_pages(name: str) -> None:
    away = [link for link in links(CHINESE / name) if link.removeprefix("../").partition("#")[0] in BOTH]
    assert not [link for link in away if link.startswith("../")]


@pytest.mark.parametrize("page", sorted(CHINESE.glob("*.md")), ids=lambda page: page.name)
def test_chinese_has_its_own_punctuation(page: Path) -> None:
    text = re.sub(r"\]\([^)]*\)", "]", prose(page))
    assert not re.findall(r".{0,9}(?:[\u4e00-\u9fff][,;:?!.](?!\w)|[,;:?!()][\u4e00-\u9fff]).{0,9}", text)
