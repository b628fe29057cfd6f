"""The guard of outbound calls, and the connection test that uses it: whatever DNS, upstreams and people try."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from control.kit.outbound import OutboundError, parse
from gateway.contract.addresses import refusal
from tests.control.api.conftest import Running, Start
from tests.control.api.upstreams import Upstream

ENDPOINTS = "/api/v1/endpoints"
SECRET = "sk-live-0123456789abcdefghijklmnop"
PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"]
PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1",
    "0.1.2.3", "192.0.2.1", "::1", "fc00::1", "fd12::1", "fe80::1", "fe80::1%1", "fec0::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8", "2002:7f00:1::1", "2002:808:808::1", "2a01:4f8::5efe:10.0.0.1", "100::1",
]  # fmt: skip
NEVER = [
    "169.254.169.254", "169.254.0.1", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16",
    "192.0.0.192", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "::169.254.169.254", "2002:a9fe:a9fe::1",
    "2a01:4f8::5efe:169.254.169.254", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "0.0.0.0", "::",
    "ff02::1", "::ffff:224.0.0.1", "not an address",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_reached(address: str) -> None:
    assert refusal(address, allow_private=False) is None
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_only_where_the_operator_says_so(address: str) -> None:
    assert refusal(address, allow_private=False) is not None
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_metadata_and_multicast_never(address: str) -> None:
    assert refusal(address, allow_private=True) is not None
    assert refusal(address, allow_private=False) is not None


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://x/", "http://", "//x/y", "http://u:p@x/", "http://u@x", ""]
)
def test_what_is_no_url_to_ask(url: str) -> None:
    with pytest.raises(OutboundError):
        parse(url)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    one = Upstream()
    yield one
    one.close()


def try_it(
    control: Running, base_url: str, *, secret: str | None = SECRET, provider: str = "openai", **spec: Any
) -> dict[str, Any]:
    body = {"name": "up", "provider": provider, "spec": {"base_url": base_url, **spec}}
    made = control.admin.post(ENDPOINTS, json=body)
    assert made.status_code == 201, made.text
    if secret is not None:
        add = control.admin.post(f"{ENDPOINTS}/up/credentials", json={"name": "one", "secret": secret})
        assert add.status_code == 201
    answer = control.admin.post(f"{ENDPOINTS}/up/test")
    assert answer.status_code == 200, answer.text
    assert SECRET not in answer.text
    assert "upstream words" not in answer.text
    audited = control.sql("SELECT actor, state_after FROM audit_log WHERE action = 'test'")
    assert len(audited) == 1
    assert SECRET not in str(audited)
    result: dict[str, Any] = answer.json()
    return result


def resolving(control: Running, *answers: Sequence[str]) -> list[str]:
    """Let DNS give these answers, one after another; returns the names that were asked for."""
    asked: list[str] = []

    async def resolve(host: str, _: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    control.parts.outbound.resolve = resolve
    return asked


def test_a_good_upstream(start_control: Start, upstream: Upstream) -> None:
    control = start_control(allow_private_upstreams=True)
    result = try_it(control, f"{upstream.base_url}/ok", headers={"x-region": "eu"})
    assert (result["ok"], result["code"], result["status"]) == (True, "", 200)
    assert result["models"] == ["a-model", "b-model"]
    assert 0 < result["latency_ms"] < 5000
    [(path, headers)] = upstream.asked
    assert path == "/ok/models"
    assert headers["authorization"] == f"Bearer {SECRET}"
    assert headers["x-region"] == "eu"


@pytest.mark.parametrize(
    ("provider", "what", "models", "sent"),
    [
        ("anthropic", "ok", ["a-model", "b-model"], {"x-api-key": SECRET, "anthropic-version": "2023-06-01"}),
        ("gemini", "google", ["a", "gemini-x"], {"x-goog-api-key": SECRET}),
    ],
)
def test_each_kind_is_asked_in_its_own_way(
    start_control: Start, upstream: Upstream, provider: str, what: str, models: list[str], sent: dict[str, str]
) -> None:
    control = start_control(allow_private_upstreams=True)
    result = try_it(control, f"{upstream.base_url}/{what}", provider=provider)
    assert result["models"] == models
    [(_, headers)] = upstream.asked
    assert headers.items() >= sent.items()
    assert "authorization" not in headers


@pytest.mark.parametrize(
    ("what", "code", "status"),
    [
        ("401", "auth", 401),
        ("403", "auth", 403),
        ("404", "not_found", 404),
        ("429", "rate_limited", 429),
        ("500", "unexpected_status", 500),
        ("redirect", "redirect", 302),
        ("huge", "too_large", None),
        ("garbage", "bad_reply", None),
        ("deep", "bad_reply", 200),
        ("html", "bad_reply", 200),
    ],
)
def test_a_bad_upstream(start_control: Start, upstream: Upstream, what: str, code: str, status: int | None) -> None:
    result = try_it(start_control(allow_private_upstreams=True), f"{upstream.base_url}/{what}")
    assert (result["ok"], result["code"], result["status"], result["models"]) == (False, code, status, [])
    assert len(upstream.asked) == 1, "a redirect is not followed"


def test_a_credential_that_comes_back_as_a_name_is_not_shown(start_control: Start, upstream: Upstream) -> None:
    assert try_it(start_control(allow_private_upstreams=True), f"{upstream.base_url}/echo")["models"] == ["fine"]


def test_a_slow_upstream_holds_up_nobody_else(start_control: Start, upstream: Upstream) -> None:
    control = start_control(allow_private_upstreams=True)
    control.parts.outbound.seconds = 1.0
    operator = control.as_("operator")
    body = {"name": "up", "provider": "openai", "spec": {"base_url": f"{upstream.base_url}/slow"}}
    assert control.admin.post(ENDPOINTS, json=body).status_code == 201

    with ThreadPoolExecutor(1) as pool:
        testing = pool.submit(control.admin.post, f"{ENDPOINTS}/up/test")
        while not upstream.asked:
            time.sleep(0.01)
        started = time.monotonic()
        assert operator.post("/api/v1/teams", json={"name": "meanwhile"}).status_code == 201
        assert time.monotonic() - started < 0.8
        assert not testing.done()
        assert testing.result().json()["code"] == "timeout"


def test_nobody_listens(start_control: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    result = try_it(start_control(allow_private_upstreams=True), f"http://127.0.0.1:{port}/v1")
    assert (result["ok"], result["code"]) == (False, "unreachable")


def test_no_tls_there(start_control: Start, upstream: Upstream) -> None:
    result = try_it(start_control(allow_private_upstreams=True), f"https://127.0.0.1:{upstream.port}/ok")
    assert (result["ok"], result["code"]) == (False, "tls")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]"]
)
def test_loopback_is_refused_by_default_however_it_is_written(control: Running, upstream: Upstream, host: str) -> None:
    result = try_it(control, f"http://{host}:{upstream.port}/ok")
    assert (result["ok"], result["code"]) in [(False, "refused_address"), (False, "dns")]
    assert upstream.asked == []


@pytest.mark.parametrize(
    "addresses", [["10.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["64:ff9b::7f00:1"], ["169.254.169.254"]]
)
def test_a_public_name_of_a_private_address(control: Running, addresses: list[str]) -> None:
    asked = resolving(control, addresses)
    assert try_it(control, "https://innocent.example.com/v1")["code"] == "refused_address"
    assert asked == ["innocent.example.com"]


def test_metadata_is_refused_even_where_private_is_allowed(start_control: Start) -> None:
    control = start_control(allow_private_upstreams=True)
    resolving(control, ["169.254.169.254"])
    assert try_it(control, "http://innocent.example.com/latest")["code"] == "refused_address"


def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(
    start_control: Start, upstream: Upstream
) -> None:
    control = start_control(allow_private_upstreams=True)
    asked = resolving(control, ["127.0.0.1"], ["169.254.169.254"])
    assert try_it(control, f"http://rebind.example.com:{upstream.port}/ok")["ok"]
    assert asked == ["rebind.example.com"]
    assert upstream.asked[0][1]["host"] == f"rebind.example.com:{upstream.port}"


@pytest.mark.parametrize("answer", [[], ["nonsense"]])
def test_dns_that_answers_nonsense(control: Running, answer: list[str]) -> None:
    resolving(control, answer)
    assert try_it(control, "https://x.example.com/v1")["code"] in ("dns", "refused_address")


def test_proxies_of_the_environment_are_not_used(
    start_control: Start, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert try_it(start_control(allow_private_upstreams=True), f"{upstream.base_url}/ok")["ok"]


def test_an_endpoint_behind_a_proxy_is_not_tested_around_it(start_control: Start, upstream: Upstream) -> None:
    control = start_control(allow_private_upstreams=True)
    result = try_it(control, f"{upstream.base_url}/ok", proxy="http://proxy.example.com:3128")
    assert (result["code"], upstream.asked) == ("has_proxy", [])


def test_only_an_enabled_credential_is_used(start_control: Start, upstream: Upstream) -> None:
    control = start_control(allow_private_upstreams=True)
    assert try_it(control, f"{upstream.base_url}/ok")["ok"]
    assert control.admin.patch(f"{ENDPOINTS}/up/credentials/one", json={"enabled": False}).status_code == 200
    assert control.admin.post(f"{ENDPOINTS}/up/test").status_code == 200
    assert "authorization" not in upstream.asked[-1][1]
    assert control.admin.post(f"{ENDPOINTS}/nobody/test").status_code == 404
