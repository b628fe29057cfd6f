"""What a step is: a change to the request's document before dispatch. The order is fixed here; routes say which run."""

from __future__ import annotations

from typing import Any, Protocol

from gateway.context import Context
from gateway.kept import Kept
from gateway.retrieval.base import Retriever
from gateway.runtime import Target
from gateway.steps.guard import Guardian
from gateway.steps.history import History
from gateway.steps.prompt import SystemPrompt
from gateway.steps.rag import Rag
from gateway.streaming.reply import Reply


class Step(Protocol):
    """One transform. Raises GatewayError to refuse the request."""

    def wanted(self, ctx: Context) -> bool:
        """Whether the route switches this step on for this operation."""
        ...

    async def apply(self, ctx: Context, document: dict[str, Any]) -> dict[str, Any]:
        """The changed document, or the given one, which is not modified."""
        ...


class Steps:
    """All steps, in their order."""

    __slots__ = ("_guardian", "_rag", "_steps")

    def __init__(self, kept: Kept, retriever: Retriever, guardian: Guardian) -> None:
        # each puts its text before what is there: the system prompt comes first in the end, then the passages
        self._rag = Rag(retriever)
        # the guard sees what the client says, and neither of them
        self._guardian = guardian
        self._steps: tuple[Step, ...] = (History(kept), guardian, self._rag, SystemPrompt())

    async def run(self, ctx: Context, body: bytes) -> dict[str, Any] | None:
        """The document after all wanted steps; None if none changed it: the client's bytes can pass as they are."""
        document = ctx.call.document
        if self._guardian.wanted(ctx):
            await self._guardian.read(ctx, body)
        for step in self._steps:
            if step.wanted(ctx):
                document = await step.apply(ctx, document)
        return None if document is ctx.call.document else document

    async def consulted(self, ctx: Context, target: Target) -> None:
        """Answer what the model, last at `target`, has asked the knowledge bases. GatewayError as `Rag.consulted`."""
        await self._rag.consulted(ctx, target)

    async def answered(self, ctx: Context, reply: Reply) -> None:
        """Have an answer judged that is held for it. GatewayError as `Guardian.answered`."""
        await self._guardian.answered(ctx, reply)
