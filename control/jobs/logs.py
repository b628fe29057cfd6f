"""Logs of attempts: appended as workers send them, read in pieces, searched line by line."""

from __future__ import annotations

from pathlib import Path

from control.jobs.schemas import LogMatch, LogMatches, LogPiece
from control.kit.files import Files
from control.models import TrainingAttempt

MOST = 1 << 30
"""Bytes of a log that are kept; a worker that sends more is told that it is full."""
PIECE = 262_144
MATCHES = 200


def path(files: Files, attempt: TrainingAttempt) -> Path:
    """Where the log of an attempt is."""
    return files.path("jobs", attempt.job_id, f"attempt-{attempt.number}.log")


def piece(path: Path, offset: int | None, size: int = PIECE) -> LogPiece:
    """Part of a log from an offset, or its end; cut where a character ends."""
    there = path.stat().st_size if path.exists() else 0
    start = max(0, there - size) if offset is None else min(offset, there)
    if not there:
        return LogPiece(text="", next=0, size=0)
    with path.open("rb") as file:
        file.seek(start)
        raw = file.read(size)
    if start + len(raw) < there and b"\n" in raw:
        raw = raw[: raw.rindex(b"\n") + 1]
    if offset is None and start and b"\n" in raw:
        raw, start = raw[raw.index(b"\n") + 1 :], start + raw.index(b"\n") + 1
    return LogPiece(text=raw.decode(errors="replace"), next=start + len(raw), size=there)


def search(path: Path, text: str) -> LogMatches:
    """The last lines that contain a text, whatever its case."""
    found: list[LogMatch] = []
    wanted, offset = text.lower(), 0
    if not path.exists():
        return LogMatches(items=[], more=False)
    more = False
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            line = raw.decode(errors="replace").rstrip("\r\n")
            if wanted in line.lower():
                found.append(LogMatch(line=number, offset=offset, text=line[:2000]))
                if len(found) > MATCHES:
                    found.pop(0)
                    more = True
            offset += len(raw)
    return LogMatches(items=found, more=more)
