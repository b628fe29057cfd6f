"""What a dialect cannot say is refused by its name; values that ask for nothing are left out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.errors import GatewayError
from gateway.protocols.canonical import (
    Format,
    Media,
    Message,
    Reasoning,
    Request,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)  # fmt: skip
from tests.gateway.protocols.dialects import INBOUND, OUTBOUND
from tests.gateway.protocols.golden import load

TOOLS = [Tool("f", None, {"type": "object", "properties": {}})]


def request(**members: Any) -> Request:
    return Request(**{"messages": [Message("user", [Text("Hello")])], "max_tokens": 5000, **members})


REFUSED: dict[str, dict[str, dict[str, Any]]] = {
    "n": {"n": {"n": 2}},
    "seed": {"seed": {"seed": 0}},
    "stop": {"stop": {"stop": ["END"]}},
    "top_k": {"top_k": {"top_k": 1}},
    "logit_bias": {"logit_bias": {"logit_bias": {"1": 5}}},
    "logprobs": {"logprobs": {"logprobs": True}},
    "top_logprobs": {"top_logprobs": {"logprobs": True, "top_logprobs": 2}},
    "frequency_penalty": {"frequency_penalty": {"frequency_penalty": 0.1}},
    "presence_penalty": {"presence_penalty": {"presence_penalty": -0.1}},
    "parallel": {"parallel_tool_calls": {"parallel_tools": False, "tools": TOOLS}},
    "tier": {"service_tier": {"service_tier": "scale"}},
    "json": {"response_format": {"format": Format("json")}},
    "extra": {"web_search_options": {"extra": {"web_search_options": {}}}},
    "audio": {"audio": {"messages": [Message("user", [Media("audio", media_type="audio/wav", data="AA==")])]}},
    "file_id": {"file": {"messages": [Message("user", [Media("file", file_id="f-1")])]}},
    "image_url": {"image": {"messages": [Message("user", [Media("image", url="https://example.com/a.png")])]}},
}
BY_DIALECT = {
    "openai": ["extra"],
    "responses": [
        "n", "seed", "stop", "top_k", "logit_bias", "frequency_penalty", "presence_penalty", "extra", "audio",
    ],
    "anthropic": [
        "n", "seed", "logit_bias", "logprobs", "frequency_penalty", "presence_penalty", "tier", "extra",
    ],
    "gemini": ["logit_bias", "parallel", "tier", "extra", "file_id"],
    "bedrock": [
        "n", "seed", "top_k", "logit_bias", "logprobs", "frequency_penalty", "presence_penalty", "parallel", "tier",
        "json", "extra", "file_id", "image_url",
    ],
    "cohere": ["n", "logit_bias", "top_logprobs", "parallel", "tier", "extra"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in BY_DIALECT.items() for case in cases])
def test_what_the_target_cannot_say_is_refused_by_name(name, case):
    ((param, members),) = REFUSED[case].items()
    with pytest.raises(GatewayError) as refused:
        OUTBOUND[name].write_request(request(**members), "a-model")
    assert (refused.value.code, refused.value.status) == ("caller_unsupported", 400)
    assert refused.value.param == param
    assert f"`{param}`" in refused.value.message


@pytest.mark.parametrize("name", OUTBOUND)
def test_values_that_ask_for_nothing_and_hints_are_left_out(name):
    neutral = request(n=1, frequency_penalty=0, presence_penalty=0.0, logprobs=False, logit_bias=None, tools=[])
    hints = {"store": True, "metadata": {"a": "b"}, "prompt_cache_key": "k", "prediction": {"type": "content"}}
    plain = OUTBOUND[name].write_request(request(), "a-model")
    written = OUTBOUND[name].write_request(neutral, "a-model")
    if name != "openai":  # it knows them
        assert written == plain
        told = OUTBOUND[name].write_request(request(extra=hints), "a-model")
        assert "prediction" not in told


@pytest.mark.parametrize("name", ["gemini", "bedrock", "cohere"])
def test_a_result_of_an_unknown_call_is_an_error_of_the_caller_only_where_names_are_needed(name):
    lost = request(messages=[Message("tool", [ToolResult("call_9", [Text("18")])])])
    if name == "gemini":
        with pytest.raises(GatewayError, match="call_9"):
            OUTBOUND[name].write_request(lost, "a-model")
    else:
        assert b"call_9" in orjson.dumps(OUTBOUND[name].write_request(lost, "a-model"))


def test_bedrock_cannot_forbid_tools_that_were_called_before():
    none = ToolChoice("none")
    assert "toolConfig" not in OUTBOUND["bedrock"].write_request(request(tools=TOOLS, tool_choice=none), "m")
    history = [Message("assistant", [ToolCall("c", "f", "{}")]), Message("tool", [ToolResult("c", [Text("1")])])]
    with pytest.raises(GatewayError) as refused:
        OUTBOUND["bedrock"].write_request(request(messages=history, tools=TOOLS, tool_choice=none), "m")
    assert refused.value.param == "tool_choice"


@pytest.mark.parametrize(
    ("model", "wish", "written"),
    [
        ("gemini-2.5-flash", Reasoning(effort="medium"), {"thinkingBudget": 8192}),
        ("gemini-3-pro", Reasoning(effort="medium"), {"thinkingLevel": "MEDIUM"}),
        ("gemini-3-pro", Reasoning(budget=2048), {"thinkingBudget": 2048, "includeThoughts": True}),
        ("gemini-3-pro", Reasoning(enabled=False), {"thinkingBudget": 0}),
        ("gemini-3-pro", Reasoning(enabled=True), {"thinkingBudget": -1, "includeThoughts": True}),
        ("gemini-3-pro", Reasoning(effort="low", summary="auto"), {"thinkingLevel": "LOW", "includeThoughts": True}),
    ],
)
def test_effort_and_budget_are_what_the_model_of_gemini_knows(model, wish, written):
    document = OUTBOUND["gemini"].write_request(request(reasoning=wish), model)
    assert document["generationConfig"]["thinkingConfig"] == written


@pytest.mark.parametrize(
    ("wish", "written"),
    [
        (Reasoning(effort="low"), {"effort": "low"}),
        (Reasoning(enabled=False), {"effort": "none"}),
        (Reasoning(budget=20_000), {"effort": "high", "summary": "auto"}),
        (Reasoning(enabled=True), {"effort": "medium", "summary": "auto"}),
        (Reasoning(summary="concise"), {"summary": "concise"}),
    ],
)
def test_responses_are_asked_to_think_as_much_and_show_it(wish, written):
    document = OUTBOUND["responses"].write_request(request(reasoning=wish), "gpt-5.4")
    assert document["reasoning"] == written
    assert document["store"] is False
    assert ("include" in document) == (wish.enabled is not False)


LONELY = {"contents": [{"parts": [{"functionResponse": {"name": "f"}}]}]}


@pytest.mark.parametrize(
    ("name", "document", "param"),
    [
        ("responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
        ("responses", {"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ("responses", {"input": [{"type": "computer_call"}]}, "input[0].type"),
        ("responses", {"input": "x", "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ("responses", {"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content[0].type"),
        ("gemini", {"contents": [], "tools": [{"googleSearch": {}}]}, "tools[0].googleSearch"),
        ("gemini", {"contents": [{"parts": [{"executableCode": {}}]}]}, "contents[0].parts[0]"),
        ("gemini", {"contents": [{"role": "bot"}]}, "contents[0].role"),
        ("gemini", LONELY, "contents[0].parts[0].functionResponse"),
        ("gemini", {"contents": [], "generationConfig": {"topK": 1.5}}, "generationConfig.topK"),
        ("gemini", {"generation_config": {"response_mime_type": "text/x.enum"}}, "generationConfig.responseMimeType"),
    ],
)  # fmt: skip
def test_what_only_the_vendors_servers_can_do_is_refused_when_it_is_read(name, document, param):
    with pytest.raises(GatewayError) as refused:
        INBOUND[name].read_request(document)
    assert refused.value.status == 400
    assert refused.value.param == param


@pytest.mark.parametrize("name", INBOUND)
def test_a_system_prompt_comes_before_the_clients_own_and_leaves_the_body_as_it_was(name):
    document = load(f"{name}/text")["request"]
    before = orjson.dumps(document)
    first, *rest = INBOUND[name].read_request(INBOUND[name].with_system(document, "Rules first.")).messages
    own = INBOUND[name].read_request(document).messages
    told = first.text() + "".join(message.text() for message in rest[: len(rest) - len(own) + 1])
    assert told.startswith("Rules first.")
    assert own[0].text() in told
    assert orjson.dumps(document) == before


@pytest.mark.parametrize("name", INBOUND)
def test_an_error_is_told_in_the_words_of_the_dialect(name):
    error = GatewayError("policy_rate", "Too many requests.")
    told = orjson.loads(INBOUND[name].error(error))["error"]
    assert told["message"] == "Too many requests."
    kind = {"gemini": ("status", "RESOURCE_EXHAUSTED"), "anthropic": ("type", "rate_limit_error")}
    member, value = kind.get(name, ("code", "rate_limit_exceeded"))
    assert told[member] == value
    event = INBOUND[name].error_event(error)
    assert event.endswith((b"\n\n", b"\r\n\r\n"))
    assert b"Too many requests." in event
