"""What must not be in the request log, found in plain text and replaced by its kind in brackets.

Rather too much than too little: a number that only looks like a bank card and has its check digit is replaced too.
Texts are looked through a window at a time, so that a worker's event loop never waits long for a regular expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from gateway.contract.patterns import LONGEST
from gateway.contract.snapshot import Redaction

WINDOW = 4096
"""Characters that are searched in one go: no other Python code runs meanwhile."""
Test = Callable[[str], bool]


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


_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_WORD_BEGINS = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"
"""Also behind the escape of a line end, as in JSON within JSON."""


def _always(_: str) -> bool:
    return True


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
    ),
    "email": Rule(
        "email",
        re.compile(r"(?<![A-Za-z0-9_.+%-])[A-Za-z0-9_.+%-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}"),
        1024,
        lambda text: "@" in text,
        _always,
    ),
    "id_card": Rule("id_card", re.compile(r"[1-9](?<!\d\d)\d{16}[\dXx](?!\d)"), 18, _has_number, is_id_card),
    "bank_card": Rule(
        "bank_card", re.compile(r"[2-6](?<!\d\d)\d{3}(?:[ -]?\d){10,15}(?!\d)"), 40, _has_number, is_bank_card
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
    ),
}
"""In the order in which they are looked for. Patterns begin with a set of characters, which `re` finds quickly."""


class Redactor:
    """The replacements of one route."""

    def __init__(self, kinds: Sequence[Redaction], patterns: Sequence[str]) -> None:
        self._rules = [rule for kind, rule in BUILT_IN.items() if kind in kinds]
        self._rules += [Rule("custom", re.compile(pattern), LONGEST, _always, _always) for pattern in patterns]

    def redact(self, text: str, counts: dict[str, int]) -> str:
        """The text with every find replaced; `counts` says how often what was found."""
        for rule in self._rules:
            if not rule.hint(text):
                continue
            pieces, done = [], 0
            for match in _matches(rule, text):
                if rule.check(match[0]):
                    pieces += [text[done : match.start()], f"[{rule.kind}]"]
                    done = match.end()
            if pieces:
                counts[rule.kind] = counts.get(rule.kind, 0) + len(pieces) // 2
                text = "".join([*pieces, text[done:]])
        return text


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
