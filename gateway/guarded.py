"""What the guard of a route finds in one request: rules over its texts, masks and what they stand for, and the facts.

No I/O: who else is asked (`gateway.steps.guard`) gets the texts as the rules have left them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from gateway.contract import guard as wire
from gateway.errors import GatewayError
from gateway.redact import BUILT_IN, Rule, keyword_rule, own_rule, replaced

Document = dict[str, Any]
Change = Callable[[str], str]
WHAT = {
    "email": "an e-mail address", "phone": "a phone number", "id_card": "an identity card's number",
    "bank_card": "a bank card's number", "secret": "a token or an API key", "keyword": "a word that is not allowed",
    "pattern": "something that a pattern forbids", "size": "more text than is allowed",
    "json": "something else than JSON", "moderation": "what its moderation finds harmful",
    "webhook": "what its webhook does not allow",
}  # fmt: skip
"""Kind of a find -> how a message tells it."""
_OPAQUE = frozenset({
    "model", "role", "type", "id", "object", "tool_call_id", "tool_use_id", "call_id", "item_id", "file_id",
    "previous_response_id", "url", "image_url", "file_uri", "fileUri", "file_data", "data", "media_type", "mime_type",
    "mimeType", "encrypted_content", "signature", "thoughtSignature", "thought_signature",
})  # fmt: skip
"""Members of a request that hold no text of anybody's, if they are strings: names, places, media, proofs."""
_WORDS = frozenset({"role", "type", "object"})
"""Those of them that models are shown: anything else than a word in them is a text."""
_WORD = re.compile(r"[A-Za-z0-9_.-]{0,40}")
_DATA = frozenset({"args", "arguments", "input", "response", "variables", "metadata"})
"""Members whose objects are a tool's or a client's own: all of them is text."""
_TOKENS = ("prompt", "input")
"""Members that may hold ids of tokens instead of text."""
_LONG_NUMBER = 10**9
_MASK = re.compile(r"(\[(?:EMAIL|PHONE|ID_CARD|BANK_CARD|SECRET|KEYWORD|PATTERN)(X{0,12})_\d{1,6}\])")
_OPEN_MASK = re.compile(r"\[(?:[A-Z][A-Z_]{0,20}\d{0,6})?\Z")
_WIDEST_MASK = 32


def _open_mask(text: str) -> int:
    found = _OPEN_MASK.search(text, max(0, len(text) - _WIDEST_MASK))
    return len(text) if found is None else found.start()


RESTORING = Rule("mask", _MASK, _WIDEST_MASK, lambda text: "[" in text, lambda _: True, _open_mask)
"""Finds what may be a mask."""


