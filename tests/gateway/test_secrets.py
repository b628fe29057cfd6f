"""Canary secrets and prompts: after all sorts of failures they are in no log, metric, ledger row or error."""

from __future__ import annotations

import base64
import json
import threading

import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import digest, endpoint, eventually, key, new_id, route
from tests.fakes.http import Connection
from tests.fakes.upstream import Close, Reset, Send, Wait

CANARIES = {
    "key": "sk-tg-canary-key-QmFzZTY0",
    "wrong key": "sk-tg-canary-wrong-T3RoZXI",
    "provider": "provider-canary-c2VjcmV0",
    "header": "header-canary-aGVhZGVy",
    "proxy": "proxycanaryZG9vcg",
    "prompt": "prompt canary about a tumour",
    "answer": "answer canary about a merger",
}
NEVER = threading.Event()
BAD = [
    scripts.chat([CANARIES["answer"]]),
    scripts.error(401, f"Incorrect API key provided: {CANARIES['provider']}"),
    scripts.error(403, f"Bearer {CANARIES['provider']} is not allowed"),
    scripts.error(500, f"cannot {CANARIES['provider']} {CANARIES['header']}"),
    scripts.error(429, CANARIES["provider"]),
    scripts.reply(CANARIES["provider"].encode(), kind="text/html"),
    scripts.reply(f'{{"oops {CANARIES["provider"]}'.encode()),
    scripts.reply(wire.error_body(CANARIES["provider"])),
    scripts.stream([wire.event({"error": {"message": CANARIES["provider"]}})]),
    scripts.stream([wire.word_event(CANARIES["answer"]), wire.event({"error": {"message": CANARIES["provider"]}})]),
    scripts.stream([wire.word_event(CANARIES["answer"]), Reset()], end=False),
    [Reset()],
    [Send(f"HTTP/9 {CANARIES['provider']}\r\n\r\n".encode()), Close()],
    [Wait(NEVER, 0.6), Close()],
]


@pytest.fixture(scope="module")
def gateway(start, upstream):
    extra = {"api_key": "env:CANARY", "headers": {"x-secret": CANARIES["header"]}}
    proxy = f"http://user:{CANARIES['proxy']}@127.0.0.1:9"
    config = {
        "telemetry": {"log_level": "debug"},
        "endpoint": [
            endpoint(upstream.url, timeouts={"first_byte": 0.3, "idle": 0.3}, **extra),
            endpoint(upstream.url, "proxied", proxy=proxy, **extra),
        ],
        "route": [route("x/*", retry={"max_attempts": 2, "backoff": 0.01}), route("proxied", "proxied")],
        "key": [key("tester", CANARIES["key"]), key("off", "sk-tg-canary-off", enabled=False)],
    }
    return start(config, env={"CANARY": CANARIES["provider"]})


@pytest.fixture(scope="module")
def replies(gateway, scripted_module):
    """Every kind of trouble, once; then the raw replies that clients got."""
    secret, prompt = CANARIES["key"], [{"role": "user", "content": CANARIES["prompt"]}]
    got = []
    for script in BAD:
        for stream in (False, True):
            name = scripted_module(script)
            got.append(gateway.chat(f"x/{name}", secret=secret, stream=stream, messages=prompt))
    got.append(gateway.chat("proxied", secret=secret, messages=prompt))
    got.append(gateway.chat(CANARIES["prompt"], secret=secret))
    for who in (CANARIES["wrong key"], "sk-tg-canary-off"):
        got.append(gateway.chat("x/a", secret=who, messages=prompt))
    for body in (
        b'{"%b' % CANARIES["prompt"].encode(),
        json.dumps({"model": 1, "x": CANARIES["prompt"]}).encode(),
    ):
        got.append(gateway.call("POST", "/v1/chat/completions", body, secret=secret))
    got.append(gateway.call("GET", f"/v1/nothing?key={CANARIES['wrong key']}", secret=secret))
    gateway.call("GET", "/v1/models", secret=None, authorization=f"Basic {CANARIES['wrong key']}")
    with Connection(gateway.url) as conn:
        conn.send(
            b"GET /v1/models HTTP/1.1\r\nauthorization: Bearer %b\r\nbad header\r\n\r\n"
            % CANARIES["wrong key"].encode()
        )
        conn.closed_by_peer(1)
    name = scripted_module(scripts.stream([wire.word_event(CANARIES["answer"]), Wait(NEVER, 1)]))
    rid = new_id()
    with gateway.open(f"x/{name}", rid, secret=secret, stream=True, messages=prompt) as conn:
        conn.response(stop=10)
    gateway.row(rid)
    gateway.write_text(f"[[endpoint]]\nname = 'x'\napi_key = '{CANARIES['provider']}'\nbad = '{CANARIES['proxy']}'\n")
    eventually(lambda: any('"warning"' in x or '"error"' in x for x in gateway.log_lines), 10)
    return got


@pytest.fixture(scope="module")
def scripted_module(upstream):
    numbers = iter(range(1000))

    def give(script):
        name = f"c{next(numbers)}"
        upstream.on(name, script)
        return name

    return give


def forms(secret: str) -> list[str]:
    """The secret as it is, its long pieces, its base64."""
    found = [secret, base64.b64encode(secret.encode()).decode()]
    if " " not in secret:
        found += [secret[6:], secret[:-4]]
    return found


@pytest.mark.parametrize("name", CANARIES)
def test_no_canary_is_in_the_log(gateway, replies, name):
    text = "\n".join(gateway.log_lines)
    assert len(gateway.log_lines) > 20
    for form in forms(CANARIES[name]):
        if name == "prompt" and form == CANARIES[name]:
            lines = [x for x in gateway.log_lines if form in x and "caller_unknown_model" not in x]
            assert lines == [], "a prompt is in the log"
        else:
            assert form not in text


@pytest.mark.parametrize("name", CANARIES)
def test_no_canary_is_in_a_metric(gateway, replies, name):
    text = gateway.call("GET", "/metrics", secret=None).body.decode()
    assert len(text) > 100
    for form in forms(CANARIES[name]):
        assert form not in text


@pytest.mark.parametrize("name", CANARIES)
def test_no_canary_is_on_disk(gateway, replies, name):
    files = [f for f in gateway.data.rglob("*") if f.is_file()]
    assert files
    for file in files:
        data = file.read_bytes()
        for form in forms(CANARIES[name]):
            assert form.encode() not in data, file


@pytest.mark.parametrize("name", ["key", "wrong key", "provider", "header", "proxy"])
def test_no_canary_is_in_a_reply(replies, name):
    for reply in replies:
        for form in forms(CANARIES[name]):
            assert form.encode() not in reply.raw, reply


def test_the_digest_of_a_key_is_nowhere_either(gateway, replies):
    text = "\n".join(gateway.log_lines) + gateway.call("GET", "/metrics", secret=None).body.decode()
    for name in ("key", "wrong key"):
        assert digest(CANARIES[name]) not in text
