"""The vendors of the matrix: fakes that speak each one's documented wire format, written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tests.fakes import scripts
from tests.fakes.upstream import Reset, Seen, Send, Step
from tests.matrix.anthropic_vendor import AnthropicVendor, VertexClaudeVendor
from tests.matrix.bedrock_vendor import BedrockVendor
from tests.matrix.cohere_vendor import CohereVendor
from tests.matrix.gemini_vendor import GeminiVendor, VertexVendor
from tests.matrix.openai_vendor import AzureVendor, OpenAIVendor, OpenRouterVendor
from tests.matrix.responses_vendor import ResponsesVendor
from tests.matrix.told import Asked, Said


class Vendor(Protocol):
    """One kind of upstream."""

    kind: str
    base: str
    """Path of its base URL."""

    def whole(self, said: Said, model: str) -> bytes:
        """The body of a whole answer."""
        ...

    def events(self, said: Said, model: str) -> list[bytes]:
        """The pieces of a streamed answer, whatever they are framed in."""
        ...

    def error(self, status: int, message: str) -> bytes:
        """The body of an error."""
        ...

    def asked(self, seen: Seen) -> Asked:
        """What a request says. Fails if the vendor would refuse it."""
        ...


VENDORS: dict[str, Vendor] = {
    "openai": OpenAIVendor("openai"),
    "openai-responses": ResponsesVendor(),
    "azure": AzureVendor("azure"),
    "anthropic": AnthropicVendor(),
    "gemini": GeminiVendor(),
    "vertex": VertexVendor(),
    "vertex-claude": VertexClaudeVendor(),
    "bedrock": BedrockVendor(),
    "cohere": CohereVendor(),
    "deepseek": OpenAIVendor("deepseek"),
    "dashscope": OpenAIVendor("dashscope"),
    "zhipu": OpenAIVendor("zhipu"),
    "moonshot": OpenAIVendor("moonshot"),
    "openrouter": OpenRouterVendor("openrouter"),
    "ollama": OpenAIVendor("ollama", reasoning="reasoning"),
    "vllm": OpenAIVendor("vllm"),
}
"""Name -> vendor. Some kinds of provider are there twice: they have two APIs."""


def script(vendor: Vendor, said: Said, note: Callable[[Asked], None]) -> Callable[[Seen], list[Step]]:
    """A script of the fake upstream that notes what arrived and says `said`."""

    def answer(seen: Seen) -> list[Step]:
        try:
            asked = vendor.asked(seen)
        except Exception as exc:  # noqa: BLE001 - the vendor would refuse it: the client hears why
            return scripts.reply(vendor.error(400, f"refused: {exc!r}"), 400)
        note(asked)
        if said.status != 200:
            return scripts.reply(vendor.error(said.status, said.message), said.status, retry_after="7")
        if not asked.stream:
            return scripts.reply(vendor.whole(said, seen.model))
        media = getattr(vendor, "media_type", "text/event-stream")
        events = vendor.events(said, seen.model)
        steps: list[Step] = [scripts.start_stream(kind=media)]
        steps += [Send(scripts.frame(piece)) for piece in events[: said.cut_after]]
        return [*steps, Reset()] if said.cut_after is not None else [*steps, Send(b"0\r\n\r\n")]

    return answer
