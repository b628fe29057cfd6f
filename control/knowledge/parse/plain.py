"""Text, Markdown, program text, CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import re

from control.knowledge.parse.blocks import Blocks, Refused

_ATX = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
_FENCE = re.compile(r"^\s{0,3}(```+|~~~+)")
_RULE = re.compile(r"^\s*\|?[\s:|-]*-[\s:|-]*\|[\s:|-]*$")


def decoded(data: bytes) -> str:
    """Text of unknown encoding: UTF-8 or UTF-16 with a mark, UTF-8, else GB 18030, which Chinese files are often in."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _strictly(data, "utf-16")
    if b"\0" in data:
        raise Refused("wrong_type", "it has NUL bytes: this is not text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _strictly(data, "gb18030")


def _strictly(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as exc:
        raise Refused("broken", "its text is in none of UTF-8, UTF-16 and GB 18030: save it as UTF-8") from exc


def text(data: bytes, out: Blocks) -> None:
    """Paragraphs between empty lines."""
    out.text(decoded(data))


def code(data: bytes, out: Blocks) -> None:
    """Pieces between empty lines, as they are."""
    for piece in re.split(r"\n(?:[ \t]*\n)+(?=\S)", decoded(data).replace("\r\n", "\n")):
        out.code(piece)


def markdown(data: bytes, out: Blocks) -> None:
    """Headings, fenced code, tables, and paragraphs."""
    lines = decoded(data).replace("\r\n", "\n").split("\n")
    held: list[str] = []

    def flush() -> None:
        out.text("\n".join(held))
        held.clear()

    at = 0
    while at < len(lines):
        line = lines[at]
        if fence := _FENCE.match(line):
            flush()
            end = next((n for n in range(at + 1, len(lines)) if lines[n].strip().startswith(fence[1])), len(lines))
            out.code("\n".join(lines[at + 1 : end]))
            at = end
        elif heading := _ATX.match(line):
            flush()
            out.heading(heading[2], len(heading[1]))
        elif held and held[-1].strip() and re.fullmatch(r"=+|-+", line.strip()) and "|" not in held[-1]:
            title = held.pop()
            flush()
            out.heading(title, 1 if line.strip()[0] == "=" else 2)
        elif held and "|" in held[-1] and _RULE.match(line):
            rows = [held.pop()]
            flush()
            while at + 1 < len(lines) and "|" in lines[at + 1]:
                at += 1
                rows.append(lines[at])
            out.table([[cell.strip() for cell in row.strip().strip("|").split("|")] for row in rows])
        else:
            held.append(line)
        at += 1
    flush()


def comma_separated(data: bytes, out: Blocks) -> None:
    """A table; what separates its cells is found out."""
    content = decoded(data)
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff(content[:10_000], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    csv.field_size_limit(1_000_000)
    try:
        out.table(list(csv.reader(io.StringIO(content, newline=""), dialect)))
    except csv.Error as exc:
        raise Refused("broken", f"it is no CSV: {exc}") from exc


def json_lines(data: bytes, out: Blocks) -> None:
    """One block for each value: `name: value`, one a line."""
    for number, line in enumerate(decoded(data).split("\n"), 1):
        if line.strip():
            _value(line, f"line {number}", out)


def json_whole(data: bytes, out: Blocks) -> None:
    """An object, or a list with a block for each value."""
    _value(decoded(data), "it", out)


def _value(content: str, where: str, out: Blocks) -> None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as exc:
        raise Refused("broken", f"{where} is no JSON: {exc}") from exc
    for one in value if isinstance(value, list) else [value]:
        shown = one if isinstance(one, dict) else {"": one}
        out.text("\n".join(f"{name}: {_written(part)}".removeprefix(": ") for name, part in shown.items()))


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
