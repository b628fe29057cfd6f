"""Searches by control: `POST /internal/v1/retrieval` (see `gateway.contract.retrieval`)."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from gateway.internal import Control, ControlError, Line
from gateway.retrieval.base import RetrievalError

REPLY_BYTES = 16_777_216
"""Most of an answer: 50 passages of 200,000 tokens together."""
_MEMBERS = {"base": str, "document": str, "title": str, "chunk": str, "section": str, "text": str}
_REASONS = {
    404: "a knowledge base of this route is not there, or the API key may not read it",
    422: "control refuses the question or its limits",
}


class ControlRetriever:
    """See `gateway.retrieval.base.Retriever`."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self.line = Line("retrieval")

    async def search(self, request: dict[str, Any], patience: float) -> list[dict[str, Any]]:
        """See `Retriever`. Not repeated: the caller waits."""
        headers = {"content-type": "application/json"}
        call = self._control.call(
            "POST", "/retrieval", most=REPLY_BYTES, silent=patience, total=patience, headers=headers,
            body=orjson.dumps(request),
        )  # fmt: skip
        task = asyncio.get_running_loop().create_task(call)  # requests run outside of tasks, which the client needs
        try:
            passages = _passages((await task).body)
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
        return passages


def _passages(body: bytes) -> list[dict[str, Any]]:
    """The passages of a reply. ControlError: it is none."""
    try:
        found = orjson.loads(body)["passages"]
        good = all(isinstance(one[name], kind) for one in found for name, kind in _MEMBERS.items())
    except (ValueError, KeyError, TypeError) as exc:
        raise ControlError("bad_reply", "the answer to a search is no RetrievalReply") from exc
    if not isinstance(found, list) or not good:
        raise ControlError("bad_reply", "the answer to a search holds something that is no passage")
    return found
