"""Searches by control: `POST /internal/v1/retrieval`, and its list of bases (see `gateway.contract.retrieval`)."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from gateway.contract.trace import HEADER, Trace
from gateway.internal import Control, ControlError, Line
from gateway.retrieval.base import Found, RetrievalError

REPLY_BYTES = 16_777_216
"""Most of an answer: 50 passages of 200,000 tokens together."""
_PASSAGE: dict[str, type] = {"base": str, "document": str, "title": str, "chunk": str, "section": str, "text": str}
_BASE: dict[str, type] = {
    "name": str, "description": str, "created_at": int, "documents": int, "ready": int, "failed": int, "bytes": int,
}  # fmt: skip
_REASONS = {
    404: "a knowledge base of this route is not there, or the API key may not read it",
    422: "control refuses the question or its limits",
}


class ControlRetriever:
    """See `gateway.retrieval.base.Retriever`."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.line = Line("retrieval")

    async def search(self, request: dict[str, Any], patience: float, trace: Trace | None = None) -> Found:
        """See `Retriever`. Not repeated: the caller waits."""
        passages, reply = await self._asked("/retrieval", "passages", _PASSAGE, request, patience, trace)
        indexes = reply.get("indexes", {})
        if not isinstance(indexes, dict):
            raise RetrievalError(503, "knowledge bases cannot be searched: the answer says nothing of its indexes")
        return Found(passages, str(reply.get("rerank", "none")), indexes)

    async def bases(self, request: dict[str, Any], patience: float) -> list[dict[str, Any]]:
        """See `Retriever`."""
        bases, _ = await self._asked("/knowledge", "bases", _BASE, request, patience)
        return bases

    async def _asked(
        self,
        path: str,
        name: str,
        members: dict[str, type],
        request: dict[str, Any],
        patience: float,
        trace: Trace | None = None,
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        headers = {"content-type": "application/json"}
        if trace is not None:
            headers[HEADER] = trace.header
        call = self._control.call(
            "POST", path, most=REPLY_BYTES, silent=patience, total=patience, headers=headers,
            body=orjson.dumps(request),
        )  # fmt: skip
        task = asyncio.get_running_loop().create_task(call)  # requests run outside of tasks, which the client needs
        try:
            found = _listed((await task).body, name, members)
        except ControlError as exc:
            status = int(exc.kind.removeprefix("http_")) if exc.kind.startswith("http_") else 503
            if status in _REASONS:  # control works: it is the request that it has nothing for
                self.line.worked()
                raise RetrievalError(status, _REASONS[status]) from exc
            self.line.failed(exc)
            raise RetrievalError(503, f"knowledge bases cannot be searched: {exc}") from exc
        finally:
            task.cancel()
        self.line.worked()
        return found


def _listed(body: bytes, name: str, members: dict[str, type]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The list in a reply, and the reply. ControlError: it is none."""
    try:
        reply = orjson.loads(body)
        found = reply[name]
        good = all(isinstance(one[member], kind) for one in found for member, kind in members.items())
    except (ValueError, KeyError, TypeError) as exc:
        raise ControlError("bad_reply", f"the answer holds no {name}") from exc
    if not isinstance(found, list) or not good:
        raise ControlError("bad_reply", f"the answer holds something that is none of the {name}")
    return found, reply
