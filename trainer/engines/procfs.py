"""What the kernel knows about an engine's processes: who is in its session, which shared memory they hold.

An engine is several processes. When the first of them is killed, the others live on, and their files in
/dev/shm outlive even them. Elsewhere than on Linux nothing is found, and only the process group is ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

SHM = Path("/dev/shm")
_PROC = Path("/proc")

Files = dict[Path, int]
"""Path and inode: a file of the same name made later by someone else is not the same file."""


def session_members(session: int) -> list[int]:
    """Pids of all living processes of a session."""
    members = []
    for entry in _PROC.glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:  # ended since the listing
            continue
        # "pid (name) state ppid pgrp session …"; the name may hold spaces and brackets
        state, _parent, _group, its_session = stat.rpartition(")")[2].split()[:4]
        if int(its_session) == session and state not in "ZX":
            members.append(int(entry.name))
    return members


def listens(pids: Iterable[int], port: int) -> bool:
    """Whether one of these processes has a TCP socket that listens on a port. Elsewhere than on Linux: always."""
    tables = [table for name in ("tcp", "tcp6") if (table := _PROC / "net" / name).is_file()]
    listening = set()
    for table in tables:
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            # "number: address:port address:port state …four more… inode …", in hexadecimal; state 0A: it listens
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                listening.add(f"socket:[{inode}]")
    return not tables or any(not listening.isdisjoint(_open_files(pid)) for pid in pids)


def _open_files(pid: int) -> list[str]:
    found = []
    try:
        for entry in os.scandir(_PROC / str(pid) / "fd"):
            found.append(os.readlink(entry.path))
    except OSError:  # ended, or not ours to look into; or a file was closed, and the next look will do
        pass
    return found


def shared_memory_files() -> Files:
    """All files in /dev/shm now."""
    found: Files = {}
    if SHM.is_dir():
        for entry in os.scandir(SHM):
            try:
                found[Path(entry.path)] = entry.stat(follow_symlinks=False).st_ino
            except FileNotFoundError:  # removed since the listing
                continue
    return found


def mapped_shared_memory(pids: Iterable[int]) -> Files:
    """Files in /dev/shm that these processes have mapped."""
    found: Files = {}
    for pid in pids:
        try:
            maps = (_PROC / str(pid) / "maps").read_text(encoding="utf-8", errors="replace")
        except OSError:  # ended, or not ours to look into
            continue
        for line in maps.splitlines():
            # "address perms offset device inode path"
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith(f"{SHM}/") and not fields[5].endswith(" (deleted)"):
                found[Path(fields[5])] = int(fields[4])
    return found


def remove(files: Files) -> list[Path]:
    """Remove those of the files that are still the same files, and say which."""
    removed = []
    for path, inode in files.items():
        try:
            if path.lstat().st_ino == inode:
                path.unlink()
                removed.append(path)
        except FileNotFoundError:  # the engine removed it itself, as it should
            continue
    return removed
