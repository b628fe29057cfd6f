"""The pages for people, taken apart: blocks of code, commands of shell blocks, links, headings."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTROL = "http://127.0.0.1:8080/api/v1"
"""What pages mean by `$API`."""
_FENCE = re.compile(r"^( *)```(\w*)( fragment)?\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(?m)(^|  )#.*$")
_INLINE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^()\s:]+|\.?#[^()\s]+)\)")
_ASSIGNED = re.compile(r"[A-Z_]+=")


def pages() -> list[Path]:
    """Everything that is written for people, but not what packages bring."""
    folders = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/**/*.md")]
    return sorted([*ROOT.glob("*.md"), ROOT / "console/README.md", *folders])


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `language` is its first word. A `fragment` (its second word) is not a whole file."""

    page: Path
    line: int
    language: str
    fragment: bool
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """All blocks of one language."""
    return [block for page in pages() for block in blocks_of(page) if block.language == language]


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[2], bool(found[3]), textwrap.dedent(found[4]))


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def commands(first: str) -> list[tuple[str, list[str]]]:
    """(where, words) of all commands in shell blocks whose first word has this file name. Comments begin after two
    spaces.
    """
    found: list[tuple[str, list[str]]] = []
    for block in blocks("sh"):
        text = _COMMENT.sub("", block.text).replace("\\\n", " ").replace("$API", CONTROL)
        lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|\n")
        lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
        words: list[str] = []
        for word in [*lexer, "\n"]:
            if word.strip(";&|\n"):
                if words or not _ASSIGNED.match(word):
                    words.append(word)
                continue
            if words and Path(words[0]).name == first:
                found.append((str(block), words))
            words = []
    return found


def inline(first: str) -> list[tuple[str, list[str]]]:
    """(page, words) of what stands between backticks in sentences and begins with this word and another one."""
    return [
        (str(page.relative_to(ROOT)), code[1:-1].split())
        for page in pages()
        for code in _INLINE.findall(prose(page))
        if code.startswith(f"`{first} ")
    ]


def links(page: Path) -> list[str]:
    """Targets inside the repository, with their anchors."""
    return _LINK.findall(_INLINE.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    made: dict[str, int] = {}
    found = set[str]()
    for heading in re.findall(r"(?m)^#+ +(.*?) *$", prose(page)):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = made[name] = made.get(name, -1) + 1
        found.add(f"{name}-{number}" if number else name)
    return found
