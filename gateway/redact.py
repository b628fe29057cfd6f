"""What must not be in the request log, or pass a guard, found in plain text and replaced.

Rather too much than too little: a number that only looks like a bank card and has its check digit is replaced too.
Texts are looked through a window at a time, so that a worker's event loop never waits long for a regular expression.
`Scan` finds the same in a text that arrives in pieces.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from gateway.contract.patterns import Redaction, widest

WINDOW = 4096
"""Characters that are searched in one go: no other Python code runs meanwhile."""
CONTEXT = 2
"""Characters before a match that a pattern may look at."""
PARTIAL = 6
"""Characters of something known, at the end of a text that was cut, that are too many."""
Test = Callable[[str], bool]
Put = Callable[[str], str]
"""What stands in place of a find."""


class Rule(NamedTuple):
    """How one kind is found."""

    kind: str
    pattern: re.Pattern[str]
    widest: int
    """Characters that a match may have."""
    hint: Test
    """Whether a text can hold any: cheap, since most texts hold none."""
    check: Test
    """Whether what the pattern matched is one."""
    settled: Callable[[str], int]
    """Where the end of a text begins that may be half of a match: what comes before has no match that is still open."""


_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_WORD_BEGINS = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"
"""Also behind the escape of a line end, as in JSON within JSON."""


_TOKEN = string.ascii_letters + string.digits + "._~+/=-"
_AUTHORIZED = re.compile(r"(?:[Bb]earer|BEARER|[Bb]asic|BASIC)[ \t]{1,4}\Z")
_OPEN_NUMBER = re.compile(r"[\dXx ().+-]{0,66}\Z")


def _always(_: str) -> bool:
    return True


def _nowhere(_: str) -> int:
    return 0


def _open_word(text: str) -> int:
    return len(text.rstrip(string.ascii_letters + string.digits + "_.+%-@"))


def _open_number(text: str) -> int:
    found = _OPEN_NUMBER.search(text, max(0, len(text) - 66))
    assert found is not None
    return found.start()


def _open_secret(text: str) -> int:
    end = len(text.rstrip(_TOKEN))
    found = _AUTHORIZED.search(text, max(0, end - 10), end)
    return end if found is None else found.start()


def is_id_card(text: str) -> bool:
    """Whether 18 characters are a Chinese identity card: a date of birth and the check digit (GB 11643)."""
    digits = [int(digit) for digit in text[:17]]
    month, day = digits[10] * 10 + digits[11], digits[12] * 10 + digits[13]
    check = "10X98765432"[sum(map(int.__mul__, digits, _WEIGHTS)) % 11]
    return 1 <= month <= 12 and 1 <= day <= 31 and check == text[17].upper()


def is_bank_card(text: str) -> bool:
    """Whether the digits of a text have Luhn's check digit."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


_NUMBER = re.compile(r"\d(?:[ ().-]{0,2}\d){6}")
_SECRETS = ("earer", "EARER", "asic ", "ASIC ", "AKIA", "eyJ", "sk-", "sk_", "st-", "pk-", "pk_", "rk_", "gh", "xox")


def _has_number(text: str) -> bool:
    return _NUMBER.search(text) is not None


def _may_have_secret(text: str) -> bool:
    return any(mark in text for mark in _SECRETS)


