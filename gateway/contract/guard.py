"""The wire form of a route's guard: what is looked for in prompts and answers, and what is done about a find."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator

from gateway.contract.addresses import is_metadata
from gateway.contract.base import Name, Seconds, Wire
from gateway.contract.patterns import Pattern, Redaction

Action = Literal["block", "mask"]
Policy = Literal["open", "closed"]
Checked = Literal["prompt", "answer", "both"]
Keyword = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class GuardRules(Wire):
    """What is looked for in texts. A find is masked by its kind in brackets, or blocks the request."""

    personal: tuple[Redaction, ...] = ()
    """Personal data: e-mail addresses, phone numbers, Chinese identity cards and bank cards (both with a right check
    digit), bearer tokens and API keys."""
    personal_action: Action = "mask"
    """What is done about them."""
    keywords: Annotated[tuple[Keyword, ...], Field(max_length=200)] = ()
    """Words, in any case and width. One that begins or ends with a Latin letter or a digit is not found inside a longer
    word."""
    keywords_action: Action = "block"
    """What is done about them."""
    patterns: Annotated[tuple[Pattern, ...], Field(max_length=20)] = ()
    """Regular expressions, such as `EMP-\\d{6}`; without `*`, `+` and look-around."""
    patterns_action: Action = "block"
    """What is done about them."""


class Moderation(Wire):
    """A route with a moderations API, which is asked whether texts are harmful."""

    route: Name
    """Name of a [[route]]. Each question is a request of its own in the ledger of the key that asks."""
    check: Checked = "prompt"
    """What it is asked about."""
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """Score of any category from which on a text is blocked. Absent: where the model says `flagged`."""
    timeout: Seconds = 5.0
    """Seconds that it may take."""
    on_failure: Policy = "closed"
    """While it does not answer: `open` goes on, marked in the header `x-tunegate-guard`; `closed` is 503."""


class Webhook(Wire):
    """A service of the company's that allows, blocks or replaces texts. docs/guardrails.md has its protocol."""

    url: Annotated[str, StringConstraints(max_length=2000)]
    """Where it is asked, by POST. Redirects are not followed; metadata services are refused."""
    secret: Annotated[str, StringConstraints(pattern=r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$", max_length=1000)]
    """Key of the signature, as env:NAME or file:PATH on the gateway's machine."""
    check: Checked = "both"
    """What it is asked about."""
    timeout: Annotated[float, Field(gt=0, le=60)] = 2.0
    """Seconds that it may take."""
    on_failure: Policy = "closed"
    """While it does not answer as it should: `open` goes on, marked in the header `x-tunegate-guard`; `closed` is
    503."""

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or any(c <= " " for c in value):
            raise ValueError("is not an http:// or https:// URL with a host")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise ValueError("has no user name, password or fragment: requests are signed with `secret`")
        if is_metadata(parts.hostname):
            raise ValueError(f"{parts.hostname} is a metadata or link-local address, where no webhook is")
        return value


class Guard(Wire):
    """What may be said to a model and by it. Rules come first, those that block before those that mask; then the
    moderation route; then the webhook, each with the texts as they are by then."""

    prompt: GuardRules = GuardRules()
    """Of all texts that the client sends, earlier turns and results of tools among them."""
    answer: GuardRules = GuardRules()
    """Of what the model writes, reasoning and arguments of tools among it."""
    restore: bool = False
    """Whether what was masked in the prompt stands in the answer again where the model repeats its mask: masks are
    numbered then, such as [PHONE_1]."""
    max_prompt_chars: Annotated[int, Field(strict=True, ge=1, le=100_000_000)] | None = None
    """Characters of all texts of a request. Absent: no limit beyond that of the body."""
    json_answer: bool = False
    """Whether an answer must be a JSON object or list, whole and nothing else."""
    moderation: Moderation | None = None
    """Who judges whether texts are harmful."""
    webhook: Webhook | None = None
    """Who has the last word."""
