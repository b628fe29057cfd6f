"""What people call a row, and the one form in which recipes read it (`trainer.contract.spec.RowKind`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

from trainer.contract.spec import RowKind

Format = Literal["messages", "alpaca", "sharegpt", "preference", "kto", "text", "choice"]
FORMATS: tuple[Format, ...] = get_args(Format)
KIND: dict[Format, RowKind] = {
    "messages": "sft", "alpaca": "sft", "sharegpt": "sft", "preference": "preference", "kto": "kto", "text": "pretrain",
    "choice": "choice",
}  # fmt: skip
_ALIASES = {
    "instruction": ("instruction", "prompt", "question", "query"),
    "output": ("output", "response", "answer", "completion"),
    "input": ("input", "context"),
}
_SPEAKERS = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant",
    "chatgpt": "assistant", "bot": "assistant", "observation": "tool", "tool": "tool",
}  # fmt: skip
_KEPT = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Refused(Exception):
    """A row that cannot be learned from: a code for programs, a message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def detect(values: Sequence[Any]) -> Format | None:
    """The format that most of some rows have; None if no row has any."""
    votes = Counter(found for value in values if (found := _looks_like(value)))
    return votes.most_common(1)[0][0] if votes else None


def _looks_like(value: Any) -> Format | None:
    if isinstance(value, str):
        return "text"
    if not isinstance(value, dict):
        return None
    if "chosen" in value and "rejected" in value:
        return "preference"
    if "choices" in value:
        return "choice"
    if "label" in value and ("completion" in value or "messages" in value):
        return "kto"
    if "messages" in value:
        return "messages"
    if "conversations" in value:
        return "sharegpt"
    if _column(value, "instruction") and _column(value, "output"):
        return "alpaca"
    return "text" if isinstance(value.get("text"), str) else None


def mapping(form: Format, value: Any) -> dict[str, str]:
    """Which column of a row is taken for what."""
    if form != "alpaca" or not isinstance(value, dict):
        return {}
    return {part: name for part in _ALIASES if (name := _column(value, part))}


def canonical(form: Format, value: Any) -> dict[str, Any]:
    """A row in the form in which recipes read it.

    Raises:
        Refused: it has no such row, with the reason.
    """
    if form == "text":
        return {"text": _text(value if isinstance(value, str) else _member(_object(value), "text"), "text")}
    row = _object(value)
    if form == "messages":
        return _with_tools(row, dialogue(_member(row, "messages")))
    if form == "sharegpt":
        return _with_tools(row, dialogue(_shared(row)))
    if form == "alpaca":
        return {"messages": dialogue(_alpaca(row))}
    if form == "kto":
        return _kto(row)
    if form == "choice":
        return _choice(row)
    return _preference(row)


def dialogue(value: Any, *, ends_with: str = "assistant") -> list[dict[str, Any]]:
    """Messages in the order of a chat: system first, then user and assistant in turn, tools after their calls.

    Raises:
        Refused: they are in another order, or one of them is no message.
    """
    if not isinstance(value, list) or not value:
        raise Refused("empty" if value == [] else "wrong_type", "`messages` is no list of messages")
    found = [_message(number, one) for number, one in enumerate(value, 1)]
    roles = [one["role"] for one in found]
    before = "start"
    for number, one in enumerate(found, 1):
        if one["role"] not in _AFTER[before]:
            raise Refused("roles", f"message {number} is the {one['role']}'s, after {_SAID[before]}")
        before = "calls" if one.get("tool_calls") else one["role"]
    if roles[-1] != ends_with:
        code = "no_assistant" if ends_with == "assistant" and "assistant" not in roles else "roles"
        raise Refused(code, f"the last message is the {roles[-1]}'s, and not the {ends_with}'s")
    return found


_AFTER = {
    "start": ("system", "user"), "system": ("user",), "user": ("assistant",), "assistant": ("user",),
    "calls": ("tool",), "tool": ("tool", "assistant"),
}  # fmt: skip
_SAID = {
    "start": "nothing", "system": "the system's", "user": "the user's", "assistant": "the assistant's",
    "calls": "calls of tools", "tool": "a tool's",
}  # fmt: skip


