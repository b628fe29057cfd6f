"""How imitators of OpenAI's chat completions want translated requests said; what passes through is the client's own."""

from __future__ import annotations

from gateway.protocols.canonical import Document, Reasoning
from gateway.protocols.chat.style import Style
from gateway.protocols.fields import without_nones


class Common(Style):
    """The older name of the limit, and no role `developer`."""

    max_tokens = "max_tokens"
    developer = False


class Switched(Common):
    """Thinking is switched on or off, by Anthropic's word (DeepSeek, GLM, Kimi)."""

    history = "reasoning_content"
    schema = False

    def reasoning(self, wish: Reasoning) -> Document:
        """There is no measure of it."""
        return {"thinking": {"type": "disabled" if wish.enabled is False else "enabled"}}


class Qwen(Common):
    """DashScope's own switch, with a budget."""

    def reasoning(self, wish: Reasoning) -> Document:
        """See the class."""
        return without_nones(enable_thinking=wish.enabled is not False, thinking_budget=wish.budget)


class Template(Common):
    """vLLM: chat templates have a switch, some models an effort."""

    def reasoning(self, wish: Reasoning) -> Document:
        """See the class."""
        switch = {"enable_thinking": wish.enabled is not False}
        effort = wish.effort if wish.effort in ("low", "medium", "high") else None
        return without_nones(chat_template_kwargs=switch, reasoning_effort=effort)


class Router(Common):
    """OpenRouter: one object for all its models' ways of thinking, whose proofs it hands back."""

    history = "reasoning_details"
    known = Style.known | {
        "provider",
        "models",
        "plugins",
        "transforms",
        "route",
        "min_p",
        "repetition_penalty",
        "top_a",
    }

    def reasoning(self, wish: Reasoning) -> Document:
        """See the class."""
        if wish.enabled is False:
            return {"reasoning": {"enabled": False}}
        if wish.budget is not None:
            return {"reasoning": {"max_tokens": wish.budget}}
        return {"reasoning": {"effort": wish.effort} if wish.effort else {"enabled": True}}
