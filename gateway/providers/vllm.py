"""vLLM: a local engine whose LoRA adapters are models of their own name."""

from __future__ import annotations

from gateway.providers.openai import OpenAI


class VLLM(OpenAI):
    """OpenAI's dialect as it stands; usage has the cached tokens where prefix caching reports them."""

    kind = "vllm"
    forward_headers = frozenset({b"x-data-parallel-rank"})
