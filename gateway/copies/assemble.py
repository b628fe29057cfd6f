"""One object from the events of a stream, whoever's dialect it is in.

What a model says comes in pieces of a few letters, and no piece of a phone number looks like one. What is not as its
dialect says is read without it, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from gateway.protocols.answers import index as index_of, mapping, objects, text
from gateway.protocols.base import BadReply
from gateway.protocols.sse import split

Document = dict[str, Any]
_GROWS = frozenset({"content", "reasoning_content", "reasoning", "refusal", "text", "arguments", "data"})
"""Members whose pieces are appended to each other; of all others the last value counts."""
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_PIECES = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


def assembled(raw: bytes) -> Document:
    """One object: the message of a Messages stream, the response of a Responses stream, else `choices` or `candidates`
    with whole messages and other members as they came last. What is no JSON is under `unreadable`.
    """
    chunks, unreadable = _chunks(raw)
    kinds = {str(chunk.get("type", "")).partition(".")[0] for chunk in chunks}
    if "message_start" in kinds:
        whole = _messages(chunks)
    elif "response" in kinds:
        whole = _responses(chunks)
    else:
        whole = _merged(chunks)
    if unreadable:
        whole["unreadable"] = unreadable
    return whole


def readable(raw: bytes) -> str:
    """Text that is not JSON, or only the beginning of it: escapes become what they mean."""
    plain = _ESCAPE.sub(_unescaped, raw.decode(errors="replace"))
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unescaped(match: re.Match[str]) -> str:
    code, plain = match.groups()
    return chr(int(code, 16)) if code else _PLAIN.get(plain, plain)


def _chunks(raw: bytes) -> tuple[list[Document], list[str]]:
    chunks: list[Document] = []
    unreadable: list[str] = []
    for data in _data(raw):
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            chunk = None
        if isinstance(chunk, dict):
            chunks.append(chunk)
        else:
            unreadable.append(readable(data))
    return chunks, unreadable


def _data(raw: bytes) -> Iterator[bytes]:
    """What the events hold, but for the marks of the protocol itself."""
    for event in split(raw):
        for line in event.splitlines():
            data = line.removeprefix(b"data:").strip()
            if line.startswith(b"data:") and data not in (b"", b"[DONE]"):
                yield data


# --- chat completions and Gemini: every chunk is a piece of the whole


def _merged(chunks: list[Document]) -> Document:
    whole: Document = {}
    lists: dict[str, dict[str, Document]] = {}
    for chunk in chunks:
        for name in ("choices", "candidates"):
            for one in objects(chunk.pop(name, None)):
                held = lists.setdefault(name, {}).setdefault(str(one.get("index", 0)), {})
                _merge(held, one)
        whole.update(chunk)
    for name, found in lists.items():
        whole[name] = list(found.values())
    return whole


def _merge(into: Document, more: Document) -> None:
    for name, value in more.items():
        held = into.get(name)
        if isinstance(held, str) and isinstance(value, str) and name in _GROWS:
            into[name] = held + value
        elif isinstance(held, dict) and isinstance(value, dict):
            _merge(held, value)
        elif isinstance(held, list) and isinstance(value, list):
            (_merge_parts if name == "parts" else _merge_lists)(held, value)
        elif value is not None or name not in into:
            into[name] = value


def _merge_lists(into: list[Any], more: list[Any]) -> None:
    """Items with an `index` (tool calls) grow, all others are added."""
    for item in more:
        at = item.get("index") if isinstance(item, dict) else None
        held = None
        if at is not None:
            held = next((one for one in into if isinstance(one, dict) and one.get("index") == at), None)
        if held is None:
            into.append(item)
        else:
            _merge(held, item)


def _merge_parts(into: list[Any], more: list[Any]) -> None:
    """Gemini's parts: a text goes on in the one before, if both are thoughts or neither is."""
    for part in more:
        last = mapping(into[-1]) if into else {}
        same = bool(last.get("thought")) == bool(mapping(part).get("thought"))
        if "text" in last and "text" in mapping(part) and same:
            _merge(last, part)
        else:
            into.append(part)


# --- Messages: a message, blocks that open, grow and close, and what changed at the end


def _messages(chunks: list[Document]) -> Document:
    message: Document = {}
    blocks: dict[int, Document] = {}
    written: dict[int, str] = {}
    """Arguments of tool calls, as JSON in pieces."""
    for chunk in chunks:
        match chunk.get("type"):
            case "message_start":
                message.update(mapping(chunk.get("message")))
            case "content_block_start":
                blocks[_place(chunk, "index")] = dict(mapping(chunk.get("content_block")))
            case "content_block_delta":
                at, delta = _place(chunk, "index"), mapping(chunk.get("delta"))
                if delta.get("type") == "input_json_delta":
                    written[at] = written.get(at, "") + text(delta, "partial_json")
                else:
                    _grow(blocks.setdefault(at, {}), delta)
            case "message_delta":
                message.update(mapping(chunk.get("delta")))
                message["usage"] = {**mapping(message.get("usage")), **mapping(chunk.get("usage"))}
            case "error":
                message["error"] = chunk.get("error")
    for at, arguments in written.items():
        blocks.setdefault(at, {})["input"] = _json(arguments)
    message["content"] = [blocks[at] for at in sorted(blocks)]
    return message


def _grow(block: Document, delta: Document) -> None:
    name = _PIECES.get(text(delta, "type"))
    if name is not None:
        block[name] = text(block, name) + text(delta, name)
    elif "citation" in delta:
        block["citations"] = [*objects(block.get("citations")), delta["citation"]]


def _json(written: str) -> Any:
    """The value, or the text of one that broke off."""
    try:
        return orjson.loads(written)
    except orjson.JSONDecodeError:
        return written


# --- Responses: the last event holds the whole; of a stream that broke off, the items so far


def _responses(chunks: list[Document]) -> Document:
    response: Document = {}
    items: dict[int, Document] = {}
    for chunk in chunks:
        kind, at = text(chunk, "type"), _place(chunk, "output_index")
        if kind in _ENDS:
            return mapping(chunk.get("response"))
        if "response" in chunk:
            response.update(mapping(chunk["response"]))
        elif kind == "error":
            response["error"] = {name: value for name, value in chunk.items() if name != "type"}
        elif "item" in chunk:
            items[at] = dict(mapping(chunk["item"]))
        elif "delta" in chunk:
            item = items.setdefault(at, {})
            if kind == "response.function_call_arguments.delta":
                item["arguments"] = text(item, "arguments") + text(chunk, "delta")
            else:
                _grow_part(item, chunk, text(chunk, "delta"))
    response["output"] = [items[at] for at in sorted(items)]
    return response


def _grow_part(item: Document, chunk: Document, piece: str) -> None:
    """A part of a message, or of a summary of reasoning."""
    name = "summary" if "summary_index" in chunk else "content"
    parts = objects(item.get(name))
    at = min(_place(chunk, "summary_index" if name == "summary" else "content_index"), len(parts))
    if at == len(parts):
        parts.append({})
    parts[at]["text"] = text(parts[at], "text") + piece
    item[name] = parts


def _place(chunk: Document, name: str) -> int:
    try:
        return index_of(chunk, name)
    except BadReply:
        return 0
