"""The kinds of provider as data: what a form needs to ask for an endpoint, and what its options may be.

`gateway.providers.registry` has one adapter for each; a test holds the two together.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.contract.base import Wire
from gateway.contract.snapshot import Endpoint

NOT_IN_FORMS = ("name", "provider", "api_key")
Delay = Annotated[float, Field(ge=0, le=600)]


class NoOptions(Wire):
    """This kind has no settings of its own."""


class OpenAIOptions(Wire):
    """Which of OpenAI's APIs the upstream has."""

    api: Literal["auto", "chat", "responses", "both"] = "auto"
    """`chat`: chat completions. `responses`: conversations go to /responses only. `both`: each as it comes. `auto`:
    both at api.openai.com, chat elsewhere."""


class AzureOptions(Wire):
    """Which form of its API."""

    api_version: Annotated[str, Field(pattern=r"^[0-9a-z-]{0,40}$")] = ""
    """Such as 2024-10-21, for the form with deployments in its paths; empty: the newer form without versions."""


class BedrockOptions(Wire):
    """Where it is."""

    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{0,40}$")] = ""
    """AWS region; empty: the one in the host's name."""


class VertexOptions(Wire):
    """Whose models."""

    publisher: Literal["google", "anthropic"] = "google"
    """`anthropic`: Claude, by its own Messages API."""


class DummyOptions(Wire):
    """What the dummy's answers are like."""

    delay: Delay = 0.0
    """Seconds before the answer."""
    chunk_delay: Delay = 0.0
    """Seconds between the chunks of a stream."""
    chunks: Annotated[int, Field(ge=0, le=100_000)] = 17
    """Words of an answer."""
    fail: Annotated[int, Field(ge=400, le=599)] | Literal[0] = 0
    """HTTP status to fail with; 0: do not fail."""
    fail_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of requests that fail; all of them if only `fail` is set."""


class ProviderKind(Wire):
    """One kind of upstream API."""

    kind: str
    """What an endpoint's `provider` says."""
    label: str
    """For people."""
    base_url: str
    """Where it is by default; empty: there is no usual place (or none is needed)."""
    needs_base_url: bool = True
    """Whether an endpoint must have a base URL."""
    needs_key: bool = True
    """Whether it does not work without a credential."""
    key_header: str = Field(default="authorization", exclude=True)
    """Header that the credential goes in: alone, or after `Bearer` in `authorization`."""
    headers: dict[str, str] = Field(default_factory=dict, exclude=True)
    """Further headers that every request must have."""
    models: str = Field(default="/models", exclude=True)
    """Path below the base URL that lists the models; empty: there is none that the credential alone opens."""
    options: type[Wire] = Field(default=NoOptions, exclude=True)
    """What `Endpoint.options` may hold."""

    def form(self) -> dict[str, Any]:
        """JSON schema of an endpoint's settings, with this kind's defaults and options."""
        schema = Endpoint.model_json_schema(by_alias=True)
        properties = {name: field for name, field in schema["properties"].items() if name not in NOT_IN_FORMS}
        properties["base_url"] = {**properties["base_url"], "default": self.base_url}
        properties["options"] = self.options.model_json_schema()
        return {
            "type": "object",
            "title": self.label,
            "properties": properties,
            "required": ["base_url"] if self.needs_base_url else [],
            "additionalProperties": False,
            "$defs": schema.get("$defs", {}),
        }


KINDS: dict[str, ProviderKind] = {
    kind.kind: kind
    for kind in (
        ProviderKind(
            kind="openai",
            label="OpenAI, or compatible with it",
            base_url="https://api.openai.com/v1",
            options=OpenAIOptions,
        ),
        ProviderKind(
            kind="anthropic",
            label="Anthropic (Claude)",
            base_url="https://api.anthropic.com/v1",
            key_header="x-api-key",
            headers={"anthropic-version": "2023-06-01"},
        ),
        ProviderKind(
            kind="azure",
            label="Azure OpenAI",
            base_url="https://NAME.openai.azure.com",
            key_header="api-key",
            models="/openai/v1/models",
            options=AzureOptions,
        ),
        ProviderKind(
            kind="bedrock",
            label="AWS Bedrock",
            base_url="https://bedrock-runtime.us-east-1.amazonaws.com",
            models="",
            options=BedrockOptions,
        ),
        ProviderKind(
            kind="vertex",
            label="Google Vertex AI (Gemini, Claude)",
            base_url="https://us-central1-aiplatform.googleapis.com/v1/projects/PROJECT/locations/us-central1",
            models="",
            options=VertexOptions,
        ),
        ProviderKind(kind="cohere", label="Cohere", base_url="https://api.cohere.com/v2", models=""),
        ProviderKind(kind="moonshot", label="Moonshot (Kimi)", base_url="https://api.moonshot.cn/v1"),
        ProviderKind(kind="openrouter", label="OpenRouter", base_url="https://openrouter.ai/api/v1"),
        ProviderKind(kind="ollama", label="Ollama", base_url="http://127.0.0.1:11434/v1", needs_key=False),
        ProviderKind(
            kind="gemini",
            label="Google Gemini (AI Studio)",
            base_url="https://generativelanguage.googleapis.com/v1beta",
            key_header="x-goog-api-key",
        ),
        ProviderKind(kind="deepseek", label="DeepSeek", base_url="https://api.deepseek.com/v1"),
        ProviderKind(
            kind="dashscope",
            label="Alibaba DashScope (Qwen)",
            base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
        ),
        ProviderKind(kind="zhipu", label="Zhipu (GLM)", base_url="https://open.bigmodel.cn/api/paas/v4"),
        ProviderKind(kind="vllm", label="vLLM", base_url="", needs_key=False),
        ProviderKind(
            kind="dummy",
            label="Dummy: answers by itself, for trials",
            base_url="",
            needs_base_url=False,
            needs_key=False,
            options=DummyOptions,
        ),
    )
}
"""Kind -> what it is."""
