"""A conversation that began at a target of another dialect goes on at one of the client's own."""

from __future__ import annotations

import json

import pytest

from tests.fakes import scripts
from tests.fakes.gateway import Gateway, endpoint, route
from tests.matrix.anthropic_vendor import AnthropicVendor
from tests.matrix.told import Said

ANSWER = scripts.reply(AnthropicVendor().whole(Said("Hello"), "m"))


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    return start({"endpoint": [endpoint(upstream.url, provider="anthropic")], "route": [route("x/*")]})


def ask(gateway: Gateway, model: str, signature: str):
    thought = {"type": "thinking", "thinking": "Hm.", "signature": signature}
    history = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [thought, {"type": "text", "text": "Hello"}]},
        {"role": "user", "content": "And?"},
    ]
    body = {"model": f"x/{model}", "max_tokens": 10, "messages": history}
    return gateway.call("POST", "/v1/messages", json.dumps(body).encode())


@pytest.mark.parametrize(
    ("signature", "arrives"), [("tunegate.messages:c2ln", "c2ln"), ("tunegate.gemini:c2ln", None), ("c2ln", "c2ln")]
)
def test_a_marked_proof_goes_back_to_its_maker_alone(gateway, upstream, scripted, signature, arrives):
    model = scripted(ANSWER)
    assert ask(gateway, model, signature).status == 200
    content = upstream.of(model)[0].json["messages"][1]["content"]
    parts = [content] if isinstance(content, str) else [part.get("signature") for part in content]
    assert (arrives in parts) if arrives else not any("tunegate" in str(part) for part in parts)


def test_words_that_look_like_a_mark_pass_as_they_are(gateway, upstream, scripted):
    model = scripted(ANSWER)
    body = b'{"model":"x/%b","max_tokens":10,"odd":1.0,"messages":[{"role":"user","content":"\\"tunegate. hi"}]}'
    assert gateway.call("POST", "/v1/messages", body % model.encode()).status == 200
    assert upstream.of(model)[0].body == body.replace(b"x/%b", model.encode())
