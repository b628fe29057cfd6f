"""promptfoo's YAML: prompts, tests with `vars`, and the kinds of `assert` that have a meaning here.

An assertion's value becomes a variable of its case, and the scorer has a place for it: a case without that variable is
not scored by it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import ValidationError

from control.comparisons import schemas
from control.comparisons.prompt import names
from control.errors import FieldError, fields

_NODES = 500_000
"""Most values in the document, those behind an alias counted each time."""
_COMBINATIONS = 1000
"""Cases that one test may make where its variables are lists."""
_NO_JAVASCRIPT = "runs a program, which nothing here does: say it with contains, regex, is-json or an expression"
_REFUSED = {"javascript": _NO_JAVASCRIPT, "python": _NO_JAVASCRIPT, "webhook": "calls an address that the file names"}
_TEMPLATE = re.compile(r"\{%|\{#|\{\{[^}]*[|(\[][^}]*\}\}")


@dataclass
class Taken:
    """What the file says."""

    prompts: list[dict[str, Any]] = field(default_factory=list)
    cases: list[dict[str, Any]] = field(default_factory=list)
    scorers: dict[str, dict[str, Any]] = field(default_factory=dict)
    providers: list[str] = field(default_factory=list)
    problems: list[FieldError] = field(default_factory=list)

    def version(self) -> schemas.SuiteVersionCreate | None:
        """The version that it makes; None if there are problems, which then say all that is wrong."""
        if self.problems:
            return None
        content = {
            "prompts": self.prompts, "scorers": [{"name": name, **spec} for name, spec in self.scorers.items()],
            "sources": [{"kind": "cases", "cases": self.cases}],
        }  # fmt: skip
        try:
            return schemas.SuiteVersionCreate.model_validate(content)
        except ValidationError as exc:
            self.problems += fields(exc, "suite")
            return None


def read(text: str, judge: str | None, leave_out: bool) -> tuple[Taken, list[str]]:
    """What the file says, and notes about what was left out, which is allowed by `leave_out`."""
    taken = Taken()
    document = _document(text, taken.problems)
    if document is None:
        return taken, []
    unfit: list[FieldError] = []
    taken.providers = _providers(document.get("providers", document.get("targets")))
    _prompts(document.get("prompts"), taken)
    common = document.get("defaultTest") or {}
    tests = document.get("tests")
    if not isinstance(tests, list) or not tests or not isinstance(common, dict):
        message = "must be a list of tests in this file, and `defaultTest` an object"
        taken.problems.append(FieldError(at="tests", message=message))
        return taken, []
    for number, test in enumerate(tests):
        if isinstance(test, dict):
            _test(test, common, f"tests.{number}", taken, unfit, judge)
        else:
            taken.problems.append(
                FieldError(at=f"tests.{number}", message="must be an object: other files are not read")
            )
    if unfit and not leave_out:
        taken.problems += unfit
    return taken, [f"{one.at}: {one.message}" for one in unfit]


def _document(text: str, problems: list[FieldError]) -> dict[str, Any] | None:
    try:
        document = yaml.safe_load(text)
        left = _NODES - _weight(document, _NODES)
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError) as exc:
        problems.append(FieldError(at="text", message=f"no YAML that can be read: {str(exc)[:500]}"))
        return None
    if left <= 0 or not isinstance(document, dict):
        message = "is too large when its aliases are followed" if left <= 0 else "must be promptfoo's configuration"
        problems.append(FieldError(at="text", message=message))
        return None
    return document


def _weight(value: Any, most: int) -> int:
    """How many values there are, counted no further than `most`."""
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    total = 1
    for one in members:
        if total >= most:
            break
        total += _weight(one, most - total)
    return total


def _providers(said: Any) -> list[str]:
    items = said if isinstance(said, list) else [said]
    return [str(one.get("id", next(iter(one), ""))) if isinstance(one, dict) else str(one) for one in items if one]


def _prompts(said: Any, taken: Taken) -> None:
    for number, one in enumerate(said if isinstance(said, list) else [said]):
        at = f"prompts.{number}"
        raw = one.get("raw") if isinstance(one, dict) else one
        label = one.get("label") if isinstance(one, dict) else None
        if not isinstance(raw, str) or not raw.strip() or raw.startswith("file://"):
            taken.problems.append(FieldError(at=at, message="must be the text itself: other files are not read"))
            continue
        if _TEMPLATE.search(raw):
            message = "only {{name}} is understood: no filters, conditions or loops"
            taken.problems.append(FieldError(at=at, message=message))
            continue
        name = (
            re.sub(r"[^A-Za-z0-9_.\-\u4e00-\u9fff]+", "-", str(label or "")).strip("-.")[:50] or f"prompt-{number + 1}"
        )
        if name in {prompt["name"] for prompt in taken.prompts}:
            name = f"{name}-{number + 1}"
        taken.prompts.append({"name": name, "messages": _messages(raw)})


def _messages(raw: str) -> list[Any]:
    """A prompt is the text of one message, or a list of messages as JSON."""
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        said = None
    return said if isinstance(said, list) else [{"role": "user", "content": raw}]


def _test(
    test: dict[str, Any], common: dict[str, Any], at: str, taken: Taken, unfit: list[FieldError], judge: str | None
) -> None:
    variables = {**(common.get("vars") or {}), **(test.get("vars") or {})} if _objects(test, common) else None
    asserts = [*(common.get("assert") or []), *(test.get("assert") or [])] if _lists(test, common) else None
    if variables is None or asserts is None:
        taken.problems.append(FieldError(at=at, message="`vars` must be an object and `assert` a list in this file"))
        return
    added: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for number, one in enumerate(asserts):
        _assert(one, f"{at}.assert.{number}", judge, counts, added, taken, unfit)
    expected = added.pop("assert_equals_1", None)
    lists = {str(key): value if isinstance(value, list) else [value] for key, value in variables.items()}
    total = 1
    for values in lists.values():
        total *= len(values)
    if total > _COMBINATIONS or any("file://" in str(value) for values in lists.values() for value in values):
        message = f"its variables make more than {_COMBINATIONS} cases, or are in other files, which are not read"
        taken.problems.append(FieldError(at=at, message=message))
        return
    tags = [re.sub(r"[\x00-\x1f\x7f]", " ", str(test["description"]))[:64]] if test.get("description") else []
    for chosen in itertools.product(*lists.values()):
        filled = {key: _text(value) for key, value in zip(lists, chosen, strict=True)}
        missing = set().union(*(names(prompt["messages"]) for prompt in taken.prompts)) - set(filled)
        if missing:
            message = f"prompts have places for {', '.join(sorted(missing))}, which it does not say"
            taken.problems.append(FieldError(at=f"{at}.vars", message=message))
            return
        taken.cases.append({"variables": filled | added, "tags": tags, "expected": expected})


def _assert(
    said: Any, at: str, judge: str | None, counts: Counter[str], added: dict[str, str], taken: Taken,
    unfit: list[FieldError],
) -> None:  # fmt: skip
    kind = said.get("type") if isinstance(said, dict) else None
    value = _text(said.get("value", "")) if isinstance(said, dict) else ""
    reason = _REFUSED.get(str(kind))
    if kind == "llm-rubric" and judge is None:
        reason = "needs a judge: say which route is to answer for it"
    known = {"equals", "contains", "icontains", "regex", "is-json", "llm-rubric"}
    if kind not in known or reason is not None:
        unfit.append(FieldError(at=at, message=f"{kind}: {reason or 'has no meaning here'}"))
        return
    if kind == "is-json" and not value:
        taken.scorers["is-json"] = {"kind": "json_schema", "json_schema": {}}
        return
    if kind == "is-json":
        unfit.append(FieldError(at=at, message="is-json with a schema: add a json_schema scorer for all cases instead"))
        return
    if kind == "equals":
        if "assert_equals_1" in added:
            unfit.append(FieldError(at=at, message="equals: an answer cannot equal two values"))
        added.setdefault("assert_equals_1", value)
        taken.scorers["equals"] = {"kind": "exact"}
        return
    short = {"llm-rubric": "rubric"}.get(str(kind), str(kind))
    counts[short] += 1
    variable = f"assert_{short}_{counts[short]}"
    added[variable] = value
    place = f"{{{{{variable}}}}}"
    scorers: dict[str, dict[str, Any]] = {
        "contains": {"kind": "contains", "all_of": [place], "ignore_case": False},
        "icontains": {"kind": "contains", "all_of": [place]},
        "regex": {"kind": "regex", "pattern": place},
        "rubric": {"kind": "judge", "route": judge, "rubric": place},
    }
    taken.scorers[f"{short}-{counts[short]}"] = scorers[short]


def _objects(*tests: dict[str, Any]) -> bool:
    return all(isinstance(test.get("vars") or {}, dict) for test in tests)


def _lists(*tests: dict[str, Any]) -> bool:
    return all(isinstance(test.get("assert") or [], list) for test in tests)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
