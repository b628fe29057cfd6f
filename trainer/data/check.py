"""Checks a file of rows to learn from, and writes them in the one form that recipes read.

    python -m trainer.data.check SOURCE OUT [--format FORMAT]

OUT/rows.jsonl      accepted rows (`trainer.contract.spec.RowKind`), each with `_line`, its line in SOURCE
OUT/rejected.jsonl  the others: `line`, `code`, `message`, `text` (its beginning)
OUT/report.json     where every row went: `total` = `accepted` + `rejected` + `duplicates`; `format`, `kind`, `mapping`,
                    `sha256` (of rows.jsonl), `reasons` (count by code), `duplicate_lines`, `roles`, `turns`, `lengths`
                    (characters of a row), `hints` at personal data

Progress goes to stdout, a JSON object a line. The status is 0 also when every row was rejected; it is 1, with a line on
stderr, when the file as a whole cannot be read. Nothing but the standard library, and pyarrow for Parquet: it runs in a
process with limits, since the file may be hostile.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO, cast

from trainer.data.formats import FORMATS, KIND, Format, Refused, canonical, detect, mapping
from trainer.data.hints import hints
from trainer.data.read import Raw, Unreadable, rows

SAMPLE = 500
"""Rows from which the format is found out."""
SHOWN = 2000
"""Characters of a rejected row that are kept."""
LISTED = 100
"""Lines that the report lists of each kind."""
EVERY = 0.5
"""Seconds between lines of progress."""


def main() -> int:
    """Check a file; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m trainer.data.check")
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--format", choices=("auto", *FORMATS), default="auto")
    options = parser.parse_args()
    try:
        report = check(options.source, options.out, options.format, progress=sys.stdout)
    except Unreadable as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    except OSError as exc:
        sys.stderr.write(f"{exc.filename or options.out}: {exc.strerror}\n")
        return 1
    except MemoryError:
        sys.stderr.write("the file needs more memory than the check may take\n")
        return 1
    sys.stdout.write(json.dumps({"rows": report["total"], "share": 1.0}) + "\n")
    return 0


def check(source: Path, out: Path, asked: str = "auto", progress: TextIO | None = None) -> dict[str, Any]:
    """Check `source`, write the three files into `out`, return the report. `asked`: a format, or `auto`.

    Raises:
        Unreadable: the rows of the file cannot be told apart, or its format not be found out.
    """
    out.mkdir(parents=True, exist_ok=True)
    reader = rows(source)
    first = list(islice(reader, SAMPLE))
    form = detect([raw.value for raw in first]) if asked == "auto" else cast(Format, asked)
    if form is None:
        raise Unreadable(_no_format(first))
    tally = Tally(form, first)
    partial = out / "rows.jsonl.partial"
    with (
        partial.open("w", encoding="utf-8", newline="\n") as good,
        (out / "rejected.jsonl").open("w", encoding="utf-8", newline="\n") as bad,
    ):
        for raw in _watched(chain(first, reader), source, progress):
            tally.take(raw, good, bad)
        good.flush()
        os.fsync(good.fileno())
    partial.replace(out / "rows.jsonl")
    report = tally.report()
    (out / "report.json").write_text(json.dumps(report, ensure_ascii=False), encoding="utf-8")
    return report


