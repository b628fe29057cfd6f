"""Credentials that are fetched and renewed off the path of requests, and signatures of each request."""

from __future__ import annotations

import base64
import json
import re
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.providers.auth import credential_object, secret_parts
from gateway.providers.sigv4 import Keys, signature
from tests.fakes import scripts
from tests.fakes.gateway import endpoint, eventually, route
from tests.fakes.upstream import Upstream

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
TOKEN = "token-0123456789"


def test_a_signature_is_that_of_the_published_test_suite():
    """`post-vanilla` of AWS's Signature Version 4 test suite."""
    lines = signature(KEYS, ("us-east-1", "service"), "example.amazonaws.com", "/", "", b"", AT)
    assert lines == (
        b"x-amz-date: 20150830T123600Z\r\nauthorization: AWS4-HMAC-SHA256 "
        b"Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, "
        b"Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b\r\n"
    )


def test_the_secret_parts_of_a_credential_are_known():
    given = json.dumps({"client_id": "public", "client_secret": "hidden", "private_key": "pem"})
    assert secret_parts(given) == [given, "hidden", "pem"]
    assert secret_parts("id:secret") == ["id:secret", "secret"]
    with pytest.raises(ValueError, match="tenant_id"):
        credential_object(given, "tenant_id")
    with pytest.raises(ValueError, match="JSON"):
        credential_object("{no")


@pytest.fixture
def issuer():
    """Answers every POST with what `say` holds, and remembers what was asked."""
    with Upstream() as server:
        yield server


def token(life: float = 3600) -> bytes:
    return json.dumps({"access_token": TOKEN, "token_type": "Bearer", "expires_in": life}).encode()


def credential(kind: str, url: str) -> str:
    if kind == "azure":
        application = {"tenant_id": "tenant", "client_id": "app", "client_secret": "entra-secret-0123"}
        return json.dumps({**application, "authority": url})
    if kind == "bedrock":
        keys = {"access_key_id": KEYS.access, "secret_access_key": KEYS.secret}
        return json.dumps({**keys, "role_arn": "arn:aws:iam::1:role/r", "sts_url": url})
    key = generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return json.dumps({"client_email": "me@p.example", "private_key": pem, "token_uri": f"{url}/token"})


def answers(kind: str, life: float = 3600) -> bytes:
    if kind != "bedrock":
        return token(life)
    ends = (datetime.now(UTC) + timedelta(seconds=life)).strftime("%Y-%m-%dT%H:%M:%SZ")
    keys = "<AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>lent</SecretAccessKey><SessionToken>session</SessionToken>"
    return f"<R><Credentials>{keys}<Expiration>{ends}</Expiration></Credentials></R>".encode()


def begin(start, upstream: Upstream, issuer: Upstream, kind: str):
    base = upstream.url.removesuffix("/v1") + ("/v1/projects/p/locations/r" if kind == "vertex" else "")
    options = {"options": {"region": "us-east-1"}} if kind == "bedrock" else {}
    config = {
        "endpoint": [endpoint(base, provider=kind, api_key="env:CREDENTIAL", **options)],
        "route": [route("x/*")],
    }
    secret = credential(kind, issuer.url.removesuffix("/v1"))
    return start(config, env={"CREDENTIAL": secret}), json.loads(secret)


@pytest.mark.parametrize("kind", ["azure", "vertex", "bedrock"])
def test_a_credential_is_fetched_before_the_first_request(start, upstream, issuer, kind):
    issuer.on("", scripts.reply(answers(kind)))
    gateway, secret = begin(start, upstream, issuer, kind)
    gateway.chat("x/m1")
    seen = upstream.requests[-1]
    form = parse_qs(issuer.requests[0].body.decode())
    if kind == "bedrock":
        assert form["RoleArn"] == ["arn:aws:iam::1:role/r"]
        assert (seen.header("authorization") or "").startswith("AWS4-HMAC-SHA256 Credential=ASIA1/")
        assert seen.header("x-amz-security-token") == "session"
    else:
        assert seen.header("authorization") == f"Bearer {TOKEN}"
    if kind == "azure":
        assert (form["client_secret"], form["grant_type"]) == (["entra-secret-0123"], ["client_credentials"])
        assert issuer.requests[0].target == "/tenant/oauth2/v2.0/token"
    if kind == "vertex":
        head, claim, proof = form["assertion"][0].split(".")
        public = load_pem_private_key(secret["private_key"].encode(), None).public_key()
        public.verify(decoded(proof), f"{head}.{claim}".encode(), PKCS1v15(), SHA256())
        assert json.loads(decoded(claim))["iss"] == "me@p.example"
    assert len(issuer.requests) == 1


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_a_token_is_renewed_before_it_ends(start, upstream, issuer):
    issuer.on("", scripts.reply(answers("azure", life=2)))
    gateway, _ = begin(start, upstream, issuer, "azure")
    eventually(lambda: len(issuer.requests) >= 3, 8)
    assert gateway.chat("x/m1").status == 200


def test_without_a_token_requests_are_refused_and_the_log_says_why(start, upstream, issuer):
    issuer.on("", scripts.reply(b'{"error":"invalid_client","error_description":"entra-secret-0123"}', 401))
    gateway, _ = begin(start, upstream, issuer, "azure")
    before = len(upstream.requests)
    reply = gateway.chat("x/m1")
    assert (reply.status, reply.json["error"]["code"]) == (502, "upstream_auth")
    assert len(upstream.requests) == before
    log = "\n".join(gateway.log_lines)
    assert "credential.not_renewed" in log
    assert "entra-secret-0123" not in log
    metrics = gateway.call("GET", "/metrics", secret=None).body.decode()
    assert re.search(r'^tunegate_credential_failures\S*\{.*endpoint="up"', metrics, re.MULTILINE), metrics
    issuer.on("", scripts.reply(token()))
    eventually(lambda: gateway.chat("x/m1").status == 200, 10)


def test_a_reload_keeps_the_token(start, upstream, issuer):
    issuer.on("", scripts.reply(answers("azure")))
    gateway, _ = begin(start, upstream, issuer, "azure")
    config = {**gateway.config, "route": [route("x/*"), route("more", "up/m")]}
    gateway.write(config)
    eventually(lambda: gateway.chat("more").status == 200, 15)
    time.sleep(0.2)  # a second fetch would have been begun by now
    assert len(issuer.requests) == 1


@pytest.mark.parametrize("kind", ["azure", "vertex", "bedrock"])
def test_a_credential_that_lacks_something_is_a_mistake_of_the_configuration(start, upstream, kind):
    config = {
        "endpoint": [endpoint(upstream.url, provider=kind, api_key="env:CREDENTIAL")],
        "route": [route("x/*")],
    }
    with pytest.raises(AssertionError, match="the credential is a JSON object without"):
        start(config, env={"CREDENTIAL": '{"odd": "one"}'})
