"""Hashes of files and of a model's weights: the same on the side that trains and the side that serves."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

_PIECE = 1 << 20


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def weights_sha256(folder: Path) -> str:
    """Hash over the names and hashes of a model's safetensors files; empty if the folder has none."""
    files = sorted(folder.glob("*.safetensors"))
    state = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _weights(state) if state else ""


@functools.lru_cache(maxsize=64)
def _weights(state: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in state:
        digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()
