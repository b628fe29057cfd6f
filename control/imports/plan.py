"""What an import is going to make, and the report of what was mapped and what was not."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal
from urllib.parse import urlsplit

from control.errors import ConfigError

Outcome = Literal["imported", "already there", "by hand", "not mapped"]
_NOT_SLUG = re.compile(r"[^A-Za-z0-9_.\-\u4e00-\u9fff]+")
_NOT_ROUTE = re.compile(r"[^A-Za-z0-9_.\-/:@*\u4e00-\u9fff]+")
_SHOWN = 160


class SourceError(ConfigError):
    """The source cannot be read as what it should be; the message holds nothing of its content."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing of the source, and what became of it."""

    outcome: Outcome
    what: str
    why: str = ""

    def __str__(self) -> str:
        text = f"{self.outcome:<13} {shown(self.what)}"
        return f"{text}: {self.why}" if self.why else text


@dataclass(slots=True)
class NewEndpoint:
    """An account at an upstream, with its secrets."""

    name: str
    provider: str
    base_url: str
    secrets: list[str] = field(default_factory=list, repr=False)
    enabled: bool = True


@dataclass(slots=True)
class NewRoute:
    """A public model name; `spec` is the wire form without the name."""

    name: str
    spec: dict[str, Any]


@dataclass(slots=True)
class NewKey:
    """A key whose secret goes on to work."""

    name: str
    secret: str = field(repr=False)
    enabled: bool = True
    models: tuple[str, ...] = ("*",)
    cidrs: tuple[str, ...] = ()
    expires_at: datetime | None = None
    budget: Decimal | None = None
    note: str = ""


@dataclass(slots=True)
class Plan:
    """Everything that a source asks for."""

    endpoints: list[NewEndpoint] = field(default_factory=list)
    routes: list[NewRoute] = field(default_factory=list)
    keys: list[NewKey] = field(default_factory=list)
    report: list[Line] = field(default_factory=list)

    def say(self, outcome: Outcome, what: str, why: str = "") -> None:
        """Add a line to the report."""
        self.report.append(Line(outcome, what, why))


def shown(text: object) -> str:
    """Text of a source as a terminal may show it: no control characters, not endless."""
    clean = "".join(c if c.isprintable() else "�" for c in str(text)[: _SHOWN + 1])
    return clean if len(clean) <= _SHOWN else clean[:_SHOWN] + "…"


def slug(text: object, otherwise: str) -> str:
    """The nearest name that an endpoint, credential or key may have."""
    return _NOT_SLUG.sub("-", str(text)[:500]).lstrip("-_.")[:56].rstrip("-_.") or otherwise


def route_name(text: object) -> str:
    """The nearest name that a route may have; empty if there is none."""
    name = _NOT_ROUTE.sub("-", str(text)[:500]).lstrip("-_./:@*")[:120]
    return name[:-1].replace("*", "-") + name[-1:]


def free(name: str, taken: Container[str]) -> str:
    """The name, with a number if it is taken."""
    number, found = 2, name
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found


def url_problem(url: str) -> str:
    """Why this cannot be a base URL; nothing of it is told, as people put secrets into URLs."""
    try:
        parts = urlsplit(url)
        odd = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        odd = True
    if odd or any(c <= " " or c > "~" for c in url) or len(url) > 2000:
        return "its base URL is not an http:// or https:// URL with a host"
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        return "its base URL holds a user name, a password, a query or a fragment, which would be readable here"
    return ""


def number(value: object) -> Decimal | None:
    """A finite number that is not negative, also one that YAML took for a text (`1e-6`)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)[:41]) > 40:
        return None
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() and Decimal(0) <= found < Decimal(10) ** 15 else None


def whole(value: object, least: int, most: int) -> int | None:
    """An integer inside these bounds."""
    found = number(value)
    return int(found) if found is not None and found == int(found) and least <= found <= most else None
