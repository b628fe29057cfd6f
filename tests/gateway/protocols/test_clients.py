"""The vendors' own clients read what the gateway writes: what they put together is the answer that was told."""

from __future__ import annotations

from typing import Any

import httpx2
import orjson
import pytest
from anthropic import Anthropic, APIError as AnthropicError
from google import genai
from google.genai import types
from hypothesis import assume, given, settings
from openai import OpenAI

from gateway.errors import GatewayError
from gateway.protocols.base import Origin
from gateway.protocols.canonical import Message, Reasoning, Request, Start, Text
from gateway.protocols.gemini import Gemini
from tests.gateway.protocols.conversations import heard, in_members, streams
from tests.gateway.protocols.dialects import INBOUND, SPOKEN, collected

ORIGIN = Origin("req-1", "a-model", 1_790_000_000)
REQUEST = Request([Message("user", [Text("Hello")])], include_usage=True)
SUMMARY = Request([Message("user", [Text("Hello")])], reasoning=Reasoning(summary="auto"), include_usage=True)


def answering(body: bytes, media_type: str = "text/event-stream", status: int = 200) -> httpx2.Client:
    """A client whose only answer this is."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers={"content-type": media_type}, content=body)

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def openai(body: bytes, **more: Any) -> OpenAI:
    return OpenAI(api_key="k", base_url="http://gateway/v1", max_retries=0, http_client=answering(body, **more))


def told(name: str, given_deltas: list[Any], request: Request = REQUEST) -> bytes:
    writer = INBOUND[name].writer(request, ORIGIN)
    return b"".join(map(writer.write, given_deltas)) + writer.end()


@settings(max_examples=60, deadline=None)
@given(given_deltas=streams(2))
def test_the_openai_client_joins_the_chunks_of_a_chat_completion_to_the_answer(given_deltas):
    chunks = told("openai", given_deltas)
    assume(b'"choices":[{"index":0,' in chunks.partition(b"\n\n")[0])  # the client takes it for granted
    with openai(chunks).chat.completions.stream(
        model="m", messages=[], stream_options={"include_usage": True}
    ) as stream:
        stream.until_done()
        document = stream.current_completion_snapshot.model_dump()
    read = SPOKEN["openai"].dialect.read_reply(document, SPOKEN["openai"].usage)
    expected = heard("openai", collected(given_deltas))
    for choice in (*read.choices[1:], *expected.choices[1:]):
        choice.logprobs = None  # the client adds the first of a later choice twice
    assert in_members(read) == in_members(expected)


@pytest.mark.parametrize("request_", [REQUEST, SUMMARY], ids=["reasoning", "summary"])
@settings(max_examples=60, deadline=None)
@given(given_deltas=streams())
def test_the_openai_client_takes_every_event_of_a_response(request_, given_deltas):
    kinds: list[str] = []
    numbers: list[int] = []
    with openai(told("responses", given_deltas, request_)).responses.stream(model="m", input="Hello") as stream:
        for event in stream:
            kinds.append(event.type)
            numbers.append(event.sequence_number)
    assert numbers == list(range(len(numbers)))
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    document = event.response.model_dump(exclude_unset=True)  # type: ignore[union-attr]
    for item in document["output"]:
        item.pop("parsed_arguments", None)
    read = SPOKEN["responses"].dialect.read_reply(document, SPOKEN["responses"].usage)
    assert read == heard("responses", collected(given_deltas))


@settings(max_examples=60, deadline=None)
@given(given_deltas=streams())
def test_the_anthropic_client_joins_the_events_of_a_message_to_the_answer(given_deltas):
    client = Anthropic(
        api_key="k", base_url="http://gateway", max_retries=0, http_client=answering(told("anthropic", given_deltas))
    )
    with client.messages.stream(model="m", max_tokens=1, messages=[]) as stream:
        document = stream.get_final_message().model_dump(exclude_none=True)
    read = SPOKEN["anthropic"].dialect.read_reply(document, SPOKEN["anthropic"].usage)
    assert read == heard("anthropic", collected(given_deltas))


def test_the_anthropic_client_raises_the_error_of_a_broken_stream():
    error = GatewayError("provider_5xx", "The upstream said no.")
    writer = INBOUND["anthropic"].writer(REQUEST, ORIGIN)
    body = writer.write(Start("id-1", "m")) + INBOUND["anthropic"].error_event(error)
    client = Anthropic(api_key="k", base_url="http://gateway", max_retries=0, http_client=answering(body))
    with client.messages.stream(model="m", max_tokens=1, messages=[]) as stream, pytest.raises(AnthropicError) as told_:
        stream.until_done()
    assert "The upstream said no." in str(told_.value)


@settings(max_examples=60, deadline=None)
@given(given_deltas=streams())
def test_the_google_client_reads_every_event_of_a_gemini_stream(given_deltas):
    with genai.Client(api_key="k", http_options=types.HttpOptions(
        base_url="http://gateway", httpx_client=answering(told("gemini", given_deltas))
    )) as client:  # fmt: skip
        chunks = list(client.models.generate_content_stream(model="m", contents="Hello"))
    left_out = {"sdk_http_response"}
    documents = [c.model_dump(mode="json", by_alias=True, exclude_none=True, exclude=left_out) for c in chunks]
    events = b"".join(b"data: %b\n\n" % orjson.dumps(document) for document in documents)
    reader = Gemini().reader(SPOKEN["gemini"].usage)
    found = [delta for event in Gemini().framer(10**6).feed(events) for delta in reader.read(event)] + reader.end()
    assert collected(found) == heard("gemini", collected(given_deltas))


def test_the_openai_client_sees_the_error_of_a_broken_response_stream():
    error = GatewayError("provider_5xx", "The upstream said no.")
    writer = INBOUND["responses"].writer(REQUEST, ORIGIN)
    body = writer.write(Start("id-1", "m")) + INBOUND["responses"].error_event(error)
    with openai(body).responses.stream(model="m", input="x") as stream:
        *_, last = list(stream)
    assert (last.type, last.code, last.message) == ("error", "upstream_error", "The upstream said no.")


def test_the_google_client_raises_google_errors():
    error = GatewayError("policy_rate", "Too many requests.")
    client = genai.Client(api_key="k", http_options=types.HttpOptions(
        base_url="http://gateway", httpx_client=answering(Gemini().error(error), "application/json", 429)
    ))  # fmt: skip
    with client, pytest.raises(genai.errors.ClientError) as caught:
        client.models.generate_content(model="m", contents="x")
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert "Too many requests." in str(caught.value)
