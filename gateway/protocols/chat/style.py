"""What imitators of OpenAI's chat completions want said differently in translated requests."""

from __future__ import annotations

from gateway.protocols.canonical import Document, Reasoning
from gateway.protocols.hints import HINTS


class Style:
    """What an upstream of this dialect wants said differently. See `gateway.providers`."""

    max_tokens = "max_completion_tokens"
    include_usage = True
    """Its streams tell their usage if `stream_options.include_usage` asks for it."""
    developer = True
    """It knows the role `developer`."""
    history = ""
    """Name of the member that takes reasoning of earlier answers: `reasoning_content`, `reasoning_details`, or none."""
    schema = True
    """It can hold answers to a JSON schema, not to JSON alone."""
    known = HINTS
    """Members beyond the common ones that it understands."""

    def reasoning(self, wish: Reasoning) -> Document:
        """How it is told to think. OpenAI knows words for the effort only."""
        if wish.enabled is False:
            return {"reasoning_effort": "none"}
        return {"reasoning_effort": wish.effort or effort_of(wish.budget)}


def effort_of(budget: int | None) -> str:
    """The word for a budget of tokens."""
    if budget is None:
        return "medium"
    return "low" if budget < 4096 else "medium" if budget < 16384 else "high"
