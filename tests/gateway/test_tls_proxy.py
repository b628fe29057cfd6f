"""TLS to the upstream, and the way there through a proxy."""

from __future__ import annotations

import base64
import http.client
import json
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from tests.fakes import scripts
from tests.fakes.gateway import KEY, Gateway, endpoint, route
from tests.fakes.proxy import Proxy
from tests.fakes.tls import server_context, trusting
from tests.fakes.upstream import Upstream

REFUSAL = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return authority, str(file)


@pytest.fixture(scope="module")
def safe(ca):
    with Upstream(server_context(ca[0])) as server:
        yield server


@pytest.fixture(scope="module")
def others(ca):
    """One with a certificate of an authority nobody knows, one with a certificate for another name, one whose
    certificate has expired.
    """
    with (
        Upstream(server_context(trustme.CA())) as unknown,
        Upstream(server_context(ca[0], "other.example")) as misnamed,
        Upstream(server_context(ca[0], not_after=datetime.now(UTC) - timedelta(days=1))) as expired,
    ):
        yield unknown, misnamed, expired


@pytest.fixture(scope="module")
def proxies():
    with Proxy() as good, Proxy(refuse=REFUSAL) as bad:
        yield good, bad


@pytest.fixture(scope="module")
def gateway(start, upstream, safe, others, proxies, ca) -> Gateway:
    file, (good, bad), (unknown, misnamed, expired) = ca[1], proxies, others
    secret = {"api_key": "env:PROVIDER_KEY"}
    known = {"user": "joe", "at": good.url.removeprefix("http://")}
    endpoints = [
        endpoint(safe.url, "tls", ca_file=file, **secret),
        endpoint(safe.url, "system-cas", **secret),
        endpoint(unknown.url, "unknown-ca", ca_file=file, **secret),
        endpoint(misnamed.url, "wrong-name", ca_file=file, **secret),
        endpoint(expired.url, "expired", ca_file=file, **secret),
        endpoint(safe.url.replace("https", "http"), "plain-to-tls", **secret),
        endpoint(upstream.url.replace("http", "https"), "tls-to-plain", timeouts={"connect": 0.5}, ca_file=file),
        endpoint(upstream.url, "proxied", proxy=good.url, **secret),
        endpoint(safe.url, "tls-proxied", proxy=good.url, ca_file=file, **secret),
        endpoint(
            safe.url,
            "known",
            proxy=f"http://{known['user']}:pass%20word@{known['at']}",
            ca_file=file,
            **secret,
        ),
        endpoint(upstream.url, "known-plain", proxy=f"http://{known['user']}:pass%20word@{known['at']}", **secret),
        endpoint(safe.url, "refused", proxy=bad.url, ca_file=file, **secret),
        endpoint(safe.url, "no-proxy", proxy="http://127.0.0.1:9", ca_file=file, **secret),
    ]
    config = {"endpoint": endpoints, "route": [route(e["name"], f"{e['name']}/m") for e in endpoints]}
    return start(config, env={"PROVIDER_KEY": "provider-secret-canary"})


@pytest.mark.parametrize("stream", [False, True])
def test_a_custom_authority_is_trusted(gateway, safe, stream):
    assert gateway.chat("tls", stream=stream).status == 200
    assert gateway.chat("tls", stream=stream).status == 200
    assert safe.requests[-1].header("host") == f"localhost:{safe.port}"


def test_tls_connections_are_reused(gateway, safe):
    for _ in range(3):
        gateway.chat("tls")
    assert len({s.connection for s in safe.requests[-3:]}) == 1


@pytest.mark.parametrize("name", ["system-cas", "unknown-ca", "wrong-name", "expired"])
def test_a_certificate_that_proves_nothing_is_refused(gateway, others, name):
    reply = gateway.chat(name)
    assert (reply.status, reply.fault) == (502, "provider_unreachable")
    assert reply.error
    assert not any(other.requests for other in others), "nothing may be sent before the peer has proved its name"


def test_tls_to_a_plain_port_is_a_clean_error(gateway):
    reply = gateway.chat("tls-to-plain")
    assert reply.fault in ("provider_unreachable", "provider_timeout")  # the plain server waits for more
    assert reply.error


def test_plain_http_to_a_tls_port_is_a_clean_error(gateway):
    reply = gateway.chat("plain-to-tls")
    assert reply.status == 502
    assert reply.fault in ("provider_unreachable", "provider_bad_reply")


@pytest.mark.parametrize("stream", [False, True])
def test_plain_http_goes_through_the_proxy(gateway, upstream, proxies, stream):
    before = len(proxies[0].seen)
    assert gateway.chat("proxied", stream=stream).status == 200
    assert len(proxies[0].seen) >= before
    assert str(upstream.port).encode() in proxies[0].seen[-1]


def test_tls_goes_through_a_tunnel_that_learns_nothing(gateway, safe, proxies):
    assert gateway.chat("tls-proxied").status == 200
    head = proxies[0].seen[-1]
    assert head.startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % safe.port)
    assert b"provider-secret" not in head
    assert safe.requests[-1].header("authorization") == "Bearer provider-secret-canary"
    assert safe.requests[-1].header("proxy-authorization") is None


def test_the_proxys_own_credentials_go_to_the_proxy_alone(gateway, safe, proxies):
    assert gateway.chat("known").status == 200
    sent = base64.b64encode(b"joe:pass word")
    assert b"proxy-authorization: basic " + sent.lower() in proxies[0].seen[-1].lower()
    assert safe.requests[-1].header("proxy-authorization") is None


def test_the_proxy_of_a_plain_endpoint_gets_its_credentials_with_each_request(gateway, proxies):
    assert gateway.chat("known-plain").status == 200
    sent = b"proxy-authorization: Basic " + base64.b64encode(b"joe:pass word")
    assert proxies[0].seen[-1].count(sent) == 1


@pytest.mark.parametrize("name", ["refused", "no-proxy"])
def test_a_proxy_that_does_not_let_us_through(gateway, name):
    reply = gateway.chat(name)
    assert (reply.status, reply.fault) == (502, "provider_unreachable")
    assert reply.error


def test_proxy_variables_of_the_environment_are_not_obeyed(start, upstream):
    """The way out is what the configuration says, not what the process happens to inherit."""
    env = {
        "http_proxy": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }
    gateway = start({"endpoint": [endpoint(upstream.url)], "route": [route("m")]}, env=env)
    upstream.on("m", scripts.chat())
    assert gateway.chat("m").status == 200


def test_the_listener_itself_speaks_tls(start, tmp_path):
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "tls.key")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "tls.crt", append=True)
    config = {
        "gateway": {"tls_cert": str(tmp_path / "tls.crt"), "tls_key": str(tmp_path / "tls.key")},
        "endpoint": [{"name": "d", "provider": "dummy"}],
        "route": [route("m", "d/x")],
    }
    gateway = start(config, folder=tmp_path)
    assert gateway.url.startswith("https://")
    port = int(gateway.url.rpartition(":")[2])
    connection = http.client.HTTPSConnection("localhost", port, context=trusting(ca), timeout=5)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {KEY}"})
    assert connection.getresponse().status == 200
    connection.close()
