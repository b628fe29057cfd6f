"""The route's system prompt, put before whatever the client sends."""

from __future__ import annotations

from typing import Any

from gateway.context import Context


class SystemPrompt:
    """See `gateway.steps.base.Step`."""

    def wanted(self, ctx: Context) -> bool:
        """Chat only: the other operations have no place for it."""
        return ctx.route.system_prompt is not None and ctx.operation.name == "chat"

    async def apply(self, ctx: Context, document: dict[str, Any]) -> dict[str, Any]:
        """A system message in front; the client's own system messages stay where they are."""
        message = {"role": "system", "content": ctx.route.system_prompt}
        return {**document, "messages": [message, *document["messages"]]}
