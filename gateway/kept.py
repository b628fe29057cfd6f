"""Responses that are kept for later turns, as files below the data folder that only their owner can ask for.

One file each, named by a digest of its id, so that no id is ever a path. All workers of a machine share the folder, and
all replicas do where it is on a shared disk. What is older than `responses_days` goes; 0 keeps nothing at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
import time
from pathlib import Path
from typing import Any

import orjson

from gateway.errors import GatewayError

log = logging.getLogger("gateway.responses")

SWEEP = 3600.0
"""Seconds between looks for what is too old."""
Document = dict[str, Any]
_OURS = re.compile(r"resp_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Kept:
    """The folder."""

    def __init__(self, folder: Path, days: float) -> None:
        self._folder = folder
        self.days = days
        self._seconds = days * 86_400.0
        self.failures = 0
        """Answers that could not be kept."""

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self._seconds > 0

    def save(self, owner: str, items: list[Any], response: Document) -> None:
        """Keep a response with all items of the conversation that it answers; `owner` is the name of the key."""
        if not self.keeps:
            return
        path = self._path(str(response["id"]))
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = path.with_suffix(f".{os.getpid()}")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(orjson.dumps({"owner": owner, "input": items, "response": response}))
            fresh.replace(path)
        except OSError as exc:
            self.failures += 1
            log.error("responses.not_kept", extra={"data": {"id": response["id"], "error": str(exc)}})

    def find(self, owner: str, identity: str) -> Document:
        """{"input", "response"} of an owner's response. GatewayError(caller_not_found): nobody has it, or another."""
        try:
            kept: Document = orjson.loads(self._path(identity).read_bytes())
        except (OSError, orjson.JSONDecodeError):
            kept = {}
        expired = kept and time.time() - kept["response"]["created_at"] > self._seconds
        if kept.get("owner") != owner or expired:
            raise missing(identity)
        return kept

    def delete(self, owner: str, identity: str) -> None:
        """Forget a response; GatewayError as above."""
        self.find(owner, identity)
        self._path(identity).unlink(missing_ok=True)

    def sweep(self, now: float) -> int:
        """Delete what is too old at Unix time `now`; how many went."""
        gone = 0
        for path in self._folder.glob("*/*"):
            try:
                if now - path.stat().st_mtime > self._seconds:
                    path.unlink()
                    gone += 1
            except FileNotFoundError:  # another worker was faster
                continue
            except OSError as exc:  # it expires all the same: `find` looks at its age
                log.error("responses.not_deleted", extra={"data": {"file": path.name, "error": str(exc)}})
        return gone

    async def run(self) -> None:
        """Sweep every hour; runs until cancelled."""
        while True:
            gone = await asyncio.to_thread(self.sweep, time.time())
            if gone:
                log.info("responses.expired", extra={"data": {"count": gone}})
            await asyncio.sleep(SWEEP)

    def _path(self, identity: str) -> Path:
        digest = hashlib.sha256(identity.encode()).hexdigest()
        return self._folder / digest[:2] / digest[2:]


def is_ours(identity: str) -> bool:
    """Whether it is the id of a response that a gateway has written: one that passed through has its upstream's."""
    return _OURS.fullmatch(identity) is not None


def missing(identity: str) -> GatewayError:
    """The answer to an id that is nobody's, or somebody else's, or too old."""
    text = f"No response with the id {identity[:100]!r} is kept here."
    return GatewayError("caller_not_found", text, param="previous_response_id")
