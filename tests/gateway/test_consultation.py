"""A model that searches the knowledge bases itself: every client's dialect, every vendor's, streamed and not."""

from __future__ import annotations

import itertools
import json
from contextlib import closing

import pytest

from tests.fakes import control as fake, scripts
from tests.fakes.control import ENV, Control, settings
from tests.fakes.gateway import KEY, Gateway, endpoint, eventually, key, new_id, route
from tests.gateway.test_rag import OTHER, PASSAGE
from tests.matrix.clients import CLIENTS
from tests.matrix.openai_vendor import OpenAIVendor
from tests.matrix.run import variable
from tests.matrix.told import Ask, Asked, Call, Said, Tokens, Tool
from tests.matrix.vendors import VENDORS, script

SECOND = {**OTHER, "chunk": "c-2"}
ABOUT = "They hold the rules of leave."
QUERY = Said(calls=(Call("call_1", "search_knowledge", {"query": "days of leave"}),), finish="tool_calls")
ANSWER = Said(text="Thirty days [1].", tokens=Tokens(input=70, output=8))
KNOWLEDGE = {"bases": ["handbook"], "when": "tool", "about": ABOUT}
WEATHER = Tool("weather", "What it is like outside", {"type": "object", "properties": {"city": {"type": "string"}}})
PLAIN = OpenAIVendor("openai")
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def control():
    with Control() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(control, upstream, tmp_path_factory):
    root = upstream.url.removesuffix("/v1")
    endpoints = [
        endpoint(root + vendor.base, name, provider=vendor.kind, api_key=f"env:{variable(name)}",
                 **getattr(vendor, "endpoint", {}))
        for name, vendor in VENDORS.items()
    ]  # fmt: skip
    price = {"input": 1.0, "output": 10.0}
    routes = [route(f"{name}/*", name, knowledge=KNOWLEDGE, price=price) for name in VENDORS]
    routes += [
        route("again/*", "openai", knowledge=KNOWLEDGE, retry={"max_attempts": 2, "backoff": 0.01}),
        route("cited/*", "openai", knowledge={**KNOWLEDGE, "citations": True}),
        route("closed/*", "openai", knowledge={**KNOWLEDGE, "on_failure": "closed"}, price=price),
    ]
    control.publish({"endpoint": endpoints, "route": routes, "key": [key("tester")]})
    secrets = {variable(name): getattr(one, "key", "vendor-secret-0123456789") for name, one in VENDORS.items()}
    with Gateway(settings(control), tmp_path_factory.mktemp("consultation"), env=ENV | secrets) as running:
        yield running


@pytest.fixture(autouse=True)
def passages(control):
    control.passages, control.searches = [PASSAGE, SECOND], []
    yield control.passages
    control.manners.pop("retrieval", None)


@pytest.fixture
def asked() -> list[Asked]:
    """What arrived at the vendor, request by request."""
    return []


@pytest.fixture
def says(upstream, asked):
    """`says(*answers)`: name of a model of OpenAI's that gives them one after the other, the last for ever."""

    def give(*answers: Said, vendor: str = "openai") -> str:
        name = f"{getattr(VENDORS[vendor], 'prefix', '')}c{next(_numbers)}"
        *first, last = (script(VENDORS[vendor], said, asked.append) for said in answers)
        upstream.queue(name, *first)
        upstream.on(name, last)
        return name

    return give


def ask(gateway: Gateway, model: str, *, rid: str = "", **more: object):
    body = {"model": model, "messages": [{"role": "user", "content": "How much leave?"}], **more}
    return gateway.call("POST", "/v1/chat/completions", json.dumps(body).encode(), x_request_id=rid or new_id())


def row_of(control: Control, rid: str) -> dict[str, object]:
    return eventually(lambda: [e for e in control.ledger.values() if e["request_id"] == rid])[0]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("inbound", CLIENTS)
