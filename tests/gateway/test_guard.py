"""Guards of routes: what is masked, blocked and restored in every dialect, whole and streamed; who else is asked."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import openai
import pytest

from tests.fakes import scripts
from tests.fakes.gateway import KEY, Gateway, endpoint, eventually, new_id, route
from tests.fakes.upstream import Seen, Step, Upstream
from tests.gateway.test_request_log import entries
from tests.matrix.clients import CLIENTS
from tests.matrix.run import variable
from tests.matrix.told import Ask, Asked, Call, Said, Tool
from tests.matrix.vendors import VENDORS, script

PHONE, CARD, MAIL = "13812345678", "11010519491231002X", "wang@example.com"
ASKED = f"我的号码是{PHONE}，证件{CARD}，邮箱 {MAIL}"
PERSONAL = ["phone", "id_card", "email", "bank_card"]
SECRET = "hook-secret-0123456789"
KINDS = ("openai", "anthropic", "gemini")
NOTE = Tool("note", "Notes it down", {"type": "object", "properties": {"to": {"type": "string"}}})
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def hook():
    """A webhook; `hook.on("", script)` says what it answers."""
    with Upstream(default=lambda _: scripts.reply(b'{"action": "allow"}')) as server:
        yield server


@pytest.fixture(autouse=True)
def allowing(hook):
    hook.on("", lambda _: scripts.reply(b'{"action": "allow"}'))
    hook.requests.clear()


@pytest.fixture(scope="module")
def gateway(start, upstream, hook):
    root = upstream.url.removesuffix("/v1")
    endpoints = [
        endpoint(root + VENDORS[name].base, name, provider=VENDORS[name].kind, api_key=f"env:{variable(name)}")
        for name in KINDS
    ]
    webhook = {"url": hook.url, "secret": "env:HOOK_SECRET", "timeout": 0.5}
    guards = {
        "restore": {"restore": True, "prompt": {"personal": PERSONAL}},
        "mask": {"prompt": {"personal": PERSONAL}, "answer": {"personal": PERSONAL}},
        "block": {"prompt": {"personal": ["id_card"], "personal_action": "block"},
                  "answer": {"personal": PERSONAL, "personal_action": "block", "keywords": ["机密"]}},
        "words": {"prompt": {"keywords": ["机密", "falcon"], "patterns": [r"EMP-\d{6}", r"(a|b|ab){1,4}c"]}},
        "size": {"max_prompt_chars": 60},
        "json": {"json_answer": True},
        "hook": {"webhook": webhook, "restore": True, "prompt": {"personal": PERSONAL}},
        "hook-open": {"webhook": {**webhook, "check": "prompt", "on_failure": "open"}},
        "harm": {"moderation": {"route": "judge", "check": "both", "timeout": 0.5}},
        "harm-score": {"moderation": {"route": "judge", "threshold": 0.7}},
        "harm-open": {"moderation": {"route": "judge", "timeout": 0.5, "on_failure": "open"}},
    }  # fmt: skip
    logs = {"bodies": "both", "redact": []}
    price = {"input": 1.0, "output": 10.0}
    routes = [
        route(f"{guard}-{kind}/*", kind, guard=spec, log=logs, price=price)
        for guard, spec in guards.items()
        for kind in (KINDS if guard in ("restore", "mask", "block") else ("openai",))
    ]
    routes += [
        route("judge", "openai/judge"),
        route("prompt", "openai/prompt", guard=guards["restore"], system_prompt=f"Call {PHONE}."),
    ]
    secrets = {variable(name): getattr(VENDORS[name], "key", "vendor-secret-0123456789") for name in KINDS}
    return start({"endpoint": endpoints, "route": routes}, env={**secrets, "HOOK_SECRET": SECRET})


@pytest.fixture
def asked() -> list[Asked]:
    return []


@pytest.fixture
def says(upstream, asked):
    """`says(said)`: name of a model that answers so."""

    def give(said: Said, vendor: str = "openai") -> str:
        name = f"{getattr(VENDORS[vendor], 'prefix', '')}g{next(_numbers)}"
        upstream.on(name, script(VENDORS[vendor], said, asked.append))
        return name

    return give


def ask(gateway: Gateway, model: str, text: str = ASKED, rid: str = "", **more: object):
    return gateway.chat(model, messages=[{"role": "user", "content": text}], rid=rid or new_id(), **more)


def everything(gateway: Gateway) -> str:
    """All that the gateway has written: ledger, request log, log, metrics."""
    files = "".join(file.read_text() for file in gateway.data.rglob("*.jsonl"))
    return files + "\n".join(gateway.log_lines) + repr(gateway.metrics())


# ---- every client's dialect, every vendor's


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("inbound", CLIENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_model_never_sees_it_and_the_client_has_it_back(gateway, says, asked, kind, inbound, stream):
    said = Said(
        text="Call [PHONE_1] or write to [EMAIL_1]; not [PHONE_7].",
        calls=(Call("call_1", "note", {"to": "[PHONE_1], [ID_CARD_1]"}),),
        finish="tool_calls",
    )
    model = says(said, kind)
    with closing(CLIENTS[inbound](gateway.url, KEY)) as client:
        heard = client.ask(Ask(f"restore-{kind}/{model}", text=ASKED, tools=(NOTE,), stream=stream))
    assert heard.text == f"Call {PHONE} or write to {MAIL}; not [PHONE_7].", heard
    assert [call.arguments for call in heard.calls] == [{"to": f"{PHONE}, {CARD}"}]
    [one] = asked
    assert one.texts[-1] == "我的号码是[PHONE_1]，证件[ID_CARD_1]，邮箱 [EMAIL_1]"
    assert heard.tokens is not None
    assert heard.tokens.output == 10


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("inbound", CLIENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_must_not_be_ends_as_an_error_of_the_dialect(gateway, says, kind, inbound, stream):
    before = "All is well so far, and then some more of it. "
    model = says(Said(text=f"{before}Then 机密 and {PHONE} and more."), kind)
    with closing(CLIENTS[inbound](gateway.url, KEY)) as client:
        heard = client.ask(Ask(f"block-{kind}/{model}", text="hello", stream=stream))
    assert heard.status == (-1 if stream else 400), heard
    assert "a word that is not allowed" in heard.message
    assert "机密" not in heard.text
    assert PHONE not in heard.text
    row = eventually(lambda: [row for row in gateway.ledger() if row["model"].endswith(model)])[-1]
    assert (row["end"], row["error"], row["guard"]["by"]) == ("blocked", "policy_guard", "keyword")
    assert row["status"] == (200 if stream else 400)
    assert row["tokens"]["output"] > 0, "the model was at work: that is charged"
    assert row["cost_nano"] > 0
    if not stream:
        assert row["usage_source"] == "provider"


@pytest.mark.parametrize("inbound", CLIENTS)
def test_a_request_that_must_not_be_is_refused_in_the_dialect_and_nobody_is_asked(gateway, upstream, says, inbound):
    model = says(Said(text="ok"))
    with closing(CLIENTS[inbound](gateway.url, KEY)) as client:
        heard = client.ask(Ask(f"block-openai/{model}", text=ASKED))
    assert (heard.status, upstream.of(model)) == (400, [])
    assert "an identity card's number" in heard.message
    assert CARD not in heard.message


# ---- chat, closely


def test_what_is_masked_is_written_nowhere_and_the_log_keeps_its_mask(gateway, says):
    rid = new_id()
    model = says(Said(text="Noted: [PHONE_1]."))
    for stream in (False, True):
        reply = ask(gateway, f"restore-openai/{model}", rid=f"{rid}{stream}", stream=stream)
        assert reply.header("x-tunegate-guard") == "masked; prompt-email=1; prompt-id_card=1; prompt-phone=1"
        assert PHONE in (reply.words if stream else reply.json["choices"][0]["message"]["content"])
        row = gateway.row(f"{rid}{stream}")
        found = {"phone": 1, "id_card": 1, "email": 1}
        assert row["guard"] == {"action": "masked", "by": "", "prompt": found, "answer": {}, "unchecked": []}
        kept = eventually(lambda row=row: entries(gateway).get(row["id"]))
        assert "[PHONE_1]，证件[ID_CARD_1]" in kept["request"]
        assert "Noted: [PHONE_1]." in kept["response"]
    told = everything(gateway)
    assert not [secret for secret in (PHONE, CARD, MAIL, PHONE[:8]) if secret in told]
    assert gateway.metric(r'^tunegate_guard_total\{.*action="masked".*phone.*restore-openai') >= 2


def test_answers_are_masked_too_with_their_reasoning_and_arguments(gateway, says):
    said = Said(
        text=f"It is {PHONE}.", reasoning=f"Hm, {MAIL}?", calls=(Call("c", "note", {"to": CARD}),), finish="tool_calls"
    )
    for stream in (False, True):
        with closing(CLIENTS["chat"](gateway.url, KEY)) as client:
            heard = client.ask(Ask(f"mask-openai/{says(said)}", text="hello", tools=(NOTE,), stream=stream))
        assert (heard.text, heard.reasoning) == ("It is [phone].", "Hm, [email]?")
        assert heard.calls[0].arguments == {"to": "[id_card]"}


def test_the_older_text_interface_has_it_too(gateway, upstream):
    sdk = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)
    upstream.on("old", scripts.chat(["Call [PHO", "NE_1", "] now"]))
    reply = sdk.completions.create(model="restore-openai/old", prompt=ASKED)
    assert (reply.choices[0].text, reply.object) == (f"Call {PHONE} now", "text_completion")
    assert reply.usage.total_tokens == 30
    chunks = list(sdk.completions.create(model="restore-openai/old", prompt=ASKED, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == f"Call {PHONE} now"
    assert chunks[-1].choices[0].finish_reason == "stop"
    upstream.on("oldbad", scripts.chat(["All good and then ", "机", "密", "!"]))
    with pytest.raises(openai.BadRequestError, match="not allowed"):
        sdk.completions.create(model="block-openai/oldbad", prompt="x")
    with pytest.raises(openai.APIError, match="not allowed"):
        list(sdk.completions.create(model="block-openai/oldbad", prompt="x", stream=True))
    sdk.close()


def test_nothing_to_mask_passes_byte_by_byte(gateway, upstream, says):
    model = says(Said(text=f"{PHONE} passes"))
    body = b'{ "messages":[{"role":"user","content":"hi"}] ,"model":"restore-openai/%b", "odd": 1}' % model.encode()
    reply = gateway.call("POST", "/v1/chat/completions", body)
    assert upstream.of(model)[0].body == body.replace(b"restore-openai/", b"")
    assert reply.json["id"] == "chatcmpl-Ab", "the answer is the upstream's own"
    assert reply.header("x-tunegate-guard") == "passed"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", '"messages": [{"role": "user", "content": "机密"}], "messages": []'),
        ("chat/completions", '"messages": [{"role": "user", "content": "机密", "cont\\u0065nt": "hi"}]'),
        ("completions", '"prompt": [1, 2, 3]'),
        ("embeddings", '"input": [[1, 2, 3]]'),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_through_is_refused(gateway, upstream, says, path, body):
    model = says(Said(text="ok"))
    reply = gateway.call("POST", f"/v1/{path}", f'{{"model": "words-openai/{model}", {body}}}'.encode())
    assert (reply.status, reply.header("x-tunegate-error"), upstream.of(model)) == (400, "caller_bad_request", [])


def test_unknown_members_reach_an_upstream_of_the_same_dialect_behind_masks(gateway, upstream, says):
    model = says(Said(text="ok"))
    reply = ask(gateway, f"restore-openai/{model}", chat_template_kwargs={"thinking": False}, user=MAIL)
    assert reply.status == 200
    sent = upstream.of(model)[0].json
    assert (sent["chat_template_kwargs"], sent["user"]) == ({"thinking": False}, "[EMAIL_1]")


def test_the_routes_own_prompt_is_not_the_clients(gateway, upstream):
    upstream.on("prompt", script(VENDORS["openai"], Said(text="ok [PHONE_1]"), lambda _: None))
    reply = ask(gateway, "prompt")
    assert upstream.of("prompt")[0].json["messages"][0]["content"] == f"Call {PHONE}."
    assert reply.json["choices"][0]["message"]["content"] == f"ok {PHONE}"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("这是机密", "keyword"),
        ("Project Falcon", "keyword"),
        ("EMP-123456", "pattern"),
        ("ab" * 40_000 + "c", "pattern"),
    ],
)
def test_words_and_patterns_block(gateway, upstream, says, text, kind):
    model, rid = says(Said(text="ok")), new_id()
    reply = ask(gateway, f"words-openai/{model}", text, rid)
    assert reply.status == 400
    assert reply.json["error"]["code"] == "content_policy_violation"
    assert reply.header("x-tunegate-guard") == f"blocked; by={kind}"
    assert reply.header("x-tunegate-error") == "policy_guard"
    row = gateway.row(rid)
    assert (row["end"], row["status"], row["cost_nano"], row["attempts"]) == ("blocked", 400, 0, [])
    assert upstream.of(model) == []


def test_a_prompt_of_200_000_characters_is_looked_through_and_others_are_served_meanwhile(gateway, upstream, says):
    model = says(Said(text="[PHONE_1]"))
    long = ("The quick brown fox. " * 9_500) + PHONE
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, gateway, f"restore-openai/{model}", long)
        assert ask(gateway, f"restore-openai/{says(Said(text='ok'))}", "hi").status == 200
        assert first.result().json["choices"][0]["message"]["content"] == PHONE
    assert PHONE.encode() not in upstream.of(model)[0].body
    assert ask(gateway, "size-openai/x", "一" * 61).header("x-tunegate-guard") == "blocked; by=size"
    assert ask(gateway, f"size-openai/{model}", "一" * 60).status == 200


def test_requests_at_the_same_time_never_have_each_others_text(gateway, upstream):
    def echo(seen: Seen) -> list[Step]:
        text = seen.json["messages"][0]["content"]
        return scripts.chat([text[i : i + 3] for i in range(0, len(text), 3)], gap=0.002)(seen)

    upstream.on("echo", echo)
    texts = [f"call 138{n:08d} or m{n}@example.com" for n in range(40)]
    with ThreadPoolExecutor(20) as pool:
        told = list(pool.map(lambda text: ask(gateway, "restore-openai/echo", text, stream=True).words, texts))
    assert told == texts
    assert not [seen for seen in upstream.of("echo") if b"138" in seen.body]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ['{"a": 1}', "Sure: {}", '{"a": '])
def test_answers_that_must_be_json(gateway, says, text, stream):
    model, rid = says(Said(text=text)), new_id()
    reply = ask(gateway, f"json-openai/{model}", "hi", rid, stream=stream)
    row = gateway.row(rid)
    if text == '{"a": 1}':
        assert row["end"] == "success"
        return
    assert (row["end"], row["guard"]["by"]) == ("blocked", "json")
    assert b"something else than JSON" in reply.body
    early = stream and text == '{"a": '
    assert reply.status == (200 if early else 400)
    assert b"[DONE]" not in reply.body


def test_a_client_that_leaves_and_an_upstream_that_breaks_are_settled_as_ever(gateway, says):
    rid = new_id()
    reply = ask(gateway, f"mask-openai/{says(Said(text='word ' * 20, cut_after=8))}", "hi", rid, stream=True)
    assert b"reset the connection" in reply.body
    assert gateway.row(rid)["end"] == "upstream_error_partial"


def test_turns_that_are_kept_are_the_clients_own(gateway, says, asked):
    model = f"restore-openai/{says(Said(text='Noted [PHONE_1].'))}"
    with closing(openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0)) as sdk:
        first = sdk.responses.create(model=model, input=f"I am {PHONE}")
        assert first.output_text == f"Noted {PHONE}."
        sdk.responses.create(model=model, input=f"and {MAIL}, {PHONE}", previous_response_id=first.id)
    assert asked[1].texts[-1] == "and [EMAIL_1], [PHONE_1]"
    assert "I am [PHONE_1]" in asked[1].texts
