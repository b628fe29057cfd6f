"""A gateway that runs from control: changes are live, nothing that control does wrong stops it, nothing is lost."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme

from tests.fakes import control as fake
from tests.fakes.control import ENV, Control, changed, settings
from tests.fakes.gateway import Gateway, digest, endpoint, eventually, key, new_id, route
from tests.fakes.tls import server_context

SECOND = "sk-tg-second-key-0123456789"
PRICE = {"input": 1_000.0, "output": 1_000.0}


@pytest.fixture
def control():
    with Control() as server:
        yield server


@pytest.fixture(scope="module")
def base(upstream):
    return {
        "endpoint": [endpoint(upstream.url, api_key="sk-upstream-secret-0123456789")],
        "route": [route("gpt", "up/one", price=PRICE)],
        "key": [key("tester"), key("second", SECOND)],
    }


@pytest.fixture
def gateway(control, base, tmp_path):
    """A running gateway that has the base configuration."""
    control.publish(base)
    with Gateway(settings(control), tmp_path, env=ENV) as running:
        yield running


def more(name):
    return lambda config: config["route"].append(route(name, "up/x"))


def revoke(config):
    config["key"].pop()


def went_live(gateway, name, within=2.0):
    eventually(lambda: gateway.chat(name).status == 200, within)


def test_a_gateway_takes_its_configuration_from_control_with_the_sealed_secret(gateway, control, upstream):
    assert gateway.chat("gpt").status == 200
    assert upstream.requests[-1].header("authorization") == "Bearer sk-upstream-secret-0123456789"
    assert gateway.call("GET", "/readyz", secret=None).json["snapshot"] == control.version
    assert gateway.metric('tunegate_control_answers.*call="snapshot"') == 1


def test_a_change_is_live_and_costs_one_page(gateway, control, base):
    sent = len(control.pages_sent)
    control.publish(changed(base, more("fresh")))
    begin = time.monotonic()
    went_live(gateway, "fresh")
    assert time.monotonic() - begin < 1.0
    assert len(control.pages_sent) == sent, "no key has changed"
    control.publish(base)
    eventually(lambda: gateway.chat("fresh").status == 404, 2)


def test_a_revoked_key_is_refused_within_a_second(gateway, control, base):
    assert gateway.chat("gpt", secret=SECOND).status == 200
    control.publish(changed(base, revoke))
    begin = time.monotonic()
    eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 401, 10)
    assert time.monotonic() - begin < 1.0
    assert gateway.chat("gpt").status == 200


def test_two_gateways_follow_one_control(gateway, control, base, tmp_path):
    (tmp_path / "other").mkdir()
    with Gateway(settings(control), tmp_path / "other", env=ENV) as other:
        control.publish(changed(base, more("fresh")))
        went_live(gateway, "fresh")
        went_live(other, "fresh")
        for one in (gateway, other):
            one.chat("gpt")
        eventually(lambda: len(control.ledger) >= 4, 10)


def test_several_workers_follow_and_ship(control, base, tmp_path):
    control.publish(base)
    with Gateway(settings(control, gateway={"workers": 2}), tmp_path, env=ENV) as gateway:
        eventually(lambda: control.count("snapshot") >= 4, 5, "both workers hold a long poll")
        control.publish(changed(base, revoke))
        begin = time.monotonic()
        eventually(lambda: all(gateway.chat("gpt", secret=SECOND).status == 401 for _ in range(8)), 10)
        assert time.monotonic() - begin < 1.5
        assert all(gateway.chat("gpt").status == 200 for _ in range(16))
        eventually(lambda: len(control.ledger) >= 16, 10)
        assert {name.rpartition("/")[2] for name in control.gateways} == {"w0", "w1"}


def test_a_change_of_a_team_reaches_the_keys_of_its_pages(gateway, control, base):
    def team(budget):
        def change(config):
            config["team"] = [{"name": "t", "budget": [{"amount": budget, "window": "total"}]}]
            config["key"][1]["team"] = "t"

        return change

    control.publish(changed(base, team(0)))
    eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 429, 2)
    control.publish(changed(base, team(5)))
    eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 200, 2)


# ---- control is away ----


def test_without_control_and_without_a_cache_a_gateway_listens_and_is_not_ready(control, base, tmp_path):
    control.publish(base)
    control.stop()
    with Gateway(settings(control), tmp_path, env=ENV) as gateway:
        assert gateway.call("GET", "/healthz", secret=None).status == 200
        assert gateway.call("GET", "/readyz", secret=None).status == 503
        assert gateway.chat("gpt").status == 503
        assert gateway.metrics()
        control.start()
        went_live(gateway, "gpt")
        assert gateway.call("GET", "/readyz", secret=None).status == 200


def test_a_gateway_that_is_told_to_stop_before_it_listens_does_stop(control, base, tmp_path):
    control.publish(base)
    control.manners["snapshot"] = fake.hang
    gateway = Gateway(settings(control), tmp_path, env=ENV)
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(gateway.start)
        eventually(lambda: control.count("snapshot"), 20, "it does not ask for its configuration")
        assert not gateway.events("gateway.listening")
        gateway.signal(signal.SIGTERM)
        assert gateway.process.wait(10) == 0
        assert starting.exception(10) is None or "ended at start" in str(starting.exception())


def test_a_gateway_starts_from_its_cache_while_control_is_down(gateway, control, base, upstream):
    eventually(lambda: list((gateway.data / "snapshot").rglob("head")), 2)
    assert gateway.stop() == 0
    control.stop()
    begin = time.monotonic()
    gateway.start()
    assert time.monotonic() - begin < 3.0
    assert gateway.chat("gpt").status == 200
    assert upstream.requests[-1].header("authorization") == "Bearer sk-upstream-secret-0123456789"
    assert gateway.events("snapshot.swapped")[-1]["source"] == "cache"
    control.publish(changed(base, revoke))
    control.start()
    eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 401, 2)


def test_the_cache_holds_no_secret_in_clear_and_is_private(gateway):
    files = eventually(lambda: [f for f in (gateway.data / "snapshot").rglob("*") if f.is_file()], 2)
    eventually(lambda: any(f.name == "head" for f in (gateway.data / "snapshot").rglob("*")), 2)
    for file in files:
        assert file.stat().st_mode & 0o077 == 0
        assert b"sk-upstream-secret" not in file.read_bytes()


@pytest.mark.parametrize("damage", ["head", "page", "token"])
def test_a_cache_that_cannot_be_trusted_is_as_good_as_none(gateway, control, damage):
    eventually(lambda: list((gateway.data / "snapshot").rglob("head")), 2)
    gateway.stop()
    control.stop()
    if damage == "token":
        gateway.env = {"TEST_SERVICE_TOKEN": "another-token-0123456789"}
    else:
        (file,) = (gateway.data / "snapshot").rglob("head" if damage == "head" else "*.page")
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    gateway.start()
    assert gateway.call("GET", "/readyz", secret=None).status == 503
    assert gateway.events("snapshot.cache_refused")
    gateway.env = ENV


def test_control_that_dies_and_comes_back_costs_no_request_and_no_event(gateway, control, base):
    rids = []
    for phase in ("before", "away", "back"):
        if phase == "away":
            control.stop()
            time.sleep(0.5)
        if phase == "back":
            control.publish(changed(base, more("fresh")))
            control.start()
            begin = time.monotonic()
            went_live(gateway, "fresh", 3)
            assert time.monotonic() - begin < 2.0
        for _ in range(5):
            rids.append(new_id())
            assert gateway.chat("gpt", rid=rids[-1]).status == 200
    eventually(lambda: set(rids) <= {e["request_id"] for e in control.ledger.values()}, 15)
    assert len(gateway.events("control.failing")) <= 4, "an outage is a few lines and no flood"
    assert gateway.events("control.works_again")
    assert gateway.ledger() == [], "control keeps the ledger"


# ---- control behaves badly ----

BAD = {
    "401": ("snapshot", fake.answering(401)),
    "500": ("snapshot", fake.answering(500, b"oops")),
    "not JSON": ("snapshot", fake.answering(200, b"<html>", etag='"x"')),
    "no ETag": ("snapshot", fake.answering(200, b"{}")),
    "a redirect": ("snapshot", fake.answering(302, location="http://127.0.0.1:1/")),
    "cut off": ("snapshot", fake.cut),
    "endless": ("snapshot", fake.endless),
    "a page cut off": ("page", fake.cut),
    "a page with another hash": ("page", fake.altered),
    "an endless page": ("page", fake.endless),
    "a page that is gone": ("page", fake.answering(404)),
    "a page refused": ("page", fake.answering(500)),
}


@pytest.mark.parametrize(("kind", "manner"), BAD.values(), ids=BAD.keys())
def test_what_control_does_wrong_changes_nothing_and_is_counted(gateway, control, base, kind, manner):
    failures = 'tunegate_control_failures_total.*call="snapshot"'
    before = gateway.metric(failures)
    control.manners[kind] = manner
    control.publish(changed(base, lambda c: (revoke(c), more("fresh")(c))))
    eventually(lambda: gateway.metric(failures) > before, 15)
    assert gateway.chat("gpt", secret=SECOND).status == 200
    assert gateway.chat("fresh").status == 404
    assert gateway.call("GET", "/readyz", secret=None).status == 200
    control.manners.clear()
    went_live(gateway, "fresh", 2.5)
    assert gateway.chat("gpt", secret=SECOND).status == 401


@pytest.mark.parametrize("content", [None, b"this is no certificate"])
def test_a_ca_file_that_is_bad_on_this_machine_makes_one_endpoint_unusable_and_can_be_mended(
    gateway, control, base, upstream, tmp_path, content
):
    bundle = tmp_path / "company.pem"
    if content is not None:
        bundle.write_bytes(content)

    def private(config):
        config["endpoint"].append(endpoint(upstream.url, "private", ca_file=str(bundle)))
        config["route"] += [
            route("private", "private/x"),
            route(
                "either",
                {"endpoint": "private", "model": "x"},
                {"endpoint": "up", "model": "x", "priority": 1},
                retry={"max_attempts": 2},
            ),
        ]

    control.publish(changed(base, private))
    went_live(gateway, "either")  # by its second target
    assert gateway.chat("gpt").status == 200
    refused = gateway.chat("private")
    assert (refused.status, refused.header("x-tunegate-error")) == (502, "provider_unreachable")
    assert "company.pem" not in str(refused.body), "what lies on the machine is for its log"
    assert str(bundle) in gateway.events("snapshot.endpoint_unusable")[0]["problem"]
    assert gateway.metric('tunegate_endpoint_unusable{.*endpoint="private"') == 1
    assert gateway.call("GET", "/readyz", secret=None).json["unusable_endpoints"] == 1
    assert gateway.metric("tunegate_snapshot_refused_total") == 0

    ca = trustme.CA()
    ca.cert_pem.write_to_path(bundle)
    control.stop()  # ends the long poll, after which it would be noticed anyway; the configuration stays the same
    eventually(lambda: gateway.metric('tunegate_control_failures_total.*call="snapshot"') > 0, 15)
    control.start()
    went_live(gateway, "private", 5)
    assert gateway.call("GET", "/readyz", secret=None).json["unusable_endpoints"] == 0


def test_control_that_drips_or_hangs_does_not_hold_up_the_start_nor_requests(control, base, tmp_path):
    control.publish(base)
    control.manners["snapshot"] = fake.drip
    begin = time.monotonic()
    with Gateway(settings(control), tmp_path, env=ENV) as gateway:
        assert time.monotonic() - begin < 15.0
        assert gateway.chat("gpt").status == 503
        control.manners.clear()
        went_live(gateway, "gpt", 20)
        control.manners["usage"] = fake.hang
        assert all(gateway.chat("gpt").status == 200 for _ in range(5))
        begin = time.monotonic()
        assert gateway.stop() == 0
        assert time.monotonic() - begin < 20.0, "the last try is bounded"
        control.manners.clear()
        gateway.start()
        eventually(lambda: len(control.ledger) == 6, 10, "the rest was kept for the next start")


def test_control_behind_tls_is_verified(base, tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "no").mkdir()
    (tmp_path / "yes").mkdir()
    with Control(tls=server_context(ca)) as control:
        control.publish(base)
        with Gateway(settings(control), tmp_path / "no", env=ENV) as gateway:
            assert gateway.events("control.failing")[0]["kind"] == "unreachable"
            assert gateway.call("GET", "/readyz", secret=None).status == 503
        config = settings(control)
        config["control"]["ca_file"] = str(tmp_path / "ca.pem")
        with Gateway(config, tmp_path / "yes", env=ENV) as gateway:
            assert gateway.chat("gpt").status == 200


def test_unchanged_since_never_is_no_answer(control, base, tmp_path):
    control.publish(base)
    control.manners["snapshot"] = fake.answering(304)
    with Gateway(settings(control), tmp_path, env=ENV) as gateway:
        assert gateway.events("control.failing")[0]["kind"] == "bad_reply"
        control.manners.clear()
        went_live(gateway, "gpt")


def test_control_that_does_not_wait_is_not_asked_all_the_time(gateway, control):
    control.manners["snapshot"] = fake.answering(304)
    control.publish({})
    time.sleep(2.0)
    assert control.count("snapshot") < 12


REFUSED = {
    "an unknown schema version": {"schema_version": 2},
    "an unknown member": {"colour": "red"},
    "an unknown provider": {"endpoint": [{"name": "up", "provider": "nothing", "base_url": "http://127.0.0.1:1"}]},
    "a version that breaks usage events": {"version": 'a"b'},
    "a credential that is not sealed": {
        "endpoint": [{"name": "up", "provider": "openai", "base_url": "http://127.0.0.1:1", "api_key": "sk-in-clear"}]
    },
}


@pytest.mark.parametrize("head", REFUSED.values(), ids=REFUSED.keys())
def test_a_configuration_that_cannot_be_served_is_refused_as_a_whole(gateway, control, base, head):
    control.publish(changed(base, revoke), **head)
    eventually(lambda: gateway.events("snapshot.refused"), 2)
    assert gateway.chat("gpt", secret=SECOND).status == 200
    assert gateway.metric("tunegate_snapshot_refused_total") == 1
    assert not any("sk-in-clear" in line for line in gateway.log_lines)
    control.publish(changed(base, revoke))
    eventually(lambda: gateway.chat("gpt", secret=SECOND).status == 401, 1)


def test_secrets_that_are_sealed_for_another_gateway_are_refused(gateway, control, base):
    control.sealed_for = "another-token"
    control.publish(changed(base, more("fresh")))
    refused = eventually(lambda: gateway.events("snapshot.refused"), 2)
    assert "was not sealed for this gateway's service token" in str(refused)
    assert gateway.chat("gpt").status == 200


def test_ten_thousand_keys_in_pages_and_one_of_them_changes(gateway, control, base):
    def many(config):
        config["key"] += [key(f"k{i}", f"secret-{i}", limits={"rpm": 600}) for i in range(10_000)]

    full = changed(base, many)
    control.publish(full)
    eventually(lambda: gateway.chat("gpt", secret="secret-9999").status == 200, 15)
    sent = len(control.pages_sent)
    assert sent >= 11
    control.publish(changed(full, lambda c: c["key"][500].update(sha256=digest("another"))))
    begin = time.monotonic()
    eventually(lambda: gateway.chat("gpt", secret="another").status == 200, 10)
    assert time.monotonic() - begin < 1.0
    assert len(control.pages_sent) == sent + 1
