"""Cells and verdicts that are finished and not yet in the database, on disk: one line of JSON for each, in one write.

A line that is written is there after kill -9 of this process; it is not synced, so a power cut may take the last ones.
There are two files: one takes new cells while those of the other go into the database.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from control.comparisons.engine import Cell
from control.comparisons.matches import Verdict

log = logging.getLogger("tunegate.control.comparisons")


class Journal:
    """The two files of one run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._paths = [folder / "0.jsonl", folder / "1.jsonl"]
        self._files = [os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600) for path in self._paths]
        self._active = 0

    def left(self) -> list[dict[str, Any]]:
        """Cells and verdicts of an earlier process; a line that was cut off in the middle is none."""
        found = []
        for line in (line for path in self._paths for line in path.read_bytes().split(b"\n")[:-1]):
            try:
                found.append(json.loads(line))
            except ValueError:  # after a power cut; its cell is asked again
                log.warning("%s has a line that is no cell", self._paths[0].parent)
        return found

    def add(self, one: Cell | Verdict) -> None:
        """Keep a cell or a verdict."""
        os.write(self._files[self._active], json.dumps(asdict(one)).encode() + b"\n")

    def turn(self) -> None:
        """Cells from now on go to the other file."""
        self._active = 1 - self._active

    def clear(self) -> None:
        """Those before the last turn are in the database."""
        os.ftruncate(self._files[1 - self._active], 0)

    def clear_all(self) -> None:
        """All of them are."""
        for file in self._files:
            os.ftruncate(file, 0)

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            os.close(file)