def _message(number: int, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused("wrong_type", f"message {number} is no object")
    one = {name: value[name] for name in _KEPT if value.get(name) is not None}
    role = one.get("role")
    if role == "developer":
        role = one["role"] = "system"
    if role not in ("system", "user", "assistant", "tool"):
        raise Refused("roles", f"message {number} has the role {role!r}")
    if calls := one.get("tool_calls"):
        one["tool_calls"] = _calls(number, calls)
        if role != "assistant":
            raise Refused("tool_calls", f"message {number}: only the assistant calls tools")
    else:
        one.pop("tool_calls", None)
    content = one.get("content")
    if isinstance(content, list):
        content = _parts(number, content)
    if content is None and "tool_calls" in one:
        content = ""
    if not isinstance(content, str):
        raise Refused("wrong_type", f"message {number}: `content` is no text")
    if not content.strip() and "tool_calls" not in one and role != "tool":
        raise Refused("empty", f"message {number} is empty")
    return {**one, "content": content}


def _parts(number: int, parts: list[Any]) -> str:
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        raise Refused("not_text", f"message {number} has parts that are no text: no recipe learns from them")
    return "".join(_text(part.get("text"), f"message {number}") for part in parts)


def _calls(number: int, calls: Any) -> list[dict[str, Any]]:
    found = []
    for one in calls if isinstance(calls, list) else [calls]:
        call = one if isinstance(one, dict) else {}
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Refused("tool_calls", f"message {number}: a call has no function with a name")
        arguments = function.get("arguments", {})
        try:
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        except ValueError as exc:
            raise Refused("tool_calls", f"message {number}: the arguments of {function['name']} are no JSON") from exc
        kept = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
        found.append({"id": call["id"], **kept} if isinstance(call.get("id"), str) else kept)
    return found


def _with_tools(row: Mapping[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any]:
    tools = row.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except ValueError as exc:
            raise Refused("tools", "`tools` is no JSON") from exc
    if not tools:
        return {"messages": messages}
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise Refused("tools", "`tools` is no list of tools")
    return {"messages": messages, "tools": tools}


def _shared(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    turns = _member(row, "conversations")
    if not isinstance(turns, list):
        raise Refused("wrong_type", "`conversations` is no list")
    found: list[dict[str, Any]] = []
    if isinstance(row.get("system"), str) and row["system"].strip():
        found.append({"role": "system", "content": row["system"]})
    for number, turn in enumerate(turns, 1):
        speaker = turn.get("from") if isinstance(turn, dict) else None
        if speaker == "function_call":
            found.append({"role": "assistant", "tool_calls": _shared_calls(number, turn.get("value"))})
        elif speaker in _SPEAKERS:
            found.append({"role": _SPEAKERS[cast(str, speaker)], "content": turn.get("value")})
        else:
            raise Refused("roles", f"turn {number} is from {speaker!r}")
    return found


def _shared_calls(number: int, value: Any) -> list[dict[str, Any]]:
    try:
        calls = json.loads(value) if isinstance(value, str) else value
    except ValueError as exc:
        raise Refused("tool_calls", f"turn {number}: the call is no JSON") from exc
    return [{"function": call} for call in (calls if isinstance(calls, list) else [calls])]


def _alpaca(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    asked, answered = _column(row, "instruction"), _column(row, "output")
    if asked is None or answered is None:
        missing = "instruction" if asked is None else "output"
        raise Refused("missing", f"there is no `{missing}`")
    more = _column(row, "input")
    question = _text(row[asked], asked)
    if more is not None and isinstance(row[more], str) and row[more].strip():
        question = f"{question}\n{row[more]}"
    found: list[dict[str, Any]] = []
    if isinstance(row.get("system"), str) and row["system"].strip():
        found.append({"role": "system", "content": row["system"]})
    for turn in row.get("history") or ():
        if not isinstance(turn, list) or len(turn) != 2:
            raise Refused("wrong_type", "`history` is no list of pairs")
        found += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[1]}]
    return [*found, {"role": "user", "content": question}, {"role": "assistant", "content": row[answered]}]


def _preference(row: Mapping[str, Any]) -> dict[str, Any]:
    chosen, rejected = _member(row, "chosen"), _member(row, "rejected")
    if "prompt" in row or "instruction" in row:
        prompt = _prompt(row.get("prompt", row.get("instruction")))
    elif isinstance(chosen, list) and isinstance(rejected, list):  # both hold the dialogue from its beginning
        same = 0
        while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
            same += 1
        prompt, chosen, rejected = dialogue(chosen[:same], ends_with="user"), chosen[same:], rejected[same:]
    else:
        raise Refused("missing", "there is no `prompt`")
    sides = [_answer(prompt, side, name) for side, name in ((chosen, "chosen"), (rejected, "rejected"))]
    if sides[0] == sides[1]:
        raise Refused("same", "`chosen` and `rejected` are the same")
    return {"prompt": prompt, "chosen": sides[0], "rejected": sides[1]}


def _kto(row: Mapping[str, Any]) -> dict[str, Any]:
    label = row.get("label")
    label = _TRUTH.get(label.strip().lower()) if isinstance(label, str) else label
    if not isinstance(label, bool):
        raise Refused("wrong_type", f"`label` is {row.get('label')!r}, neither true nor false")
    if "messages" in row:
        whole = dialogue(row["messages"])
        return {"prompt": whole[:-1], "completion": whole[-1:], "label": label}
    prompt = _prompt(_member(row, "prompt"))
    return {"prompt": prompt, "completion": _answer(prompt, _member(row, "completion"), "completion"), "label": label}


def _choice(row: Mapping[str, Any]) -> dict[str, Any]:
    """`choices` is a list of texts, or as in ARC `{"text": [...], "label": [...]}`; the answer its number from 0, its
    label (A, B, … unless there are others), or its text.
    """
    asked = next(
        (name for name in ("prompt", "question", "query", "messages") if row.get(name) is not None), "question"
    )
    prompt = _prompt(_member(row, asked))
    choices: Any = _member(row, "choices")
    labels: Any = None
    if isinstance(choices, dict):
        choices, labels = choices.get("text"), choices.get("label")
    if not isinstance(choices, list) or not 2 <= len(choices) <= len(LETTERS):
        raise Refused("choices", f"`choices` is no list of 2 to {len(LETTERS)} texts")
    texts = [_text(one, "choices") for one in choices]
    if len(set(texts)) < len(texts):
        raise Refused("same", "two of the `choices` are the same")
    if labels is not None and (not isinstance(labels, list) or len(labels) != len(texts)):
        raise Refused("choices", "`choices.label` has not as many labels as there are choices")
    said = next((row[name] for name in ("answer", "answerKey", "gold", "label") if row.get(name) is not None), None)
    return {"prompt": prompt, "choices": texts, "answer": _right(said, texts, labels or list(LETTERS[: len(texts)]))}


def _right(said: Any, texts: Sequence[str], labels: Sequence[Any]) -> int:
    """Number of the right choice."""
    names = [str(label) for label in labels]
    if isinstance(said, str) or (isinstance(said, int) and not isinstance(said, bool) and 0 <= said < 1000):
        name = str(said).strip()
        if name in names:
            return names.index(name)
        if said in texts:
            return list(texts).index(cast(str, said))
        if name.isdecimal() and len(name) < 4 and int(name) < len(texts):
            return int(name)
    raise Refused("answer", f"`answer` is {str(said)[:80]!r}: no number, label or text of one of the choices")


def _prompt(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    return dialogue(value, ends_with="tool" if _ends_with_tool(value) else "user")


def _ends_with_tool(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[-1], dict) and value[-1].get("role") == "tool"


def _answer(prompt: list[dict[str, Any]], value: Any, name: str) -> list[dict[str, Any]]:
    if isinstance(value, (str, dict)):
        value = [{"role": "assistant", "content": value} if isinstance(value, str) else value]
    if not isinstance(value, list) or not value:
        raise Refused("missing", f"`{name}` has no answer")
    return dialogue([*prompt, *value])[len(prompt) :]


def _column(row: Mapping[str, Any], part: str) -> str | None:
    return next((name for name in _ALIASES[part] if name in row), None)


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Refused("wrong_type", "the row is no object")
    return value


def _member(row: Mapping[str, Any], name: str) -> Any:
    if row.get(name) is None:
        raise Refused("missing", f"there is no `{name}`")
    return row[name]


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Refused("wrong_type", f"`{name}` is no text")
    if not value.strip():
        raise Refused("empty", f"`{name}` is empty")
    return value
