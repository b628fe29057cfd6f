"""Kind of provider -> its adapter. One explicit table: a new vendor is one file and one line here."""

from __future__ import annotations

from gateway.providers.anthropic import Anthropic
from gateway.providers.azure import Azure
from gateway.providers.base import Provider
from gateway.providers.bedrock import Bedrock
from gateway.providers.cohere import Cohere
from gateway.providers.dashscope import DashScope
from gateway.providers.deepseek import DeepSeek
from gateway.providers.dummy import Dummy
from gateway.providers.gemini import Gemini
from gateway.providers.moonshot import Moonshot
from gateway.providers.ollama import Ollama
from gateway.providers.openai import OpenAI
from gateway.providers.openrouter import OpenRouter
from gateway.providers.vertex import Vertex
from gateway.providers.vllm import VLLM
from gateway.providers.zhipu import Zhipu

_ALL: tuple[Provider, ...] = (
    OpenAI(), Azure(), Anthropic(), Bedrock(), Gemini(), Vertex(), Cohere(), DeepSeek(), DashScope(), Zhipu(),
    Moonshot(), OpenRouter(), Ollama(), VLLM(), Dummy(),
)  # fmt: skip
PROVIDERS: dict[str, Provider] = {provider.kind: provider for provider in _ALL}
