"""The route's system prompt, put before whatever the client sends."""

from __future__ import annotations

from typing import Any

from gateway.context import Context


class SystemPrompt:
    """See `gateway.steps.base.Step`."""

    def wanted(self, ctx: Context) -> bool:
        """Conversations only: the other operations have no place for it."""
        conversation = ctx.operation.dialect is not None and ctx.operation.task is None
        return ctx.route.system_prompt is not None and conversation

    async def apply(self, ctx: Context, document: dict[str, Any]) -> dict[str, Any]:
        """In front of the client's own, as its dialect says such things."""
        assert ctx.route.system_prompt is not None
        assert ctx.operation.dialect is not None
        return ctx.operation.dialect.with_system(document, ctx.route.system_prompt)
