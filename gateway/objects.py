"""What the endpoints keep for callers: whose it is, and where. Files, batches and responses live at one endpoint.

One small file each, below a folder of its owner's (the name of the key), so that nobody can ask for another one's. All
workers of a machine share the folder, and all replicas do where it is on a shared disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from pathlib import Path
from typing import Any

import orjson

from gateway.errors import GatewayError

log = logging.getLogger("gateway.objects")

Document = dict[str, Any]
KINDS = frozenset({"file", "batch", "response"})
"""What vendors' objects call themselves."""
SWEEP = 3600.0
"""Seconds between looks for responses that are too old."""
_MADE_BY_BATCH = ("output_file_id", "error_file_id")


class Objects:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.failures = 0
        """Objects whose owner could not be noted."""

    def note(self, owner: str, endpoint: str, document: Document) -> None:
        """Remember an object of an owner, as the endpoint has just told it; and the files that a batch has made."""
        kind, identity = document.get("object"), document.get("id")
        if kind not in KINDS or not isinstance(identity, str):
            return
        self._save(owner, kind, identity, {"endpoint": endpoint, "told": document})
        for member in _MADE_BY_BATCH if kind == "batch" else ():
            made = document.get(member)
            if isinstance(made, str) and not self._path(owner, "file", made).exists():
                told = {"id": made, "object": "file", "purpose": "batch_output", "filename": made}
                self._save(owner, "file", made, {"endpoint": endpoint, "told": told})

    def _save(self, owner: str, kind: str, identity: str, record: Document) -> None:
        path = self._path(owner, kind, identity)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = path.with_suffix(f".{os.getpid()}")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(orjson.dumps(record))
            fresh.replace(path)
        except OSError as exc:
            self.failures += 1
            log.error("objects.not_noted", extra={"data": {"id": identity, "owner": owner, "error": str(exc)}})

    def find(self, owner: str, kind: str, identity: str) -> str:
        """The endpoint that has it. GatewayError(caller_not_found): nobody has such a one, or another."""
        try:
            record: Document = orjson.loads(self._path(owner, kind, identity).read_bytes())
        except (OSError, orjson.JSONDecodeError):
            raise missing(kind, identity) from None
        return str(record["endpoint"])

    def forget(self, owner: str, kind: str, identity: str) -> None:
        """It is gone."""
        self._path(owner, kind, identity).unlink(missing_ok=True)

    def all(self, owner: str, kind: str) -> list[Document]:
        """Every object of an owner as the gateway has last seen it, the newest first."""
        found = []
        for path in self._path(owner, kind, "").parent.glob(f"{kind}-*.json"):
            try:
                found.append(orjson.loads(path.read_bytes())["told"])
            except (OSError, orjson.JSONDecodeError):  # it was deleted in between
                continue
        return sorted(found, key=lambda one: (one.get("created_at") or 0, one["id"]), reverse=True)

    def sweep(self, oldest: float) -> None:
        """Forget responses that were noted before this Unix time: their endpoints do not keep them for ever either."""
        for path in self._folder.glob("*/response-*.json"):
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
            except FileNotFoundError:  # another worker was faster
                continue
            except OSError as exc:
                log.error("objects.not_deleted", extra={"data": {"file": path.name, "error": str(exc)}})

    async def run(self, days: float) -> None:
        """Sweep every hour; runs until cancelled."""
        while True:
            await asyncio.to_thread(self.sweep, time.time() - days * 86_400.0)
            await asyncio.sleep(SWEEP)

    def _path(self, owner: str, kind: str, identity: str) -> Path:
        return self._folder / _digest(owner) / f"{kind}-{_digest(identity)}.json"


def listed(found: list[Document], query: dict[str, str], most: int) -> Document:
    """One page of a list, as OpenAI's API tells it: at most `limit` after the id `after`, newest first unless `order`
    is `asc`; of files those of a `purpose`.
    """
    if "purpose" in query:
        found = [one for one in found if one.get("purpose") == query["purpose"]]
    if query.get("order") == "asc":
        found = found[::-1]
    limit = query.get("limit", str(most))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit) <= most:
        raise GatewayError("caller_bad_request", f"`limit` must be a number from 1 to {most}.", param="limit")
    if "after" in query:
        places = [at for at, one in enumerate(found) if one["id"] == query["after"]]
        found = found[places[0] + 1 :] if places else []
    page = found[: int(limit)]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": len(found) > len(page)}


def missing(kind: str, identity: str) -> GatewayError:
    """The answer to an id that is nobody's, or somebody else's."""
    return GatewayError("caller_not_found", f"No {kind} with the id {identity[:100]!r} is yours.", param="id")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
