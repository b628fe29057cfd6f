"""Earlier turns of a conversation that the gateway keeps: `previous_response_id` becomes the items it stands for.

An id that is not kept here stays as it is: it may be one of an upstream that speaks the Responses API itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from gateway.context import Context
from gateway.errors import GatewayError
from gateway.kept import Kept
from gateway.protocols.sse import event_data, split
from gateway.streaming.reply import Reply


class History:
    """See `gateway.steps.base.Step`."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept

    def wanted(self, ctx: Context) -> bool:
        """The request goes on from an earlier one."""
        return ctx.call.continues is not None

    async def apply(self, ctx: Context, document: dict[str, Any]) -> dict[str, Any]:
        """All turns in `input`, the oldest first."""
        assert ctx.call.continues is not None
        try:
            kept = await asyncio.to_thread(self._kept.find, ctx.key.name, ctx.call.continues)
        except GatewayError:
            return document
        items = [*kept["input"], *kept["response"]["output"], *items_of(document)]
        return {name: value for name, value in document.items() if name != "previous_response_id"} | {"input": items}


def keep(kept: Kept, ctx: Context, reply: Reply) -> None:
    """Keep an answer that the gateway has written itself.

    One that passed through is its upstream's, which keeps it.
    """
    if reply.translation is None:
        return
    told = reply.last or reply.body  # the last events of a stream, or the whole
    response = orjson.loads(told if told.startswith(b"{") else event_data(split(told)[-1]))
    asked = ctx.document or ctx.call.document
    if ctx.guarded is not None:  # masks are those of one request, and say nothing in the next one
        asked = ctx.guarded.before
    kept.save(ctx.key.name, items_of(asked), response.get("response", response))


def items_of(document: dict[str, Any]) -> list[Any]:
    """The input of a request as a list of items."""
    given = document.get("input")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return given if isinstance(given, list) else []
