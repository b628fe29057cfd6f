"""Every dialect against its vendor's wire format: the fixtures of tests/fixtures/providers, read and written."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import types as anthropic
from google.genai import types as google
from openai.types import chat, responses
from pydantic import TypeAdapter

from gateway.protocols.base import BadReply, UsageOf
from gateway.protocols.canonical import Broken, Document, Request
from gateway.protocols.chat import Chat
from tests.gateway.protocols.dialects import SPOKEN, collected, deltas
from tests.gateway.protocols.golden import having, load, plain, rendered


def split(case: str) -> tuple[str, Any, UsageOf, dict[str, Any]]:
    kind = case.partition("/")[0]
    return kind, *SPOKEN[kind], load(case)


def asked(dialect: Any, fixture: dict[str, Any]) -> Request:
    reader = Chat() if "chat" in fixture else dialect
    found: Request = reader.read_request(fixture.get("chat", fixture["request"]))
    return found


@pytest.mark.parametrize("case", having("request"))
def test_a_request_asks_for_what_the_fixture_says(case):
    _, dialect, _, fixture = split(case)
    assert plain(asked(dialect, fixture)) == fixture["asks"]


@pytest.mark.parametrize("case", having("request"))
def test_what_is_asked_is_written_as_the_vendor_wants_it(case):
    _, dialect, _, fixture = split(case)
    model = fixture.get("model") or fixture["request"]["model"]
    document: Document = dialect.write_request(asked(dialect, fixture), model)
    assert document == fixture.get("written", fixture["request"])


@pytest.mark.parametrize("case", having("reply"))
def test_a_whole_answer_means_what_the_fixture_says(case):
    _, dialect, usage, fixture = split(case)
    assert plain(dialect.read_reply(fixture["reply"], usage)) == fixture["means"]


@pytest.mark.parametrize("size", [1, 7, 1_000_000], ids=["bytes", "pieces", "whole"])
@pytest.mark.parametrize("case", having("stream"))
def test_a_streamed_answer_means_the_same_however_it_is_cut(case, size):
    kind, _, _, fixture = split(case)
    stream = b"".join(rendered(kind, fixture["stream"]))
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    expected = fixture["means"] | fixture.get("streamed", {})
    expected = {name: value for name, value in expected.items() if value is not None}
    assert plain(collected(deltas(kind, pieces))) == expected


@pytest.mark.parametrize("case", [case for case in having("stream") if len(load(case)["stream"]) > 1])
def test_a_stream_without_its_end_is_a_bad_reply(case):
    kind, dialect, usage, fixture = split(case)
    reader = dialect.reader(usage)
    for event in rendered(kind, fixture["stream"])[:1]:
        reader.read(event)
    with pytest.raises(BadReply, match="ended before its answer did"):
        reader.end()


@pytest.mark.parametrize("case", having("broken"))
def test_a_stream_that_fails_says_why(case):
    kind, dialect, usage, fixture = split(case)
    reader = dialect.reader(usage)
    found = [delta for event in rendered(kind, fixture["broken"]["stream"]) for delta in reader.read(event)]
    assert found[-1] == Broken(fixture["broken"]["message"], fixture["broken"]["status"])


# --- the fixtures are what the vendors' own packages take


TYPES: dict[str, tuple[Any, Any]] = {
    "openai": (chat.ChatCompletion, chat.ChatCompletionChunk),
    "responses": (responses.Response, responses.ResponseStreamEvent),
    "anthropic": (anthropic.Message, anthropic.RawMessageStreamEvent),
    "gemini": (google.GenerateContentResponse, google.GenerateContentResponse),
}


@pytest.mark.parametrize("case", [case for case in having("reply") if case.partition("/")[0] in TYPES])
def test_the_fixtures_are_valid_by_the_types_of_the_vendors_client(case):
    kind, _, _, fixture = split(case)
    whole, event = TYPES[kind]
    TypeAdapter(whole).validate_python(fixture["reply"])
    for one in fixture["stream"]:
        if one["data"] != "[DONE]" and one["event"] != "ping":
            TypeAdapter(event).validate_python(one["data"])


def test_every_dialect_has_golden_fixtures():
    assert {case.partition("/")[0] for case in having("stream")} == SPOKEN.keys()
    assert all({"page", "checked_with", "read"} == load(case)["source"].keys() for case in having("request"))
