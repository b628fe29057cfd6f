"""Sign-in slows down for a network, not only for an account; and whose network it is cannot be made up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network

import httpx2 as httpx
import pytest

from control.kit import throttle
from control.kit.caller import caller
from control.kit.throttle import FREE_FAILURES, MOST_NETWORKS, SECONDS_EACH, Throttle, network_of
from tests.control.api.conftest import PASSWORD, Running, Start

PROXY = ["127.0.0.1/32", "10.0.0.0/8", "fd00::/8"]


@pytest.fixture
def never_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes longer for the tries than a failure is remembered."""
    monkeypatch.setattr(throttle, "SECONDS_EACH", 86_400.0)


def login(
    control: Running, username: str, password: str = "wrong", forwarded: str | list[str] | None = None
) -> httpx.Response:
    values = [forwarded] if isinstance(forwarded, str) else forwarded or []
    with httpx.Client(base_url=control.url, timeout=30, trust_env=False) as client:
        headers = [("x-forwarded-for", value) for value in values]
        body = {"username": username, "password": password}
        return client.post("/api/v1/auth/login", json=body, headers=headers)


def use_up(control: Running, forwarded: str | None = None) -> None:
    """As many failures as a network may have, each at another account."""
    statuses = [login(control, f"nobody-{n}", forwarded=forwarded).status_code for n in range(FREE_FAILURES)]
    assert statuses == [401] * FREE_FAILURES


@pytest.mark.usefixtures("never_forgets")
def test_a_network_that_guesses_at_many_accounts_is_paused(start_control: Start) -> None:
    control = start_control(trusted_proxies=PROXY)
    assert login(control, "viewer", PASSWORD, "192.0.2.1").status_code == 200
    use_up(control, "192.0.2.1")
    paused = login(control, "member", PASSWORD, "192.0.2.1")
    assert (paused.status_code, paused.json()["code"]) == (429, "login_paused")
    assert 1 <= int(paused.headers["retry-after"]) <= 86_400
    assert login(control, "member", PASSWORD, "192.0.2.2").status_code == 200, "others are not held up"
    assert login(control, "viewer", PASSWORD, "192.0.2.1").status_code == 200, "nor who came from there before"
    assert login(control, "viewer", "wrong", "192.0.2.1").status_code == 401, "whose own account pauses instead"
    assert login(control, "operator", PASSWORD, "192.0.2.1").status_code == 429


def test_good_sign_ins_cost_nothing(start_control: Start) -> None:
    control = start_control(trusted_proxies=PROXY)
    for n in range(FREE_FAILURES + 5):
        assert login(control, "member", PASSWORD, f"2001:db8:0:1::{n:x}").status_code == 200


@pytest.mark.usefixtures("never_forgets")
def test_parallel_guesses_do_not_slip_through(start_control: Start) -> None:
    control = start_control()
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda n: login(control, f"nobody-{n}").status_code, range(FREE_FAILURES + 10)))
    assert sorted(statuses) == [401] * FREE_FAILURES + [429] * 10


@pytest.mark.usefixtures("never_forgets")
def test_without_trusted_proxies_the_header_is_not_believed(control: Running) -> None:
    for n in range(FREE_FAILURES):
        login(control, f"nobody-{n}", forwarded=f"192.0.2.{n}")
    assert login(control, "member", PASSWORD, "198.51.100.1").status_code == 429
    assert login(control, "member").status_code == 429


def test_the_audit_log_tells_the_address_that_the_proxy_saw(start_control: Start) -> None:
    control = start_control(trusted_proxies=PROXY)
    login(control, "member", forwarded="203.0.113.66, 192.0.2.9")  # the left one was written by the caller
    login(control, "member", forwarded=["203.0.113.66", "192.0.2.8, 10.1.2.3"])
    rows = control.sql("SELECT address FROM audit_log WHERE action = 'login_failed' ORDER BY seq")
    assert rows == [("192.0.2.9",), ("192.0.2.8",)]


TRUSTED = [ip_network(text) for text in PROXY]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2,10.0.0.3"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.7"], "10.0.0.7"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:DB8::1"], "2001:db8::1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:192.0.2.1", ["198.51.100.1"], "192.0.2.1"),
        ("10.0.0.1", ["1.1.1.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, , 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["'; DROP TABLE"], "10.0.0.1"),
        ("", ["198.51.100.1"], ""),
        ("testclient", ["198.51.100.1"], "testclient"),
    ],
)
def test_whose_address_it_is(peer: str, forwarded: list[str], address: str) -> None:
    assert caller(peer, forwarded, TRUSTED) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_what_counts_as_one_network(address: str, network: str) -> None:
    assert network_of(address) == network


def test_failures_are_forgotten_steadily_and_memory_is_bounded() -> None:
    moment = [0.0]
    throttle = Throttle(lambda: moment[0])
    assert [throttle.take("password", "192.0.2.1") for _ in range(FREE_FAILURES)] == [0] * FREE_FAILURES
    wait = throttle.take("password", "192.0.2.1")
    assert 0 < wait <= SECONDS_EACH
    assert throttle.take("sso", "192.0.2.1") == 0, "another way of signing in counts by itself"
    moment[0] += wait
    assert throttle.take("password", "192.0.2.1") == 0
    assert throttle.take("password", "192.0.2.1") > 0, "one was forgotten, not all"
    moment[0] += FREE_FAILURES * SECONDS_EACH
    throttle.give_back("password", "192.0.2.1")
    throttle.give_back("sso", "192.0.2.1")
    assert len(throttle) == 0
    for n in range(MOST_NETWORKS + 500):
        throttle.take("password", f"2001:db8:{n:x}::1")
    assert len(throttle) == MOST_NETWORKS
