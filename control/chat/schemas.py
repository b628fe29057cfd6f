"""Bodies of the chat: sessions as the console keeps them, and the token with which its pages call the gateway."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from control.kit.schemas import A_MOMENT, Body, RowVersion, example

Title = Annotated[str, StringConstraints(min_length=1, max_length=200)]
ModelName = Annotated[str, StringConstraints(max_length=255)]
Text = Annotated[str, StringConstraints(max_length=1_000_000)]
Image = Annotated[
    str, StringConstraints(max_length=2_000_000, pattern=r"^data:image/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+=*$")
]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]
Milliseconds = Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)]


class ChatSettings(Body):
    """With what the messages of a session are sent. What is absent is not sent."""

    model: ModelName = ""
    """Route that answers; empty: none was chosen yet."""
    system: Annotated[str, StringConstraints(max_length=100_000)] = ""
    """System prompt."""
    temperature: Annotated[float, Field(strict=True, ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] | None = None
    max_tokens: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] | None = None
    seed: Annotated[int, Field(strict=True, ge=-(2**53), le=2**53)] | None = None
    stop: Annotated[tuple[Stop, ...], Field(max_length=16)] = ()
    tools: Annotated[str, StringConstraints(max_length=200_000)] = ""
    """JSON text of `tools`, as the person wrote it."""
    response_format: Annotated[str, StringConstraints(max_length=200_000)] = ""
    """JSON text of `response_format`, as the person wrote it."""


class ChatToolCall(Body):
    """A function that the model asked for."""

    id: Annotated[str, StringConstraints(max_length=1000)] = ""
    """What the message with its result refers to."""
    name: Annotated[str, StringConstraints(max_length=1000)]
    arguments: Text


class ChatFailure(Body):
    """Why an answer is missing or ends early."""

    message: Annotated[str, StringConstraints(max_length=20_000)]
    code: Annotated[str, StringConstraints(max_length=200)] = ""
    status: Annotated[int, Field(strict=True, ge=0, le=999)] = 0
    """HTTP status; 0 if no answer came, or if it failed after it had begun."""


class ChatFigures(Body):
    """What was measured of an answer, in the browser. Tokens are absent when the upstream did not tell."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    ttft_ms: Milliseconds | None = None
    """From sending to the first content."""
    duration_ms: Milliseconds | None = None


class ChatMessage(Body):
    """One message, or one answer with what is known about it."""

    role: Literal["user", "assistant", "tool"]
    """`tool`: the result of a tool, which the person has written."""
    content: Text = ""
    images: Annotated[tuple[Image, ...], Field(max_length=8)] = ()
    """`data:` URLs."""
    reasoning: Text = ""
    """What the model thought before it answered."""
    tool_calls: Annotated[tuple[ChatToolCall, ...], Field(max_length=128)] = ()
    tool_call_id: Annotated[str, StringConstraints(max_length=1000)] = ""
    """Of a result: the call that it answers."""
    model: ModelName = ""
    """Route that answered."""
    request_id: Annotated[str, StringConstraints(max_length=128)] = ""
    """Of the answer, as in the ledger."""
    failure: ChatFailure | None = None
    stopped: Annotated[bool, Field(strict=True)] = False
    """The person stopped the answer."""
    figures: ChatFigures | None = None


class ChatSessionCreate(Body):
    """A new session."""

    model_config = example(
        title="Greetings", settings={"model": "gpt-4o", "temperature": 0.2},
        messages=[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello! 你好！"}],
    )  # fmt: skip

    title: Title
    settings: ChatSettings = ChatSettings()
    messages: Annotated[tuple[ChatMessage, ...], Field(max_length=2000)] = ()
    """At most 2 MB of JSON together."""


class ChatSessionPut(ChatSessionCreate):
    """A session as it is now: it replaces what was there as a whole."""

    model_config = example(ChatSessionCreate, row_version=1)

    row_version: RowVersion
    """From the last read."""


class ChatSessionSummary(BaseModel):
    """A session in a list."""

    model_config = example(
        id="01936f3a-0000-7000-8000-000000000001", title="Greetings", turns=2, created_at=A_MOMENT,
        updated_at=A_MOMENT, row_version=1,
    )  # fmt: skip

    id: str
    title: str
    turns: int
    """Messages in it."""
    created_at: datetime
    updated_at: datetime
    row_version: int


class ChatSession(ChatSessionSummary):
    """A session with everything in it."""

    model_config = example(
        ChatSessionSummary, settings={"model": "gpt-4o"}, messages=[{"role": "user", "content": "Hello"}]
    )

    settings: ChatSettings
    messages: list[ChatMessage]


class ChatToken(BaseModel):
    """With what a page of the console calls the gateway, for some minutes."""

    model_config = example(token="tgs-…", expires_in=900, gateway_url="https://llm.example.com", key="console@alice")

    token: str
    """Bearer token; it stands for the key `key`, and is held to all of its rules."""
    expires_in: int
    """Seconds."""
    gateway_url: str
    """Where the gateway is; OpenAI's base URL is this with `/v1`."""
    key: str
    """Public name of the caller's own key for the console. It has no secret that anybody knows."""
