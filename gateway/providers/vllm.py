"""vLLM: a local engine whose LoRA adapters are models of their own name."""

from __future__ import annotations

from gateway.protocols.base import Outbound
from gateway.protocols.chat import Chat
from gateway.providers.openai import OpenAI
from gateway.providers.operations import RERANK, TEXT
from gateway.providers.styles import Template


class VLLM(OpenAI):
    """OpenAI's dialect as it stands; usage has the cached tokens where prefix caching reports them."""

    kind = "vllm"
    operations: tuple[str, ...] = (*TEXT, *RERANK, "speech", "transcriptions", "translations")
    dialect: Outbound = Chat(Template())
    forward_headers = frozenset({b"x-data-parallel-rank"})
