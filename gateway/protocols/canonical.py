"""The form between dialects: what a conversation with a model is, whoever's words it is told in.

A request that is answered in its own dialect never takes this form. Any other is read into a `Request`, written as the
target's dialect wants it, and the answer comes back as a `Reply` or, streamed, as `Delta`s. Everything that two
dialects can both say is a field here; what only one of them knows stays in `extra` and is either known to the target
or refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Document = dict[str, Any]
Role = Literal["system", "developer", "user", "assistant", "tool"]
Finish = Literal["stop", "stop_sequence", "length", "tool_calls", "content_filter", "refusal", "pause"]


class Usage(NamedTuple):
    """Token counts of one reply in disjoint buckets: their sum is the total."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        """All tokens that the request cost."""
        return sum(self)


# --- blocks: the parts of a message


@dataclass(slots=True)
class Text:
    """Written text. `citations` are URL or document citations in Anthropic's form; `cache` asks for a cache border."""

    text: str
    citations: list[Document] = field(default_factory=list)
    cache: Document | None = None


@dataclass(slots=True)
class Media:
    """An image, a sound or a file: by `url`, by base64 `data` of a `media_type`, or by a provider's `file_id`."""

    kind: Literal["image", "audio", "file"]
    url: str | None = None
    media_type: str | None = None
    data: str | None = None
    file_id: str | None = None
    name: str | None = None
    detail: str | None = None
    cache: Document | None = None


@dataclass(slots=True)
class ToolCall:
    """The model wants a tool run. `arguments` is JSON text, as the model wrote it. `signature`: Gemini's."""

    id: str
    name: str
    arguments: str
    signature: str | None = None
    cache: Document | None = None


@dataclass(slots=True)
class ToolResult:
    """What a tool returned for the call `id`; `name` of the tool where the dialect says it."""

    id: str
    blocks: list[Text | Media]
    name: str | None = None
    failed: bool = False
    cache: Document | None = None


@dataclass(slots=True)
class Thinking:
    """Reasoning that the model shows, with the provider's proof of it; `redacted` is reasoning that is not shown."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    id: str | None = None


@dataclass(slots=True)
class Refusal:
    """The model says that it will not answer."""

    text: str


Block = Text | Media | ToolCall | ToolResult | Thinking | Refusal


@dataclass(slots=True)
class Message:
    """One turn. A `tool` message holds ToolResults only."""

    role: Role
    blocks: list[Block]
    name: str | None = None

    def text(self) -> str:
        """All its text, joined."""
        return "".join(block.text for block in self.blocks if isinstance(block, Text))


# --- requests


@dataclass(slots=True)
class Tool:
    """A function that the model may call. `schema` is JSON schema of its arguments."""

    name: str
    description: str | None = None
    schema: Document | None = None
    strict: bool | None = None
    cache: Document | None = None


class ToolChoice(NamedTuple):
    """Which tools the model may or must call; `name` with mode `tool`."""

    mode: Literal["auto", "none", "any", "tool"]
    name: str | None = None


class Format(NamedTuple):
    """The form of the answer: JSON, or JSON of a schema."""

    kind: Literal["json", "schema"]
    name: str = "answer"
    schema: Document | None = None
    strict: bool | None = None
    description: str | None = None


class Reasoning(NamedTuple):
    """How much to think: an `effort` word, a `budget` of tokens, or off (`enabled` False); None is not said."""

    enabled: bool | None = None
    effort: str | None = None
    budget: int | None = None
    summary: str | None = None


@dataclass(slots=True)
class Request:
    """A conversation and how to go on with it. None means that the client did not say."""

    messages: list[Message]
    tools: list[Tool] = field(default_factory=list)
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] = field(default_factory=list)
    n: int | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: Document | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    format: Format | None = None
    reasoning: Reasoning | None = None
    service_tier: str | None = None
    user: str | None = None
    stream: bool = False
    include_usage: bool = False
    """The client wants the usage at the end of its stream, where its dialect leaves that to it."""
    extra: Document = field(default_factory=dict)
    """Members of the request that have no field here, by their own name."""


# --- answers


@dataclass(slots=True)
class Choice:
    """One answer of possibly several."""

    blocks: list[Block]
    finish: Finish | None = None
    stop_sequence: str | None = None
    logprobs: Document | None = None
    """OpenAI's `logprobs` object."""


@dataclass(slots=True)
class Reply:
    """A whole answer."""

    id: str
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    service_tier: str | None = None


# --- streamed answers. A dialect's reader yields these in order; its writer takes them in order.


class Start(NamedTuple):
    """The stream has begun; at most once, before all others. `usage` is what is known of it so far."""

    id: str
    model: str
    usage: Usage | None = None
    service_tier: str | None = None


class TextDelta(NamedTuple):
    """More text."""

    text: str
    choice: int = 0
    logprobs: Document | None = None


class ThinkingDelta(NamedTuple):
    """More reasoning, its signature, or a piece that is `redacted`."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    choice: int = 0
    id: str | None = None


class RefusalDelta(NamedTuple):
    """More of a refusal."""

    text: str
    choice: int = 0


class CitationDelta(NamedTuple):
    """A citation for the text that is being written."""

    citation: Document
    choice: int = 0


class MediaDelta(NamedTuple):
    """A whole image or sound that the model made."""

    media: Media
    choice: int = 0


class ToolStart(NamedTuple):
    """A tool call begins. `call` counts a choice's calls from 0."""

    call: int
    id: str
    name: str
    choice: int = 0
    signature: str | None = None


class ToolDelta(NamedTuple):
    """More of the arguments of call number `call`."""

    call: int
    arguments: str
    choice: int = 0


class BlockEnd(NamedTuple):
    """What was being written is complete: the next delta begins a new block, even one of the same kind."""

    choice: int = 0


class Finished(NamedTuple):
    """A choice has ended."""

    reason: Finish
    stop_sequence: str | None = None
    choice: int = 0


class UsageNow(NamedTuple):
    """The token counts of the whole request as the provider states them by now; the last one counts."""

    usage: Usage


class Broken(NamedTuple):
    """The upstream says in its stream that it failed. `status` is the HTTP status that it would have had, or 0."""

    message: str
    status: int = 0


Delta = (
    Start | TextDelta | ThinkingDelta | RefusalDelta | CitationDelta | MediaDelta | ToolStart | ToolDelta
    | BlockEnd | Finished | UsageNow | Broken
)  # fmt: skip

CONTENT = (TextDelta, ThinkingDelta, RefusalDelta, CitationDelta, MediaDelta, ToolStart, ToolDelta, Finished)
"""Deltas that a user would see the effect of: the commit point of a stream is the first of these."""
