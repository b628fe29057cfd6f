"""Who else a guard asks: a webhook and a moderation model, whole and streamed, well and badly answered."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket

import pytest

from gateway.contract.guard import Webhook
from gateway.steps.guard import CheckFailed
from gateway.steps.webhook import WebhookClient
from tests.fakes import scripts
from tests.fakes.gateway import eventually, new_id
from tests.fakes.upstream import Seen, Send, Sleep, Step
from tests.gateway.test_guard import PHONE, SECRET, allowing, ask, asked, gateway, hook, says  # noqa: F401
from tests.matrix.told import Said

# ruff: noqa: F811 - fixtures of the other module

# ---- the webhook


def test_the_webhook_is_told_with_a_signature_and_sees_masks(gateway, hook, says):
    reply = ask(gateway, f"hook-openai/{says(Said(text='Call [PHONE_1]'))}", rid="rid-1")
    assert reply.json["choices"][0]["message"]["content"] == f"Call {PHONE}"
    prompt, answer = hook.requests
    assert (prompt.json["stage"], answer.json["stage"]) == ("prompt", "answer")
    assert prompt.json["texts"] == ["我的号码是[PHONE_1]，证件[ID_CARD_1]，邮箱 [EMAIL_1]"]
    assert answer.json["texts"] == ["Call [PHONE_1]"]
    assert (prompt.json["key"], prompt.json["route"], prompt.json["request_id"]) == ("tester", "hook-openai/*", "rid-1")
    stamp = prompt.header("x-tunegate-timestamp")
    proof = hmac.new(SECRET.encode(), f"{stamp}.".encode() + prompt.body, hashlib.sha256).hexdigest()
    assert prompt.header("x-tunegate-signature") == f"sha256={proof}"


@pytest.mark.parametrize("stream", [False, True])
def test_the_webhook_blocks_and_replaces(gateway, upstream, hook, says, stream):
    def judge(seen: Seen) -> list[Step]:
        texts = [text.replace("Berlin", "Paris") for text in seen.json["texts"]]
        told = {"action": "block"} if "bad" in texts[-1] else {"action": "replace", "texts": texts}
        return scripts.reply(json.dumps(told).encode())

    hook.on("", judge)
    model = says(Said(text="Berlin is fine, [PHONE_1]"))
    reply = ask(gateway, f"hook-openai/{model}", f"Berlin {PHONE}", stream=stream)
    told = reply.words if stream else reply.json["choices"][0]["message"]["content"]
    assert told == f"Paris is fine, {PHONE}"
    assert upstream.of(model)[0].json["messages"][0]["content"] == "Paris [PHONE_1]"
    reply = ask(gateway, f"hook-openai/{model}", "bad", stream=stream)
    assert (reply.status, reply.header("x-tunegate-guard")) == (400, "blocked; by=webhook")
    rid, model = new_id(), says(Said(text="a bad answer"))
    reply = ask(gateway, f"hook-openai/{model}", "hi", rid, stream=stream)
    assert reply.status == 400, "a stream is held until it is judged"
    row = gateway.row(rid)
    assert (row["end"], row["guard"]["by"], row["usage_source"]) == ("blocked", "webhook", "provider")


BROKEN = {
    "slow": [Sleep(2.0)],
    "an error": scripts.reply(b"{}", 500),
    "no action": scripts.reply(b'{"action": "maybe"}'),
    "too few": scripts.reply(b'{"action": "replace", "texts": []}'),
    "numbers": scripts.reply(b'{"action": "replace", "texts": [1]}'),
    "no json": scripts.reply(b"<html>"),
    "a redirect": scripts.reply(b"", 302, location="http://169.254.169.254/"),
    "huge": scripts.reply(b'"' + b"x" * 9_000_000 + b'"'),
    "no http": [Send(b"\x16\x03\x01\x00\x00")],
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_webhook_that_fails_is_closed_or_open(gateway, hook, upstream, says, how):
    hook.on("", BROKEN[how])
    model, rid = says(Said(text="ok")), new_id()
    reply = ask(gateway, f"hook-openai/{model}", "hi", rid)
    assert (reply.status, reply.header("x-tunegate-error")) == (503, "tunegate_guard")
    assert upstream.of(model) == []
    assert gateway.row(rid)["guard"]["unchecked"] == ["webhook"]
    reply = ask(gateway, f"hook-open-openai/{model}", "hi")
    assert (reply.status, reply.header("x-tunegate-guard")) == (200, "passed; unchecked=webhook")
    hook.drop_idle()


def test_a_webhook_whose_host_is_a_metadata_service_is_not_asked(monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    async def judge() -> None:
        client = WebhookClient()
        try:
            await client._ask(Webhook(url="http://dlp.example.com/", secret="env:A"), {}, b"{}")
        finally:
            await client.close()

    with pytest.raises(CheckFailed) as caught:
        asyncio.run(judge())
    assert "metadata" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match="metadata"):
        Webhook(url="http://[::ffff:169.254.169.254]/", secret="env:A")


def test_the_log_hears_of_a_failing_webhook_once(gateway, hook, says):
    model = f"hook-open-openai/{says(Said(text='ok'))}"
    assert ask(gateway, model, "hi").status == 200
    before = len(gateway.events("guard.check_failing"))
    hook.on("", scripts.reply(b"", 500))
    for _ in range(3):
        assert ask(gateway, model, "hi").status == 200
    hook.on("", scripts.reply(b'{"action": "allow"}'))
    assert ask(gateway, model, "hi").status == 200
    [failing] = gateway.events("guard.check_failing")[before:]
    assert (failing["check"], failing["error"]) == ("webhook", "answered with status 500")
    assert gateway.events("guard.check_works_again")[-1]["route"] == "hook-open-openai/*"


# ---- moderation


def verdicts(**scores: float):
    flagged = any(score > 0.5 for score in scores.values())
    return scripts.reply(json.dumps({"results": [{"flagged": flagged, "category_scores": scores}]}).encode())


@pytest.mark.parametrize("stream", [False, True])
def test_moderation_is_asked_by_a_request_of_its_own(gateway, upstream, says, stream):
    upstream.on("judge", lambda seen: verdicts(hate=0.9 if b"awful" in seen.body else 0.1))
    model, rid = says(Said(text="fine")), new_id()
    assert ask(gateway, f"harm-openai/{model}", "hello", rid, stream=stream).status == 200
    rows = eventually(lambda: [row for row in gateway.ledger() if row["request_id"] == rid][2:] and gateway.rows(rid))
    assert sorted(row["operation"] for row in rows) == ["chat", "moderations", "moderations"]
    assert {row["key"] for row in rows} == {"tester"}
    reply = ask(gateway, f"harm-openai/{model}", "awful", stream=stream)
    assert (reply.status, reply.header("x-tunegate-guard")) == (400, "blocked; by=moderation")
    reply = ask(gateway, f"harm-openai/{says(Said(text='awful answer'))}", "hello", stream=stream)
    assert (reply.status, reply.header("x-tunegate-guard")) == (400, "blocked; by=moderation")


def test_moderation_by_score(gateway, upstream, says):
    model = f"harm-score-openai/{says(Said(text='fine'))}"
    for score, status in ((0.6, 200), (0.7, 400)):
        upstream.on("judge", verdicts(violence=score))
        assert ask(gateway, model, "hello").status == status


@pytest.mark.parametrize(
    "broken",
    [[Sleep(2.0)], scripts.error(500), scripts.reply(b"{}"), scripts.reply(b'{"results": [{"flagged": "no"}]}')],
)
def test_moderation_that_fails_is_closed_or_open(gateway, upstream, says, broken):
    upstream.on("judge", broken)
    model, rid = says(Said(text="fine")), new_id()
    reply = ask(gateway, f"harm-openai/{model}", "hello", rid)
    assert (reply.status, reply.header("x-tunegate-error")) == (503, "tunegate_guard")
    assert upstream.of(model) == []
    reply = ask(gateway, f"harm-open-openai/{model}", "hello")
    assert (reply.status, reply.header("x-tunegate-guard")) == (200, "passed; unchecked=moderation")
    assert gateway.metric(r"^tunegate_in_flight_requests") == 0
