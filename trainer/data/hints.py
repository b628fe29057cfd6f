"""Hints at personal data in a text: for people to look at, before it is learned by heart. A hint is no proof."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

Hint = Literal["email", "phone", "id_card", "bank_card"]

_EMAIL = re.compile(r"[A-Za-z0-9._%+\-]{1,64}@[A-Za-z0-9.\-]{1,255}\.[A-Za-z]{2,24}\b")
_PHONE = re.compile(r"(?<![\d.])(?:\+\d{1,3}[ \-]?)?(?:1[3-9]\d{9}|\(?\d{3}\)?[ \-]\d{3}[ \-]\d{4})(?![\d.])")
_ID_CARD = re.compile(r"(?<!\d)\d{17}[\dXx](?![\dA-Za-z])")
_BANK_CARD = re.compile(r"(?<!\d)(?:\d[ \-]?){12,18}\d(?!\d)")
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"


def hints(text: str) -> Iterator[Hint]:
    """What a text seems to hold, each kind once."""
    if "@" in text and _EMAIL.search(text):
        yield "email"
    if any(map(_is_id_card, _ID_CARD.findall(text))):
        yield "id_card"
    if _PHONE.search(text):
        yield "phone"
    if any(_is_bank_card(re.sub(r"[ \-]", "", found)) for found in _BANK_CARD.findall(text)):
        yield "bank_card"


def _is_id_card(text: str) -> bool:
    """GB 11643: the last character is a check digit."""
    return _CHECKS[sum(int(a) * b for a, b in zip(text[:17], _WEIGHTS, strict=True)) % 11] == text[17].upper()


def _is_bank_card(digits: str) -> bool:
    """ISO/IEC 7812: Luhn."""
    doubled = [int(one) * (1 + place % 2) for place, one in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(one - 9 if one > 9 else one for one in doubled) % 10 == 0
