"""Official clients hear the same from the response cache as from the model, streamed and whole, in every dialect."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from tests.fakes.gateway import KEY, Gateway, endpoint
from tests.gateway.caching import cached
from tests.matrix.clients import CLIENTS
from tests.matrix.responses_client import ResponsesClient
from tests.matrix.told import Ask, Call, Said, Tokens
from tests.matrix.vendors import VENDORS, script

KINDS = ("openai", "anthropic", "gemini", "openai-responses")


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    root, ends = upstream.url.removesuffix("/v1"), []
    for name in KINDS:
        vendor = VENDORS[name]
        more = getattr(vendor, "endpoint", {})
        ends.append(endpoint(root + vendor.base, name, provider=vendor.kind, api_key="vendor-secret-0123", **more))
    return start({"endpoint": ends, "route": [cached(f"{name}/*", name) for name in KINDS]})


class Unstored(ResponsesClient):
    """A client whose answers nobody keeps."""

    def _body(self, ask: Ask) -> dict[str, Any]:
        return {**super()._body(ask), "store": False}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inbound", list(CLIENTS))
def test_official_clients_hear_the_same_streamed_and_whole(gateway, upstream, scripted, inbound, kind):
    said = Said("Hello, 世界", calls=(Call("c1", "f", {"a": 1}),), finish="tool_calls", tokens=Tokens(120, 80, 30, 0))
    client = Unstored if inbound == "responses" else CLIENTS[inbound]
    with closing(client(gateway.url, KEY)) as sdk:
        for first in (False, True):
            model, arrived = scripted([]), []
            upstream.on(model, script(VENDORS[kind], said, arrived.append))
            answers = [sdk.ask(Ask(f"{kind}/{model}", stream=stream)) for stream in (first, first, not first, False)]
            assert len(arrived) == 1, "the others were hits"
            for heard in answers:
                assert (heard.text, heard.calls, heard.finish) == (said.text, list(said.calls), "tool_calls")
                assert heard.tokens == answers[0].tokens
