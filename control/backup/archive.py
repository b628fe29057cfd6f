"""What a backup is: a gzipped tar of JSON lines and files, and last of all a manifest with the digest of each.

    tables/NAME.jsonl    one object a row, by column: times as ISO 8601, bytes as base64
    files/AREA/PATH      files of datasets, adapters and documents, where they were asked for
    manifest.json        `Manifest`

Nothing in it is executable, and nothing is unpacked that the manifest does not name, nor outside of its folder.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

FORMAT = 1
MANIFEST = "manifest.json"
PIECE = 1_048_576
AREAS = ("training", "knowledge")


class BackupError(Exception):
    """A backup cannot be made, or not be taken back. The message is for whoever runs the command."""


class Member(BaseModel):
    """One member of the archive."""

    model_config = ConfigDict(extra="forbid")

    sha256: str
    bytes: int
    rows: int | None = None
    """Of a table."""


class Manifest(BaseModel):
    """What is in a backup."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = FORMAT  # type: ignore[assignment]
    version: str
    """Of the program that made it."""
    schema_revision: str
    made_at: datetime
    members: dict[str, Member]


class Writer:
    """An archive that is being written; it has its name only once it is whole."""

    def __init__(self, path: Path) -> None:
        if path.exists():
            raise BackupError(f"{path} is there already")
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        try:
            self._raw = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as exc:
            raise BackupError(f"{self._part} cannot be written: {exc.strerror}") from exc
        self._file = os.fdopen(self._raw, "wb")
        self._tar = tarfile.open(fileobj=self._file, mode="w:gz", compresslevel=3)  # noqa: SIM115 (closed below)
        self.members: dict[str, Member] = {}

    def add(self, name: str, source: IO[bytes], size: int, rows: int | None = None) -> None:
        """Add `size` bytes. OSError if there are fewer: somebody has changed the file meanwhile. BackupError for a name
        that could not be restored.
        """
        if not _harmless(name):
            raise BackupError(f"{name!r} is a name that no backup takes: rename the file")
        digest = hashlib.sha256()
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size, int(time.time()), 0o600
        self._tar.addfile(info, _Hashing(source, digest.update))
        self.members[name] = Member(sha256=digest.hexdigest(), bytes=size, rows=rows)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, and give the archive its name."""
        body = manifest.model_dump_json(indent=1).encode()
        self.add(MANIFEST, io.BytesIO(body), len(body))
        self._tar.close()
        self._file.flush()
        os.fsync(self._raw)
        self._file.close()
        self._part.rename(self._path)

    def give_up(self) -> None:
        """Leave nothing behind. Does nothing once it is finished."""
        self._file.close()
        self._part.unlink(missing_ok=True)


class _Hashing(io.RawIOBase):
    """A source whose bytes are seen as they are read."""

    def __init__(self, source: IO[bytes], see: Callable[[bytes], None]) -> None:
        self._source, self._see = source, see

    def read(self, size: int = -1) -> bytes:
        """As the source's."""
        data = self._source.read(size)
        self._see(data)
        return data


class Reader:
    """An archive that is whole: every member was read once, and is what the manifest says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.manifest, seen = self._whole()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as exc:
            raise BackupError(f"{path} cannot be read: {exc}") from exc
        manifest = self.manifest
        told = {name: member.model_copy(update={"rows": None}) for name, member in manifest.members.items()}
        for name in sorted(told.keys() | seen.keys()):
            if told.get(name) != seen.get(name):
                raise BackupError(f"{name} in {path} is not what the manifest says")

    def _whole(self) -> tuple[Manifest, dict[str, Member]]:
        """(manifest, all other members as they are)."""
        seen: dict[str, Member] = {}
        manifest = None
        for name, source, size in self._all():
            if name in seen:
                raise BackupError(f"{self._path} holds {name} twice")
            if manifest is not None:
                raise BackupError(f"{self._path} goes on after its manifest")
            if name == MANIFEST:
                manifest = _manifest(self._path, source.read(64 * PIECE))
                continue
            digest = hashlib.sha256()
            while piece := source.read(PIECE):
                digest.update(piece)
            seen[name] = Member(sha256=digest.hexdigest(), bytes=size)
        if manifest is None:
            raise BackupError(f"{self._path} has no manifest: it is no backup, or not all of one")
        return manifest, seen

    def members(self) -> Iterator[tuple[str, IO[bytes]]]:
        """(name, content) of all members but the manifest, in the order of the archive."""
        for name, source, _ in self._all():
            if name != MANIFEST:
                yield name, source

    def _all(self) -> Iterator[tuple[str, IO[bytes], int]]:
        with tarfile.open(self._path, "r:gz") as tar:
            for info in tar:
                name = info.name
                if not info.isreg() or not _harmless(name):
                    raise BackupError(f"{self._path} holds {name!r}, which no backup does")
                source = tar.extractfile(info)
                assert source is not None, "it is a regular file"
                yield name, source, info.size


def _manifest(path: Path, body: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(body)
    except ValidationError as exc:
        raise BackupError(f"the manifest of {path} is not one that this Tunegate knows") from exc


def _harmless(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if name == MANIFEST:
        return True
    if not parts or ".." in parts or name.startswith("/") or "\\" in name or str(PurePosixPath(name)) != name:
        return False
    return (parts[0] == "tables" and len(parts) == 2) or (parts[0] == "files" and len(parts) > 2 and parts[1] in AREAS)