def mapped(value: Any, change: Change, data: bool = False) -> Any:
    """A request, or a part of it, with every text changed; the same object if none was. Of `data`, which is a tool's,
    names of members and long numbers are texts, too.

    Raises RecursionError: nested too deeply.
    """
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        items = [mapped(item, change, data) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        return _mapped_object(value, change, data)
    if data and type(value) is int and abs(value) >= _LONG_NUMBER:
        digits = str(value)
        return value if (new := change(digits)) is digits else new
    return value


def _mapped_object(value: Document, change: Change, data: bool) -> Document:
    fresh, changed = {}, False
    for name, item in value.items():
        new_name, new = change(name) if data else name, item
        if data or not _is_opaque(name, item, value):
            if name == "arguments" and isinstance(item, str):
                new = in_arguments(item, change)
            else:
                own = (name in _DATA and isinstance(item, dict)) or (name == "documents" and isinstance(item, list))
                new = mapped(item, change, data or own)
        changed |= new is not item or new_name is not name
        fresh[new_name] = new
    return fresh if changed else value


def _is_opaque(name: str, item: Any, owner: Document) -> bool:
    if name not in _OPAQUE or not isinstance(item, str) or (name == "data" and owner.get("type") == "text"):
        return False
    return name not in _WORDS or _WORD.fullmatch(item) is not None


def in_arguments(text: str, change: Change) -> str:
    """The arguments of a tool, JSON as text, changed value by value: an escape hides nothing, and JSON stays JSON. Of
    a member that comes twice the last one stays, which is the one that was looked at.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return change(text)
    new = mapped(value, change, True)
    return text if new is value and repeated(text) is None else orjson.dumps(new).decode()


def repeated(text: str | bytes) -> str | None:
    """A member's name that comes twice in an object of this JSON; None if each comes once. Who reads such a text may
    take the first or the last one: what was looked at need not be what counts.

    Raises RecursionError: nested too deeply.
    """
    try:
        json.loads(text, object_pairs_hook=_each_once, parse_int=float)  # an int may be too long to be made
    except _Repeated as found:
        return found.name
    return None


class _Repeated(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _each_once(members: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in members]
    if len(set(names)) != len(names):
        raise _Repeated(next(name for name in names if names.count(name) > 1))


class Guard:
    """A route's, compiled."""

    __slots__ = ("answer_rules", "prompt_rules", "secret", "spec")

    def __init__(self, spec: wire.Guard, secret: bytes) -> None:
        self.spec = spec
        self.secret = secret
        """Of the webhook's signatures."""
        self.prompt_rules = _rules(spec.prompt)
        self.answer_rules = _rules(spec.answer)

    @property
    def reads_prompts(self) -> bool:
        """Whether anything is looked for in what clients send."""
        return self.spec.max_prompt_chars is not None or any(self.prompt_rules) or self.judges("prompt")

    def judges(self, what: wire.Checked) -> bool:
        """Whether somebody is asked about prompts, or about answers."""
        return any(
            judge is not None and judge.check in (what, "both") for judge in (self.spec.moderation, self.spec.webhook)
        )


def _rules(spec: wire.GuardRules) -> tuple[list[Rule], list[Rule]]:
    """(rules that block, rules that mask)."""
    own: dict[wire.Action, list[Rule]] = {"block": [], "mask": []}
    if spec.keywords:
        own[spec.keywords_action].append(keyword_rule(spec.keywords))
    own[spec.patterns_action] += [own_rule("pattern", pattern) for pattern in spec.patterns]
    own[spec.personal_action] += [rule for kind, rule in BUILT_IN.items() if kind in spec.personal]
    return own["block"], own["mask"]


class Guarded:
    """One request's."""

    __slots__ = (
        "_masks", "_numbers", "_tag", "after", "before", "blocked", "found_in_answer", "found_in_prompt", "guard",
        "unchecked", "vault",
    )  # fmt: skip

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.before: Document = {}
        """The request as the client means it."""
        self.after: Document = {}
        """The same with its masks."""
        self._masks: dict[str, str] = {}
        self._numbers: dict[str, int] = {}
        """Kind -> its last mask's."""
        self.vault: dict[str, str] = {}
        """Mask -> what it stands for, where masks are restored."""
        self._tag = ""
        """Makes masks unlike all that stands in the request."""
        self.found_in_prompt: dict[str, int] = {}
        """Kind -> finds that were masked."""
        self.found_in_answer: dict[str, int] = {}
        self.blocked = ""
        """Kind of what has ended the request."""
        self.unchecked: list[str] = []
        """Who was to be asked, and did not answer."""

    @property
    def reads_answers(self) -> bool:
        """Whether the answer must be read, and written anew."""
        spec = self.guard.spec
        return any(self.guard.answer_rules) or spec.json_answer or bool(self.vault) or self.guard.judges("answer")

    @property
    def action(self) -> str:
        """What the guard did, all in all: blocked, masked, passed."""
        masked = self.found_in_prompt or self.found_in_answer
        return "blocked" if self.blocked else "masked" if masked else "passed"

    @property
    def masks(self) -> dict[str, str]:
        """What was masked -> its mask, where masks are restored."""
        return self._masks

    def block(self, kind: str, where: str) -> GatewayError:
        """The end of the request: the model was told, or said (`prompt`, `answer`), what must not be."""
        self.blocked = kind
        if where == "prompt":
            text = f"The guard of this model found {WHAT[kind]} in the request. Take it out and send the request again."
        else:
            text = f"The guard of this model stopped the answer: it holds {WHAT[kind]}."
        return GatewayError("policy_guard", text)

    def screen(self, document: Document) -> Document:
        """A request with its masks; the same object if nothing was found. GatewayError: it is blocked."""
        self.before = document
        try:
            texts = texts_of(document)
            self._check(texts)
            self.after = self._masked(document, texts)
        except RecursionError:
            raise _too_deep() from None
        return self.after

    def _check(self, texts: Sequence[str]) -> None:
        most = self.guard.spec.max_prompt_chars
        if most is not None and sum(map(len, texts)) > most:
            raise self.block("size", "prompt")
        for rule in self.guard.prompt_rules[0]:
            for text in texts:
                replaced(rule, text, self.blocking(rule.kind, "prompt"))

    def _masked(self, document: Document, texts: Sequence[str]) -> Document:
        rules = self.guard.prompt_rules[1]
        if not rules:
            return document
        if self.guard.spec.restore:
            self._tag = max((found[2] + "X" for text in texts for found in _MASK.finditer(text)), key=len, default="")
        puts = [(rule, self._mask_of(rule.kind)) for rule in rules]

        def change(text: str) -> str:
            for rule, put in puts:
                if self.vault and "[" in text:  # what a mask says is not looked through
                    pieces = _MASK.split(text)
                    del pieces[2::3]
                    text = "".join(piece if piece in self.vault else replaced(rule, piece, put) for piece in pieces)
                else:
                    text = replaced(rule, text, put)
            return text

        changed: Document = mapped(document, change)
        return changed

    def _mask_of(self, kind: str) -> Change:
        found, numbered = self.found_in_prompt, self.guard.spec.restore

        def put(text: str) -> str:
            found[kind] = found.get(kind, 0) + 1
            if not numbered:
                return f"[{kind}]"
            mask = self._masks.get(text)
            if mask is None:
                self._numbers[kind] = self._numbers.get(kind, 0) + 1
                mask = self._masks[text] = f"[{kind.upper()}{self._tag}_{self._numbers[kind]}]"
                self.vault[mask] = text
            return mask

        return put

    def masking_answer(self, kind: str) -> Change:
        """Puts a mask in the place of a find in the answer."""
        found = self.found_in_answer

        def put(_: str) -> str:
            found[kind] = found.get(kind, 0) + 1
            return f"[{kind}]"

        return put

    def blocking(self, kind: str, where: str) -> Change:
        """Ends the request at a find."""

        def put(_: str) -> str:
            raise self.block(kind, where)

        return put

    def restore(self, mask: str) -> str:
        """What a mask stands for; the text itself, if it is none."""
        return self.vault.get(mask, mask)

    def restored(self, text: str) -> str:
        """A text with what its masks stand for."""
        return replaced(RESTORING, text, self.restore) if self.vault else text

    def fact(self) -> bytes:
        """Its member of a usage event, encoded."""
        told = {
            "action": self.action, "by": self.blocked, "prompt": self.found_in_prompt,
            "answer": self.found_in_answer, "unchecked": self.unchecked,
        }  # fmt: skip
        return b'"guard":%b,' % orjson.dumps(told)

    def line(self) -> bytes:
        """The header line that tells of it."""
        parts = [self.action, f"by={self.blocked}" if self.blocked else ""]
        for where, found in (("prompt", self.found_in_prompt), ("answer", self.found_in_answer)):
            parts += [f"{where}-{kind}={count}" for kind, count in found.items()]
        parts += [f"unchecked={name}" for name in self.unchecked]
        return b"x-tunegate-guard: %b\r\n" % "; ".join(filter(None, parts)).encode()


def check_readable(document: Document, body: bytes) -> None:
    """See that what a model may read of a request, which came as this body, is what can be looked through.

    Raises GatewayError: it is not.
    """
    try:
        name = repeated(body)
    except RecursionError:
        raise _too_deep() from None
    if name is not None:
        text = f"The member {name[:100]!r} comes twice in an object, and this model looks through what it is asked."
        raise GatewayError("caller_bad_request", text)
    tokens = [name for name in _TOKENS if _has_tokens(document.get(name))]
    tokens += ["prompt_embeds"] if document.get("prompt_embeds") is not None else []
    if tokens:
        text = f"This model looks through what it is asked: send text in {tokens[0]!r}, not tokens or vectors."
        raise GatewayError("caller_bad_request", text, param=tokens[0])


def _too_deep() -> GatewayError:
    return GatewayError("caller_bad_request", "The request is nested too deeply to be looked through.")


def _has_tokens(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, int | float | list) for one in value)


def texts_of(document: Document) -> list[str]:
    """All texts of a request, in their order. Raises RecursionError as `mapped`."""
    texts: list[str] = []

    def note(text: str) -> str:
        texts.append(text)
        return text

    mapped(document, note)
    return texts