BUILT_IN: dict[Redaction, Rule] = {
    "secret": Rule(
        "secret",
        re.compile(
            r"(?:[Bb]earer|BEARER|[Bb]asic|BASIC)[ \t]{1,4}[A-Za-z0-9._~+/=-]{7,4000}[A-Za-z0-9_~+/=-]"
            rf"|{_WORD_BEGINS}(?:sk|st|pk|rk|ghp|gho|ghs|xoxa|xoxb|xoxp)[-_][A-Za-z0-9_-]{{12,400}}"
            rf"|{_WORD_BEGINS}AKIA[A-Z0-9]{{16}}"
            rf"|{_WORD_BEGINS}eyJ[A-Za-z0-9_-]{{8,4000}}\.[A-Za-z0-9_-]{{8,4000}}(?:\.[A-Za-z0-9_-]{{0,4000}})?"
        ),
        12_100,
        _may_have_secret,
        _always,
        _open_secret,
    ),
    "email": Rule(
        "email",
        re.compile(r"(?<![A-Za-z0-9_.+%-])[A-Za-z0-9_.+%-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}"),
        1024,
        lambda text: "@" in text,
        _always,
        _open_word,
    ),
    "id_card": Rule(
        "id_card", re.compile(r"[1-9](?<!\d\d)\d{16}[\dXx](?!\d)"), 18, _has_number, is_id_card, _open_number
    ),
    "bank_card": Rule(
        "bank_card",
        re.compile(r"[2-6](?<!\d\d)\d{3}(?:[ -]?\d){10,15}(?!\d)"),
        40,
        _has_number,
        is_bank_card,
        _open_number,
    ),
    "phone": Rule(
        "phone",
        re.compile(
            r"[1１](?<!\d\d)[3-9３-９]\d(?:[ -]?\d{4}){2}(?!\d)"  # Chinese mobile
            r"|8(?<!\d\d)6[ -]?1[3-9]\d(?:[ -]?\d{4}){2}(?!\d)"
            r"|0(?<!\d\d)(?:086[ -]?1[3-9]\d(?:[ -]?\d{4}){2}|\d{2,3}[ -]\d{7,8})(?!\d)"  # or a landline
            r"|\+[1-9](?:[ ().-]{0,2}\d){7,14}(?!\d)"  # international
            r"|(?:\(\d{3}\)[ -]?|\d(?<!\d\d)\d{2}[ -])\d{3}-\d{4}(?!\d)"  # North American
        ),
        64,
        _has_number,
        _always,
        _open_number,
    ),
}
"""In the order in which they are looked for. Patterns begin with a set of characters, which `re` finds quickly."""


def own_rule(kind: str, pattern: str) -> Rule:
    """A pattern of a route's own, as a rule."""
    return Rule(kind, re.compile(pattern), widest(pattern), _always, _always, _nowhere)


def keyword_rule(words: Sequence[str]) -> Rule:
    """Some words, in any case and width; where one begins or ends with a Latin letter or a digit, so must a word.

    They share their beginnings in one tree, so that two hundred take little more than one.
    """
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for letter in word:
            node = node.setdefault(_any_case(letter), {})
        node[""] = "(?![A-Za-z0-9])" if _latin(word[-1]) else ""
    ways = [
        f"(?<={first}){_BEGINS if _latin(first.lstrip('[')[0]) else ''}{_below(node)}" for first, node in tree.items()
    ]
    letters = "".join(first[1:-1] if first.startswith("[") else first for first in tree)
    pattern = re.compile(f"[{letters}](?:{'|'.join(ways)})")
    return Rule("keyword", pattern, max(map(len, words)), _always, _always, _nowhere)


_BEGINS = r"(?<![A-Za-z0-9][\s\S])"


def _below(node: dict[str, Any]) -> str:
    """What may follow in a tree of words; the longest first."""
    ways = [letter + _below(child) for letter, child in node.items() if letter]
    if "" in node:
        ways.append(node[""])
    return ways[0] if len(ways) == 1 else f"(?:{'|'.join(ways)})"


def _any_case(letter: str) -> str:
    """What stands for a letter: it in any case, as wide as Latin or as Chinese letters are."""
    widths = (letter, _WIDTHS.get(letter, letter))
    ways = {way for one in widths for way in (one, one.lower(), one.upper()) if len(way) == 1}
    return f"[{''.join(map(re.escape, sorted(ways)))}]" if len(ways) > 1 else re.escape(letter)


