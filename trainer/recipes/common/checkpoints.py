"""Checkpoints that are whole: each has a manifest with the hash of every file, written last."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from trainer.hashes import sha256

MANIFEST = "manifest.json"


def step_of(folder: Path) -> int:
    """The step that a checkpoint's folder is named by; -1 for another folder."""
    name, _, number = folder.name.rpartition("-")
    return int(number) if name == "checkpoint" and number.isdigit() else -1


def seal(folder: Path) -> dict[str, str]:
    """Write the manifest of a checkpoint that has been saved; the hash of each file."""
    files = {
        str(path.relative_to(folder)): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(files), encoding="utf-8")
    partial.replace(folder / MANIFEST)
    return files


def is_whole(folder: Path) -> bool:
    """Whether every file of a checkpoint is there as it was written."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return bool(files) and all(sha256(folder / name) == digest for name, digest in files.items())
    except (OSError, ValueError, AttributeError):
        return False


def last_good(folder: Path) -> tuple[Path | None, list[Path]]:
    """The newest whole checkpoint, and the damaged ones after it, which are removed."""
    damaged: list[Path] = []
    for one in sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True):
        if is_whole(one):
            return one, damaged
        shutil.rmtree(one)
        damaged.append(one)
    return None, damaged
