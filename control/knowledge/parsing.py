"""Runs `control.knowledge.parse` on a file that may be hostile: in a process of its own, with limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from control.settings import KnowledgeTable

_LIMITED = (
    "import os, sys; from resource import *; size, seconds = int(sys.argv[1]) << 20, int(sys.argv[2]); "
    "setrlimit(RLIMIT_AS, (size, size)); setrlimit(RLIMIT_CPU, (seconds, seconds)); "
    "setrlimit(RLIMIT_FSIZE, (1 << 28, 1 << 28)); setrlimit(RLIMIT_CORE, (0, 0)); "
    "os.execv(sys.executable, [sys.executable, '-I', '-c', sys.argv[3], *sys.argv[4:]])"
)
"""Run in the new process before the parser: its memory, time and files are limited whatever it does."""
_PARSE = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('control.knowledge.parse', None, '__main__')"
)


class Unparsed(Exception):
    """A file that is refused; `code` and message say why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def parse(source: Path, name: str, target: Path, settings: KnowledgeTable) -> dict[str, Any]:
    """What `control.knowledge.parse` makes of a file: `kind`, `pages` and `blocks`. Kept in `target`, so that it is
    done once.

    Raises:
        Unparsed: `control.knowledge.parse.blocks.Code`, or `too_slow`, or `parser_died`.
    """
    if not await asyncio.to_thread(target.exists):
        await _run(source, name, target, settings)
    result: dict[str, Any] = json.loads(await asyncio.to_thread(target.read_text, "utf-8"))
    if "code" in result:
        raise Unparsed(result["code"], result["message"])
    return result


async def _run(source: Path, name: str, target: Path, settings: KnowledgeTable) -> None:
    seconds = settings.parse_seconds
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", _LIMITED, str(settings.parse_memory_mib), str(int(seconds) + 1), _PARSE,
        str(Path(__file__).parents[2]), str(source), name, str(target), stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env={"PATH": os.environ.get("PATH", "")},
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            _, errors = await process.communicate()
    except TimeoutError:
        raise Unparsed("too_slow", f"parsing took longer than {seconds:.0f} seconds: split it") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2][:300]
        raise Unparsed(
            "parser_died",
            f"parsing ended with status {process.returncode} ({last}): it may need more than the "
            f"{settings.parse_memory_mib} MiB that it may take; split it",
        )
