"""Scorers that look at the form of an answer: JSON, tool calls, citations."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jsonschema

from control.comparisons.scorers import specs
from control.comparisons.scorers.base import Answer, Case, Score, unscored, verdict

ABSENT = object()
_CITED = re.compile(r"\[(\d{1,4})\]")


def json_schema(spec: specs.JsonSchema, _case: Case, answer: Answer) -> Score:
    """Whether the answer is JSON of the schema."""
    try:
        value = json.loads(answer.text)
    except (ValueError, RecursionError) as exc:
        return verdict(False, f"no JSON: {exc}")
    try:
        wrong = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(spec.json_schema).iter_errors(value))
    except RecursionError:
        return unscored("the schema refers to itself without end")
    except jsonschema.exceptions._WrappedReferencingError as exc:
        return unscored(f"the schema refers to what is not there: {exc}")
    return verdict(wrong is None, "" if wrong is None else f"{wrong.json_path}: {wrong.message}"[:300])


def json_field(spec: specs.JsonField, case: Case, answer: Answer) -> Score:
    """The share of the fields that are equal."""
    if case.expected is None:
        return unscored("the case has no expected answer")
    try:
        wanted = json.loads(case.expected)
    except (ValueError, RecursionError):
        return unscored("the expected answer is no JSON")
    try:
        got = json.loads(answer.text)
    except (ValueError, RecursionError) as exc:
        return verdict(False, f"no JSON: {exc}")
    unequal = [path for path in spec.fields if not same(at(wanted, path), at(got, path))]
    return Score(1 - len(unequal) / len(spec.fields), not unequal, f"other: {', '.join(unequal)}" if unequal else "")


def tool_call(spec: specs.ToolCall, case: Case, answer: Answer) -> Score:
    """F1 of the calls; all of them and no more pass."""
    if case.expected is None:
        return unscored("the case has no expected answer")
    try:
        wanted = [_call(one, spec.arguments) for one in json.loads(case.expected)]
    except (ValueError, TypeError, KeyError, RecursionError):
        return unscored('the expected answer is no list such as [{"name": "f", "arguments": {"x": 1}}]')
    got = [_made(one, spec.arguments) for one in answer.tool_calls]
    if not wanted and not got:
        return verdict(True)
    common = sum((Counter(wanted) & Counter(got)).values())
    missing = Counter(wanted) - Counter(got)
    note = f"not called: {next(iter(missing))}"[:300] if missing else ""
    return Score(2 * common / (len(wanted) + len(got)), common == len(wanted) == len(got), note)


def citation(_spec: specs.Citation, case: Case, answer: Answer) -> Score:
    """Whether one of the numbers in the text, such as `[1]`, means a passage of the case's document."""
    if case.document is None:
        return unscored("the case names no document")
    numbers = {int(number) for number in _CITED.findall(answer.text)}
    cited = [one for one in answer.citations if one.get("index") in numbers]
    right = any(case.document in (one.get("filename"), one.get("file_id")) for one in cited)
    names = ", ".join(dict.fromkeys(str(one.get("filename")) for one in cited))
    return verdict(right, f"cited: {names or 'nothing'}"[:300])


def at(value: Any, path: str) -> Any:
    """What a path leads to, or `ABSENT`."""
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return ABSENT
    return value


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values: 1 is 1.0, and true is not 1."""
    return one is not ABSENT and other is not ABSENT and _canonical(one) == _canonical(other)


def _canonical(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    return json.dumps(value)


def _call(call: Mapping[str, Any], arguments: bool) -> str:
    return f"{call['name']}({_canonical(call.get('arguments', {})) if arguments else ''})"


def _made(call: Mapping[str, Any], arguments: bool) -> str:
    """A call of the answer; arguments that are no JSON stay as they are and equal nothing."""
    function = call.get("function") or {}
    text = function.get("arguments") or "{}"
    try:
        return _call({"name": function.get("name"), "arguments": json.loads(text)}, arguments)
    except (ValueError, RecursionError):
        return f"{function.get('name')}({text if arguments else ''})"
