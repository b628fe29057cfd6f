"""What a client asks for in a dialect is what an upstream of it is asked for; what is no request is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from gateway.errors import GatewayError
from gateway.protocols.canonical import (
    Block,
    Format,
    Media,
    Message,
    Reasoning,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)  # fmt: skip
from gateway.protocols.chat import Chat
from gateway.protocols.chat.style import Style
from tests.gateway.protocols.conversations import ARGUMENTS, IDS, JSON, NAMES, PROOFS, WORDS
from tests.gateway.protocols.dialects import INBOUND, OUTBOUND
from tests.gateway.protocols.golden import having, load


class Details(Style):
    """An upstream that takes proofs of reasoning back, as OpenRouter does."""

    history = "reasoning_details"


WRITERS = {**OUTBOUND, "openai": Chat(Details())}
SCHEMAS = st.just({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
IMAGES = st.sampled_from(
    [
        Media("image", url="https://example.com/a.png"),
        Media("image", media_type="image/png", data="iVBORw0KGgo="),
    ]
)


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[Message]:
    """A question, an answer that may call tools, and what they gave."""
    asked: list[Block] = [Text(draw(WORDS)), *draw(st.lists(IMAGES, max_size=2))]
    said: list[Block] = []
    if draw(st.booleans()):
        said.append(Thinking(draw(WORDS), draw(PROOFS)))
    if draw(st.booleans()):
        said.append(Text("said " + draw(WORDS)))
    calls = [
        ToolCall(f"{draw(IDS)}{number}{at}", draw(NAMES), draw(ARGUMENTS)) for at in range(draw(st.integers(0, 3)))
    ]
    if not said and not calls:
        said.append(Text("said nothing"))
    results = [Message("tool", [ToolResult(call.id, [Text("gave " + draw(WORDS))], call.name)]) for call in calls]
    return [Message("user", asked), Message("assistant", [*said, *calls]), *results]


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """A conversation that every dialect can tell."""
    system = [Message("system", [Text("be " + draw(WORDS))])] if draw(st.booleans()) else []
    history = [message for number in range(draw(st.integers(0, 2))) for message in draw(turns(number))]
    tools = draw(st.lists(st.builds(Tool, NAMES, st.none() | WORDS, SCHEMAS), max_size=2, unique_by=lambda t: t.name))
    choices = [None, ToolChoice("auto"), ToolChoice("any"), *(ToolChoice("tool", tool.name) for tool in tools)]
    return Request(
        messages=[*system, *history, Message("user", [Text("ask " + draw(WORDS))])],
        tools=tools,
        tool_choice=draw(st.sampled_from(choices)) if tools else None,
        max_tokens=draw(st.integers(2000, 9000)),
        temperature=draw(st.none() | st.sampled_from([0, 0.5, 1])),
        top_p=draw(st.none() | st.just(0.9)),
        format=draw(st.none() | SCHEMAS.map(lambda schema: Format("schema", schema=schema))),
        reasoning=draw(st.none() | st.sampled_from([Reasoning(effort="low"), Reasoning(effort="high")])),
        stream=draw(st.booleans()),
        include_usage=True,
    )


def kept(name: str, request: Request) -> Request:
    """What of it the dialect tells; the rest is of no matter to the answer."""
    apart = [one for message in request.messages for one in _apart(name, message)]
    tools = [replace(tool, strict=(name == "responses" and bool(tool.strict)) or None) for tool in request.tools]
    reasoning = request.reasoning
    if name == "anthropic" and reasoning is not None:
        reasoning = reasoning._replace(enabled=True)  # an effort is one of thinking
    form = request.format
    if name == "anthropic" and form is not None:
        form = form._replace(strict=True)  # its schemas always are
    return replace(
        request,
        messages=apart,
        tools=tools,
        reasoning=reasoning,
        format=form,
        stream=False,
        include_usage=True,
        extra={},
    )


def _apart(name: str, message: Message) -> list[Message]:
    """Results each in a message of its own, without what only one dialect has a place for."""
    if message.role == "tool":
        return [Message("tool", [replace(one, name=None)]) for one in message.blocks if isinstance(one, ToolResult)]
    blocks = [_bare(block) for block in message.blocks]
    return [Message(message.role, blocks)]


def _bare(block: Block) -> Block:
    if isinstance(block, Media) and block.url is not None:
        return replace(block, media_type=None)  # Gemini names it for links too
    return replace(block, id=None) if isinstance(block, Thinking) else block


@pytest.mark.parametrize("name", INBOUND)
@settings(max_examples=100, deadline=None)
@given(request_=requests())
def test_what_is_written_for_an_upstream_is_read_as_the_same_request(name, request_):
    written = WRITERS[name].write_request(request_, "gemini-3-pro")
    assert kept(name, INBOUND[name].read_request(written)) == kept(name, request_)


@pytest.mark.parametrize("name", OUTBOUND)
@settings(max_examples=60, deadline=None)
@given(request_=requests())
def test_every_upstream_can_be_asked(name, request_):
    for message in request_.messages if name == "bedrock" else ():  # it takes no links but of its own storage
        message.blocks = [block for block in message.blocks if not isinstance(block, Media) or block.url is None]
    document = OUTBOUND[name].write_request(replace(request_, reasoning=None), "a-model")
    texts = [b.text for m in request_.messages for b in m.blocks if isinstance(b, Text) and b.text.strip()]
    assert all(text in _strings(document) for text in texts)


def _names(value: Any) -> list[str]:
    """The members of a document, at any depth."""
    if isinstance(value, dict):
        return [*value, *(name for one in value.values() for name in _names(one))]
    return [name for one in value for name in _names(one)] if isinstance(value, list) else []


def _strings(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(_strings(one) for one in value.values())
    if isinstance(value, list):
        return "\n".join(_strings(one) for one in value)
    return value if isinstance(value, str) else ""


MEMBERS = st.sampled_from([name for case in having("request") for name in _names(load(case)["request"])])
KINDS = st.sampled_from(
    ["user", "assistant", "tool", "model", "message", "function", "function_call", "function_call_output", "reasoning",
     "text", "image", "input_text", "input_image", "base64", "thinking", "tool_use", "tool_result", "auto", "any"]
)  # fmt: skip
DOCUMENTS = st.dictionaries(
    MEMBERS,
    st.recursive(
        JSON | KINDS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS | WORDS, inner, max_size=5),
        max_leaves=25,
    ),
    max_size=6,
)


REFUSALS = ("caller_bad_request", "caller_unsupported")


def attempt(call: Any, *arguments: Any) -> tuple[Any, GatewayError | None]:
    """What a call returns, or how it refuses."""
    try:
        return call(*arguments), None
    except GatewayError as error:
        return None, error


@pytest.mark.parametrize("name", INBOUND)
@settings(max_examples=300, deadline=None)
@given(document=DOCUMENTS)
def test_any_document_is_a_request_or_refused_with_the_name_of_what_is_wrong(name, document):
    read, error = attempt(INBOUND[name].read_request, document)
    assert error is None or (error.code in REFUSALS and error.param)
    for outbound in OUTBOUND.values() if read is not None else ():
        _, error = attempt(outbound.write_request, read, "a-model")
        assert error is None or error.code in REFUSALS