_WIDE = {" ": "\u3000"} | {chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)}
"""ASCII -> its full-width forms."""
_WIDTHS = _WIDE | {wide: narrow for narrow, wide in _WIDE.items()}


def _latin(letter: str) -> bool:
    return letter.isascii() and letter.isalnum()


def replaced(rule: Rule, text: str, put: Put) -> str:
    """The text with every find replaced; the same object if there is none."""
    if not rule.hint(text):
        return text
    pieces, done = [], 0
    for match in _matches(rule, text):
        if rule.check(match[0]):
            pieces += [text[done : match.start()], put(match[0])]
            done = match.end()
    return "".join([*pieces, text[done:]]) if pieces else text


def _matches(rule: Rule, text: str) -> Iterator[re.Match[str]]:
    """What `finditer` finds, found a window at a time; a match may reach into the next window."""
    start = 0
    while start < len(text):
        edge = start + WINDOW
        for match in rule.pattern.finditer(text, start, edge + rule.widest + 1):
            if match.start() >= edge:
                break
            yield match
            start = match.end()
        start = max(start, edge)


class Scan:
    """`replaced` for a text that arrives in pieces: what it gives, put together, is the same, however it was cut.

    It holds back what may be the beginning of a match, at most an eighth more than the rule's widest one.
    """

    __slots__ = ("_at", "_put", "_rule", "_text")

    def __init__(self, rule: Rule, put: Put) -> None:
        self._rule = rule
        self._put = put
        self._text = ""
        """What was given last, as far as patterns look back, and what is held."""
        self._at = 0
        """Where in it the latter begins."""

    def feed(self, piece: str) -> str:
        """Take the next piece; what is ready by now."""
        self._text += piece
        edge, widest = max(self._rule.settled(self._text), self._at), self._rule.widest
        far = len(self._text) - widest - 1
        return self._go(far if far - edge >= widest // 8 else edge)  # a long match is not looked for at each letter

    def end(self) -> str:
        """What was still held. Another text may follow."""
        rest = self._go(len(self._text) + 1)
        self._text, self._at = "", 0
        return rest

    def _go(self, edge: int) -> str:
        """Give what no match that begins at `edge` or later can change."""
        text, rule, done = self._text, self._rule, self._at
        if edge <= done:
            return ""
        pieces, reached = [], done
        for match in rule.pattern.finditer(text, done):
            if match.start() >= edge:
                break
            reached = match.end()
            if rule.check(match[0]):
                pieces += [text[done : match.start()], self._put(match[0])]
                done = reached
        stop = min(max(edge, reached), len(text))
        pieces.append(text[done:stop])
        keep = max(0, stop - CONTEXT)
        self._text, self._at = text[keep:], stop - keep
        return "".join(pieces)


class Redactor:
    """The replacements of one route."""

    def __init__(self, kinds: Sequence[Redaction], patterns: Sequence[str]) -> None:
        self._rules = [rule for kind, rule in BUILT_IN.items() if kind in kinds]
        self._rules += [own_rule("custom", pattern) for pattern in patterns]
        self._known: Mapping[str, str] = {}

    def knowing(self, known: Mapping[str, str]) -> Redactor:
        """One that puts a mask in the place of some texts, too: text -> mask."""
        more = Redactor((), ())
        more._rules, more._known = self._rules, known
        return more

    def redact(self, text: str, counts: dict[str, int]) -> str:
        """The text with every find replaced; `counts` says how often what was found."""
        for known, mask in self._known.items():
            text = text.replace(known, mask)
            for size in range(len(known) - 1, PARTIAL, -1):
                if text.endswith(known[:size]):
                    text = text[:-size] + mask
                    break
        for rule in self._rules:
            text = replaced(rule, text, partial(_counted, counts, rule.kind))
        return text


def _counted(counts: dict[str, int], kind: str, _: str) -> str:
    counts[kind] = counts.get(kind, 0) + 1
    return f"[{kind}]"
