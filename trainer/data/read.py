"""Rows of a file as they stand in it, one at a time: nothing is held in memory but the row that is read."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

LONGEST = 16_777_216
"""Characters of one row."""
_PIECE = 1 << 20


class Unreadable(Exception):
    """The file as a whole cannot be read; the message says why, and where."""


class Raw(NamedTuple):
    """One row as it is in the file."""

    line: int
    """From 1: of the text file, or the number of the row where a row is no line."""
    text: str
    value: Any
    """Parsed; None where it could not be."""
    code: str = ""
    """Why it could not be parsed."""
    message: str = ""


def rows(path: Path) -> Iterator[Raw]:
    """The rows of a file, read as its ending says.

    Raises:
        Unreadable: there is no way to tell its rows apart.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        yield from _parquet(path)
        return
    try:
        with path.open(encoding="utf-8-sig", errors="strict", newline="") as file:
            if ending == ".csv":
                yield from _csv(file)
            elif ending == ".json" and _begins_with_array(file):
                yield from _array(file)
            else:
                yield from _lines(file)
    except UnicodeDecodeError as exc:
        raise Unreadable(
            f"the file is not UTF-8: {exc.reason} at byte {exc.start} of a piece; save it as UTF-8"
        ) from exc


def parsed(text: str) -> Any:
    """JSON, without what is JSON in Python only. ValueError and RecursionError where it is none."""
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _raw(line: int, text: str) -> Raw:
    try:
        return Raw(line, text, parsed(text))
    except ValueError as exc:
        return Raw(line, text, None, "not_json", f"not JSON: {exc}")
    except RecursionError:
        return Raw(line, text, None, "too_deep", "nested too deeply")


def _lines(file: TextIO) -> Iterator[Raw]:
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST and not line.endswith("\n"):
            yield Raw(number, line, None, "too_long", f"longer than {LONGEST} characters")
            while (rest := file.readline(LONGEST)) and not rest.endswith("\n"):
                pass
        elif line.strip():
            yield _raw(number, line.strip())


def _begins_with_array(file: TextIO) -> bool:
    begin = file.read(4096).lstrip()[:1]
    file.seek(0)
    return begin == "["


def _array(file: TextIO) -> Iterator[Raw]:
    """Elements of one JSON array, decoded one after another as the file is read."""
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    buffer, ended, number = file.read(_PIECE).lstrip()[1:], False, 0
    while True:
        buffer = buffer.lstrip(", \t\r\n") if number else buffer.lstrip()
        if buffer.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(buffer)
            complete = ended or end < len(buffer)  # a number at the very end may go on
        except (ValueError, RecursionError) as exc:
            if ended or len(buffer) > LONGEST:
                raise Unreadable(f"no JSON array: row {number + 1} cannot be read: {exc}") from exc
            complete = False
        if complete:
            number += 1
            yield Raw(number, buffer[:end], value)
            buffer = buffer[end:]
        elif piece := file.read(_PIECE):
            buffer += piece
        else:
            ended = True


def _csv(file: TextIO) -> Iterator[Raw]:
    csv.field_size_limit(min(LONGEST, sys.maxsize))
    reader = csv.reader(file, strict=True)
    try:
        header = next(reader, [])
        if len(header) < 1 or not all(name.strip() for name in header) or len(set(header)) < len(header):
            raise Unreadable("the first line of a CSV file names its columns, each of them once")
        for fields in reader:
            if not fields:
                continue
            text = ",".join(fields)
            if len(fields) != len(header):
                message = f"{len(fields)} fields where the first line has {len(header)}"
                yield Raw(reader.line_num, text, None, "columns", message)
            else:
                cells = {name.strip(): _cell(field) for name, field in zip(header, fields, strict=True)}
                yield Raw(reader.line_num, text, cells)
    except csv.Error as exc:
        raise Unreadable(f"no CSV at line {reader.line_num}: {exc}") from exc


def _cell(text: str) -> Any:
    """A list or object is written as JSON in a cell; everything else is text."""
    if text[:1] in ("[", "{"):
        try:
            return parsed(text)
        except (ValueError, RecursionError):
            return text
    return text


def _parquet(path: Path) -> Iterator[Raw]:
    try:
        from pyarrow import ArrowException, parquet  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise Unreadable("Parquet needs the package pyarrow here: pip install 'tunegate[parquet]'") from exc
    try:
        number = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                for value in batch.to_pylist():
                    number += 1
                    whole = {name: one for name, one in value.items() if one is not None}
                    yield Raw(number, json.dumps(whole, ensure_ascii=False, default=str)[:LONGEST], _plain(whole))
    except (ArrowException, OSError) as exc:
        raise Unreadable(f"no Parquet file: {exc}") from exc


def _plain(value: Any) -> Any:
    """Without the members that Parquet adds as null to every struct of a list."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