class Tally:
    """Where each row went."""

    def __init__(self, form: Format, first: list[Raw]) -> None:
        self._form = form
        self._mapping = next((found for raw in first if (found := mapping(form, raw.value))), {})
        self._digest = hashlib.sha256()
        self._seen: dict[bytes, int] = {}
        self._duplicates: list[tuple[int, int]] = []
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._roles: Counter[str] = Counter()
        self._turns: Counter[int] = Counter()
        self._lengths = array("L")
        self._hints: dict[str, list[int]] = {}

    def take(self, raw: Raw, good: TextIO, bad: TextIO) -> None:
        """Take one row: write it to where it belongs, and count it."""
        self._counts["total"] += 1
        try:
            if raw.code:
                raise Refused(raw.code, raw.message)
            row = canonical(self._form, raw.value)
            text = json.dumps(row, ensure_ascii=False)
            encoded = text.encode()
        except (Refused, UnicodeEncodeError, RecursionError) as exc:
            self._reject(raw, exc, bad)
            return
        mark = hashlib.blake2b(encoded, digest_size=16).digest()
        before = self._seen.setdefault(mark, raw.line)
        if before != raw.line:
            self._counts["duplicates"] += 1
            self._duplicates.append((raw.line, before))
            return
        line = json.dumps({"_line": raw.line, **row}, ensure_ascii=False) + "\n"
        good.write(line)
        self._digest.update(line.encode())
        self._measure(raw.line, row, text)

    def report(self) -> dict[str, Any]:
        """The whole account."""
        return {
            "total": self._counts["total"], "accepted": self._counts["accepted"], "rejected": self._counts["rejected"],
            "duplicates": self._counts["duplicates"], "format": self._form, "kind": KIND[self._form],
            "mapping": self._mapping, "sha256": self._digest.hexdigest(), "reasons": dict(self._reasons.most_common()),
            "duplicate_lines": [{"line": line, "of": of} for line, of in self._duplicates[:LISTED]],
            "roles": dict(self._roles), "turns": {str(turns): self._turns[turns] for turns in sorted(self._turns)},
            "lengths": {"characters": summary(self._lengths)},
            "hints": {
                kind: {"rows": len(lines), "lines": lines[:LISTED]} for kind, lines in sorted(self._hints.items())
            },
        }  # fmt: skip

    def _reject(self, raw: Raw, exc: Exception, bad: TextIO) -> None:
        code = exc.code if isinstance(exc, Refused) else "encoding" if isinstance(exc, UnicodeError) else "too_deep"
        message = str(exc) if isinstance(exc, Refused) else "half a character (a lone surrogate) is in it"
        self._counts["rejected"] += 1
        self._reasons[code] += 1
        shown = raw.text[:SHOWN].encode(errors="replace").decode()
        entry = {"line": raw.line, "code": code, "message": message[:500], "text": shown}
        bad.write(json.dumps(entry, ensure_ascii=True) + "\n")

    def _measure(self, line: int, row: dict[str, Any], text: str) -> None:
        self._counts["accepted"] += 1
        messages = [one for part in row.values() if isinstance(part, list) for one in part if isinstance(one, dict)]
        for message in messages:
            self._roles[message["role"]] += 1
        self._turns[sum(message["role"] == "user" for message in messages)] += 1
        said = [str(message["content"]) for message in messages] or [row.get("text", "")]
        said += row.get("choices", ())
        self._lengths.append(sum(map(len, said)))
        for hint in hints(text):
            self._hints.setdefault(hint, []).append(line)


def summary(lengths: array[int]) -> dict[str, Any]:
    """Total, quantiles, and a histogram with bounds that double: `{"to": bound, "rows": count}`."""
    if not lengths:
        return {"total": 0, "min": 0, "p50": 0, "p95": 0, "max": 0, "histogram": []}
    ordered = sorted(lengths)
    bounds: Counter[int] = Counter()
    for length in ordered:
        bounds[1 << max(4, (length - 1).bit_length() if length else 0)] += 1
    return {
        "total": sum(ordered), "min": ordered[0], "p50": ordered[len(ordered) // 2],
        "p95": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))], "max": ordered[-1],
        "histogram": [{"to": bound, "rows": bounds[bound]} for bound in sorted(bounds)],
    }  # fmt: skip


def _watched(raws: Iterator[Raw], source: Path, progress: TextIO | None) -> Iterator[Raw]:
    """The same rows, with a line of progress now and then: rows so far, and about which share of the file that is."""
    size, read, told = max(1, source.stat().st_size), 0, time.monotonic()
    for number, raw in enumerate(raws, 1):
        yield raw
        read += len(raw.text) + 1
        if progress is not None and time.monotonic() - told >= EVERY:
            told = time.monotonic()
            progress.write(json.dumps({"rows": number, "share": min(0.99, round(read / size, 3))}) + "\n")
            progress.flush()


def _no_format(first: list[Raw]) -> str:
    if not first:
        return "the file has no rows"
    names = sorted({name for raw in first if isinstance(raw.value, dict) for name in raw.value})[:20]
    seen = f"its columns are {', '.join(names)}" if names else f"its first row says: {first[0].message or 'no object'}"
    return f"no row has a format that is known ({', '.join(FORMATS)}): {seen}"


if __name__ == "__main__":
    sys.exit(main())