@pytest.mark.parametrize("kind", VENDORS)
def test_the_client_gets_the_answer_and_hears_nothing_of_the_search(
    gateway, control, says, asked, kind, inbound, stream
):
    model = says(QUERY, ANSWER, vendor=kind)
    with closing(CLIENTS[inbound](gateway.url, KEY)) as client:
        heard = client.ask(Ask(f"{kind}/{model}", text="How much leave?", stream=stream))
    assert (heard.text, heard.calls, heard.finish) == ("Thirty days [1].", [], "stop"), heard
    first, second = asked
    assert list(first.tools) == list(second.tools) == ["search_knowledge"]
    [[_, (name, arguments)]] = second.calls.items()
    assert (name, arguments) == ("search_knowledge", {"query": "days of leave"})
    [told] = second.results.values()
    assert '<passage number="1" source="Leave 2026.pdf, p. 12, Leave › Annual">' in told
    assert [one["query"] for one in control.searches] == ["days of leave"]
    assert heard.tokens is not None
    assert heard.tokens.input + heard.tokens.output == 20 + 10 + 70 + 8


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_does_not_search_just_answers(gateway, control, says, asked, stream):
    reply = ask(gateway, f"openai/{says(ANSWER)}", stream=stream)
    assert reply.status == 200
    assert control.searches == []
    assert list(asked[0].tools) == ["search_knowledge"]
    assert reply.header("x-tunegate-retrieval") is None
    assert b"Thir" in reply.body


def test_all_rounds_are_one_row_with_all_tokens_and_their_price(gateway, control, says):
    rid = new_id()
    reply = ask(gateway, f"openai/{says(QUERY, ANSWER)}", rid=rid)
    assert reply.json["usage"]["total_tokens"] == 108
    assert reply.header("x-tunegate-attempts") == "2"
    assert reply.header("x-tunegate-retrieval").startswith("found; passages=2; ms=")
    row = row_of(control, rid)
    assert (row["tokens"]["input"], row["tokens"]["output"], row["usage_source"]) == (90, 18, "provider")
    assert row["cost_nano"] == 90 * 1000 + 18 * 10_000
    assert [one["status"] for one in row["attempts"]] == [200, 200]
    assert row["retrieval"]["passages"] == 2


def test_what_was_said_before_the_search_is_streamed_and_the_stream_goes_on(gateway, says):
    preamble = Said(text="Let me look. ", calls=QUERY.calls, finish="tool_calls")
    reply = ask(gateway, f"cited/{says(preamble, ANSWER)}", stream=True, stream_options={"include_usage": True})
    chunks = scripts.payloads(reply.body)
    text = "".join(one["choices"][0]["delta"].get("content") or "" for one in chunks if one["choices"])
    assert text == "Let me look. Thirty days [1]."
    assert len({one["id"] for one in chunks}) == 1
    assert [
        one["choices"][0]["finish_reason"] for one in chunks if one["choices"] and one["choices"][0]["finish_reason"]
    ] == ["stop"]
    assert [one["usage"]["total_tokens"] for one in chunks if one.get("usage")] == [108]
    assert reply.body.count(b"data: [DONE]") == 1
    assert b'"citations"' in reply.body
    assert b"search_knowledge" not in reply.body


def test_passages_keep_their_numbers_from_search_to_search(gateway, control, says, asked):
    again = Said(calls=(Call("call_2", "search_knowledge", {"query": "in China"}),), finish="tool_calls")
    third = {**PASSAGE, "chunk": "c-9", "title": "More.md", "page": None, "section": ""}
    control.found_first = [[PASSAGE], [third, PASSAGE]]
    reply = ask(gateway, f"cited/{says(QUERY, again, ANSWER)}")
    first, second = asked[2].results.values()
    assert 'number="1"' in first
    assert second.index('number="2" source="More.md"') < second.index('number="1"')
    cited = reply.json["choices"][0]["message"]["citations"]
    assert [(one["index"], one["chunk_id"]) for one in cited] == [(1, "c-1"), (2, "c-9")]


def test_a_client_keeps_its_own_tools(gateway, control, says, asked):
    both = Said(calls=(*QUERY.calls, Call("call_w", "weather", {"city": "Bonn"})), finish="tool_calls")
    with closing(CLIENTS["chat"](gateway.url, KEY)) as client:
        for stream in (False, True):
            model = says(both, ANSWER)
            heard = client.ask(Ask(f"openai/{model}", tools=(WEATHER,), stream=stream))
            assert [(one.id, one.name) for one in heard.calls] == [("call_w", "weather")]
            assert heard.finish == "tool_calls"
    assert control.searches == []
    assert list(asked[0].tools) == ["weather", "search_knowledge"]


def test_a_tool_of_the_same_name_stays_the_clients(gateway, says, asked):
    own = Tool("search_knowledge", "Mine", {"type": "object", "properties": {}})
    with closing(CLIENTS["chat"](gateway.url, KEY)) as client:
        heard = client.ask(Ask(f"openai/{says(QUERY)}", tools=(own,)))
    assert [one.name for one in heard.calls] == ["search_knowledge"]
    assert list(asked[0].tools) == ["search_knowledge", "search_knowledge_"]


