"""Kind of provider -> its adapter. One explicit table: a new vendor is one file and one line here."""

from __future__ import annotations

from gateway.providers.anthropic import Anthropic
from gateway.providers.base import Provider
from gateway.providers.dashscope import DashScope
from gateway.providers.deepseek import DeepSeek
from gateway.providers.dummy import Dummy
from gateway.providers.gemini import Gemini
from gateway.providers.openai import OpenAI
from gateway.providers.vllm import VLLM
from gateway.providers.zhipu import Zhipu

PROVIDERS: dict[str, Provider] = {
    adapter.kind: adapter
    for adapter in (OpenAI(), Anthropic(), Gemini(), DeepSeek(), DashScope(), Zhipu(), VLLM(), Dummy())
}
