"""Session tokens: a signed stand-in for a key, for some minutes, held to every rule of that key."""

from __future__ import annotations

import base64
import os
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.contract import session
from tests.fakes.control import ENV, Control, settings
from tests.fakes.gateway import KEY, Gateway, digest, endpoint, eventually, key, route

SIGNER = Ed25519PrivateKey.generate()
STRANGER = Ed25519PrivateKey.generate()
LIMITED, DISABLED, ELSEWHERE, GRANTED = (f"sk-tg-{name}-0123456789abcdef" for name in ("lim", "dis", "els", "gra"))


def token(secret: str = KEY, seconds: float = 60, signer: Ed25519PrivateKey = SIGNER) -> str:
    return session.sign(signer, bytes.fromhex(digest(secret)), int(time.time() + seconds))


@pytest.fixture(scope="module")
def base(upstream):
    keys = [
        key("tester"), key("limited", LIMITED, limits={"rpm": 1}), key("disabled", DISABLED, enabled=False),
        key("elsewhere", ELSEWHERE, cidrs=["10.0.0.0/8"]), key("granted", GRANTED, models=["other"]),
    ]  # fmt: skip
    return {"endpoint": [endpoint(upstream.url)], "route": [route("gpt"), route("other")], "key": keys}


@pytest.fixture(scope="module")
def control(base):
    with Control() as server:
        server.publish(base | {"session_key": session.public_text(SIGNER)})
        yield server


@pytest.fixture(scope="module")
def gateway(control, tmp_path_factory):
    with Gateway(settings(control), tmp_path_factory.mktemp("sessions"), env=ENV) as running:
        yield running


def test_a_token_is_as_good_as_its_key(gateway, control):
    reply = gateway.chat("gpt", secret=token(), rid="of-session")
    assert reply.status == 200
    row = eventually(lambda: next((e for e in control.ledger.values() if e["request_id"] == "of-session"), None))
    assert row["key"] == "tester"
    assert gateway.call("GET", "/v1/models", secret=token()).status == 200
    assert gateway.chat("gpt").status == 200  # the key itself goes on as ever


@pytest.mark.parametrize(("secret", "status"), [(DISABLED, 401), (ELSEWHERE, 403), (GRANTED, 403)])
def test_every_rule_of_the_key_holds(gateway, secret, status):
    assert gateway.chat("gpt", secret=token(secret)).status == status
    assert gateway.chat("gpt", secret=secret).status == status


def test_token_and_key_share_their_limits(gateway):
    assert gateway.chat("gpt", secret=token(LIMITED)).status == 200
    assert gateway.chat("gpt", secret=LIMITED).status == 429
    assert gateway.chat("gpt", secret=token(LIMITED)).status == 429


def test_an_expired_token_says_so(gateway):
    reply = gateway.chat("gpt", secret=token(seconds=-1))
    assert (reply.status, reply.fault) == (401, "policy_key")
    assert "expired" in reply.error["message"]


def raw(text: str) -> bytearray:
    return bytearray(base64.urlsafe_b64decode(text.removeprefix("tgs-")))


def packed(content: bytes) -> str:
    return "tgs-" + base64.urlsafe_b64encode(content).decode()


def altered(at: int) -> str:
    content = raw(token())
    content[at] ^= 1
    return packed(content)


def later() -> str:
    content = raw(token(seconds=-1))
    content[32:40] = (int(time.time()) + 3600).to_bytes(8)
    return packed(content)


def another_key() -> str:
    return packed(bytes.fromhex(digest(KEY)) + bytes(raw(token("sk-tg-nobody-0123456789")))[32:])


HOSTILE = {
    "signed by a stranger": lambda: token(signer=STRANGER),
    "of an unknown key": lambda: token("sk-tg-unknown-0123456789"),
    "another digest": lambda: altered(0),
    "the digest of another key": another_key,
    "another expiry": lambda: altered(39),
    "a later expiry": later,
    "another signature": lambda: altered(103),
    "no signature": lambda: packed(bytes(raw(token()))[:40] + bytes(64)),
    "cut": lambda: token()[:-1],
    "longer": lambda: token() + "A",
    "twice": lambda: token() + token(),
    "random": lambda: packed(os.urandom(104)),
    "the prefix alone": lambda: "tgs-",
    "not base64": lambda: "tgs-" + "!" * 140,
    "very long": lambda: "tgs-" + "A" * 30_000,
    "without prefix": lambda: token()[4:],
    "another case": lambda: "TGS-" + token()[4:],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_token_that_control_did_not_sign_is_401(gateway, case):
    reply = gateway.chat("gpt", secret=HOSTILE[case]())
    assert (reply.status, reply.fault) == (401, "policy_key")
    assert reply.error["code"] == "invalid_api_key"


def test_a_standalone_gateway_knows_no_tokens(start, upstream):
    running = start({"endpoint": [endpoint(upstream.url)], "route": [route("gpt")]})
    assert running.chat("gpt", secret=token()).status == 401


def test_a_new_signing_key_ends_the_old_tokens_and_an_older_control_has_none(gateway, control, base):
    old = token()
    assert gateway.chat("gpt", secret=old).status == 200
    control.publish(base | {"session_key": session.public_text(STRANGER)})
    eventually(lambda: gateway.chat("gpt", secret=old).status == 401)
    assert gateway.chat("gpt", secret=token(signer=STRANGER)).status == 200
    control.publish(base)
    eventually(lambda: gateway.chat("gpt", secret=token(signer=STRANGER)).status == 401)
    control.publish(base, session_key="not a key")
    eventually(lambda: gateway.metric("tunegate_snapshot_refused_total") >= 1)
    assert gateway.chat("gpt").status == 200