def test_a_model_that_never_stops_searching_is_stopped(gateway, control, says, asked):
    for stream in (False, True):
        control.searches.clear()
        reply = ask(gateway, f"openai/{says(QUERY)}", stream=stream)
        assert reply.status == 200
        assert b"search_knowledge" not in reply.body
        assert b'"finish_reason":"stop"' in reply.body
        assert len(control.searches) == 4
    assert "last search" in json.dumps(list(asked[-1].results.values()))


@pytest.mark.parametrize("arguments", [{}, {"query": ""}, {"query": 5}, {"q": "x"}])
def test_a_call_that_says_nothing_is_told_so(gateway, control, says, asked, arguments):
    wrong = Said(calls=(Call("call_1", "search_knowledge", arguments),), finish="tool_calls")
    assert ask(gateway, f"openai/{says(wrong, ANSWER)}").status == 200
    assert control.searches == []
    assert "some words" in next(iter(asked[1].results.values()))


def test_many_searches_at_once_are_a_few(gateway, control, says, asked):
    calls = tuple(Call(f"call_{n}", "search_knowledge", {"query": f"q{n}"}) for n in range(6))
    assert ask(gateway, f"openai/{says(Said(calls=calls, finish='tool_calls'), ANSWER)}").status == 200
    assert len(control.searches) == 4
    assert ["At most 4" in one for one in asked[1].results.values()] == [False] * 4 + [True] * 2


def test_a_search_that_fails_is_told_to_the_model_or_ends_the_request(gateway, control, says, asked):
    control.manners["retrieval"] = fake.answering(503, b"{}")
    reply = ask(gateway, f"openai/{says(QUERY, ANSWER)}")
    assert reply.status == 200
    assert reply.header("x-tunegate-retrieval").startswith("failed")
    assert "search failed" in next(iter(asked[1].results.values()))
    rid = new_id()
    refused = ask(gateway, f"closed/{says(QUERY, ANSWER)}", rid=rid)
    assert (refused.status, refused.error["code"]) == (503, "retrieval_failed")
    row = row_of(control, rid)  # the vendor has answered once, and charges for it
    assert (row["error"], row["tokens"]["input"], row["usage_source"]) == ("tunegate_retrieval", 20, "provider")
    assert row["cost_nano"] == 20 * 1000 + 10 * 10_000


def test_a_vendor_that_fails_after_the_search(gateway, control, says):
    down = Said(status=500, message="down")
    rid = new_id()
    reply = ask(gateway, f"openai/{says(QUERY, down)}", rid=rid)
    assert reply.status in (500, 502, 503)
    assert row_of(control, rid)["tokens"]["input"] == 20
    preamble = Said(text="Let me look. ", calls=QUERY.calls, finish="tool_calls")
    rid = new_id()
    reply = ask(gateway, f"openai/{says(preamble, down)}", rid=rid, stream=True)
    assert reply.status == 200
    assert b"Let " in reply.body
    assert b'"error"' in reply.body
    assert b"[DONE]" not in reply.body
    row = row_of(control, rid)
    assert (row["end"], row["tokens"]["input"]) == ("upstream_error_partial", 20)


def test_a_stream_cut_after_the_search_is_told(gateway, control, says):
    preamble = Said(text="Let me look. ", calls=QUERY.calls, finish="tool_calls")
    cut = Said(text="Thirty days and more", cut_after=4)
    rid = new_id()
    reply = ask(gateway, f"openai/{says(preamble, cut)}", rid=rid, stream=True)
    assert b'"error"' in reply.body
    row = row_of(control, rid)
    assert (row["end"], row["usage_source"]) == ("upstream_error_partial", "estimated")
    assert row["tokens"]["input"] == 20
    assert row["tokens"]["output"] > 10


NO_TOOL = {"tool_choice": "none", "tools": [{"type": "function", "function": {"name": "w", "parameters": {}}}]}


@pytest.mark.parametrize("more", [NO_TOOL, {"n": 2}], ids=["forbidden", "several answers"])
def test_where_a_tool_cannot_be_given_the_question_is_looked_up(gateway, control, says, asked, more):
    assert ask(gateway, f"openai/{says(ANSWER)}", **more).status == 200
    assert [one["query"] for one in control.searches] == ["How much leave?"]
    assert "search_knowledge" not in asked[0].tools
    assert "Everyone has 30 days" in asked[0].system


