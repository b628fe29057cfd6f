"""A conversation goes on anywhere: the target that made a proof gets it back, and no other gets to see it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.protocols.base import Origin
from gateway.protocols.canonical import Message, Request, Text, Thinking
from gateway.protocols.collect import deltas_of
from gateway.protocols.proofs import Proven
from gateway.protocols.translation import Translation
from tests.gateway.protocols.dialects import INBOUND, OUTBOUND, SPOKEN, collected, deltas
from tests.gateway.protocols.golden import load, rendered

ORIGIN = Origin("req-1", "a-model", 1_790_000_000)
PROVERS = {"anthropic": "EqoBCkgIAxgC", "responses": "gAAAAABoISQ24OyVRYbkYfukdJoqdzWT", "gemini": "Cs4BAdHtim8="}
"""Who gives proofs in its golden fixtures, and one that it gives there."""
CASES = {"anthropic": "anthropic/text", "responses": "responses/tools", "gemini": "gemini/text"}
PAIRS = [(client, target) for client in INBOUND for target in PROVERS if client != target]


def history(client: str, answer: bytes) -> Request:
    """The next request of a client that sends the answer back as its dialect wants it."""
    document = orjson.loads(answer)
    if client == "gemini":
        body: dict[str, Any] = {"contents": [{"parts": [{"text": "Hi"}]}, document["candidates"][0]["content"]]}
    elif client == "responses":
        body = {"input": [{"role": "user", "content": "Hi"}, *document["output"]]}
    elif client == "anthropic":
        turn = {"role": "assistant", "content": document["content"]}
        body = {"max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}, turn]}
    else:
        body = {"messages": [{"role": "user", "content": "Hi"}, document["choices"][0]["message"]]}
    return INBOUND[client].read_request(body)


def translation(client: str, target: str) -> Translation:
    asked = Request([Message("user", [Text("Hi")])])
    return Translation(INBOUND[client], OUTBOUND[target], asked, ORIGIN, SPOKEN[target].usage)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("client", "target"), PAIRS)
def test_a_proof_finds_its_maker_and_nobody_else(client, target, stream):
    way, proof = translation(client, target), PROVERS[target]
    fixture = load(CASES[target])
    if stream:
        reader = way.outbound.reader(way.usage)
        events = rendered(target, fixture["stream"])
        written = way.inbound.writer(way.request, ORIGIN)
        told = b"".join(written.write(d) for event in events for d in reader.read(event)) + written.end()
        reply = collected(deltas(client, [told]))
    else:
        reply = way.outbound.read_reply(fixture["reply"], way.usage)
    answer = way.inbound.write_reply(reply, way.request, ORIGIN)
    request = history(client, answer)
    for other in OUTBOUND:
        if other == client:
            continue
        again = orjson.dumps(translation(client, other).outbound.write_request(request, "gemini-3-pro")).decode()
        assert (proof in again) == (other == target or {other, target} == {"anthropic", "bedrock"}), other
        assert "tunegate" not in again


@pytest.mark.parametrize("client", ["openai", "responses"])
def test_the_signature_of_a_call_comes_back_with_the_call(client):
    way, fixture = translation(client, "gemini"), load("gemini/tools")
    reply = way.outbound.read_reply(fixture["reply"], way.usage)
    request = history(client, way.inbound.write_reply(reply, way.request, ORIGIN))
    content = way.outbound.write_request(request, "gemini-3-pro")["contents"][-1]
    assert [part.get("thoughtSignature") for part in content["parts"]] == ["U2lnX0I=", None]


@pytest.mark.parametrize("target", PROVERS)
def test_what_passed_through_is_the_clients_own_vendors_and_goes_to_no_other(target):
    for client in INBOUND:
        if client == target:
            continue
        signed = Request([Message("assistant", [Thinking("I think", "raw-proof"), Thinking(redacted="raw-hidden")])])
        written = orjson.dumps(translation(client, target).outbound.write_request(signed, "a-model"))
        assert b"raw-" not in written


def test_claude_takes_proofs_of_anthropic_at_bedrock():
    signed = Request([Message("assistant", [Thinking("I think", "raw-proof"), Thinking(redacted="raw-hidden")])])
    written = orjson.dumps(translation("anthropic", "bedrock").outbound.write_request(signed, "anthropic.claude"))
    assert b"raw-proof" in written
    assert b"raw-hidden" in written


def test_unproven_thoughts_are_told_where_they_may_be():
    request = Request([Message("assistant", [Thinking("I think", "tunegate.messages:x"), Text("Hi")])])
    written = Proven(OUTBOUND["cohere"], INBOUND["openai"]).write_request(request, "a-model")
    thought = {"type": "thinking", "thinking": "I think"}
    assert written["messages"][0]["content"] == [thought, {"type": "text", "text": "Hi"}]


def test_the_mark_comes_in_the_stream_as_in_the_whole_answer():
    way = translation("openai", "anthropic")
    reply = way.outbound.read_reply(load("anthropic/text")["reply"], way.usage)
    reader = way.outbound.reader(way.usage)
    events = rendered("anthropic", load("anthropic/text")["stream"])
    assert collected(delta for event in events for delta in reader.read(event)) == reply
    assert [d.signature for d in deltas_of(reply) if getattr(d, "signature", None)] == [
        "tunegate.messages:EqoBCkgIAxgC"
    ]


def test_a_call_of_another_model_gets_what_stands_for_no_signature():
    call = load("openai/tools")["request"]
    request = INBOUND["openai"].read_request(call)
    for model, proof in (("gemini-3-pro", "skip_thought_signature_validator"), ("gemini-2.5-pro", None)):
        contents = OUTBOUND["gemini"].write_request(request, model)["contents"]
        first, second = contents[1]["parts"]
        assert first.get("thoughtSignature") == proof
        assert "thoughtSignature" not in second