def test_a_client_that_leaves_during_the_search_is_charged_what_it_cost(gateway, control, says):
    control.manners["retrieval"] = fake.hang
    rid = new_id()
    control.asked.clear()
    client = gateway.open(f"openai/{says(QUERY, ANSWER)}", rid)
    eventually(lambda: "retrieval" in [kind for kind, _ in control.asked])
    client.abort()
    row = row_of(control, rid)
    assert (row["end"], row["tokens"]["input"]) == ("client_gone", 20)


def test_the_tool_says_what_there_is(gateway, upstream, says):
    model = says(ANSWER)
    ask(gateway, f"openai/{model}")
    [tool] = upstream.of(model)[0].json["tools"]
    assert ABOUT in tool["function"]["description"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages"])
def test_no_dialect_names_the_tool_to_the_client(gateway, says, path, stream):
    asked = {"input": "Leave?"} if path == "/v1/responses" else {"messages": [{"role": "user", "content": "Leave?"}]}
    body = {"model": f"openai/{says(QUERY, ANSWER)}", "stream": stream, **asked}
    reply = gateway.call("POST", path, json.dumps(body | ({"max_tokens": 99} if "messages" in asked else {})).encode())
    assert reply.status == 200, reply.body
    assert b"search_knowledge" not in reply.body
    assert ABOUT.encode() not in reply.body


def test_a_round_that_is_tried_again_ends_what_was_written_before_once(gateway, says):
    preamble = Said(text="Let me look. ", calls=QUERY.calls, finish="tool_calls")
    body = {"model": f"again/{says(preamble, Said(text='x', cut_after=1), ANSWER)}", "max_tokens": 99, "stream": True}
    body["messages"] = [{"role": "user", "content": "Leave?"}]
    reply = gateway.call("POST", "/v1/messages", json.dumps(body).encode())
    events = scripts.payloads(reply.body)
    blocks = [
        (one["type"], one["index"]) for one in events if one["type"] in ("content_block_start", "content_block_stop")
    ]
    assert blocks == [
        ("content_block_start", 0), ("content_block_stop", 0), ("content_block_start", 1), ("content_block_stop", 1),
    ]  # fmt: skip
    assert [one["type"] for one in events].count("message_start") == 1


def test_nothing_stays_behind_of_rounds_that_end_badly(gateway, says):
    down = Said(status=400, message="no")
    for stream in (False, True):
        assert ask(gateway, f"openai/{says(QUERY, QUERY, down)}", stream=stream).status == 400
    eventually(lambda: gateway.metric(r"^tunegate_target_in_flight\{.*openai") == 0 and _idle(gateway), 5)


def _idle(gateway: Gateway) -> bool:
    return gateway.metric(r"^tunegate_in_flight_requests") == 0


def test_a_client_that_leaves_after_the_first_words_pays_for_these_alone(gateway, control, says):
    control.manners["retrieval"] = fake.hang
    preamble = Said(text="Let me look. ", calls=QUERY.calls, finish="tool_calls")
    rid = new_id()
    control.asked.clear()
    client = gateway.open(f"openai/{says(preamble, ANSWER)}", rid, stream=True)
    eventually(lambda: "retrieval" in [kind for kind, _ in control.asked])
    client.abort()
    row = row_of(control, rid)
    assert (row["end"], row["tokens"]["input"], row["usage_source"]) == ("client_gone_partial", 20, "provider")
    assert len(row["attempts"]) == 1


class Silent(OpenAIVendor):
    """One that tells no usage."""

    def whole(self, said: Said, model: str) -> bytes:
        answer = json.loads(super().whole(said, model))
        return json.dumps({name: value for name, value in answer.items() if name != "usage"}).encode()


def test_a_round_without_usage_is_estimated_and_the_others_are_not(gateway, control, upstream, says, asked):
    model, rid = says(QUERY), new_id()
    first, second = (script(vendor, QUERY, asked.append) for vendor in (PLAIN, Silent("openai")))
    upstream.queue(model, first, second)
    upstream.on(model, script(PLAIN, ANSWER, asked.append))
    assert ask(gateway, f"openai/{model}", rid=rid).status == 200
    row = row_of(control, rid)
    assert row["usage_source"] == "estimated"
    assert 90 < row["tokens"]["input"] < 140, "20 and 70, and what the question may have"
    assert row["cost_nano"] == row["tokens"]["input"] * 1000 + row["tokens"]["output"] * 10_000
