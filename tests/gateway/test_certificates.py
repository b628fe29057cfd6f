"""A renewed certificate needs no restart, a broken one does no harm, and metrics say when each one expires."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.fakes import scripts
from tests.fakes.gateway import KEY, endpoint, eventually, route
from tests.fakes.tls import server_context, trusting
from tests.fakes.upstream import Upstream

NOW = datetime.now(UTC).replace(microsecond=0)
METRIC = "tunegate_certificate_expires_seconds"


@pytest.fixture(scope="module")
def ca():
    return trustme.CA()


class Files:
    """The certificate and its key, as an administrator or a tool renews them."""

    def __init__(self, ca: trustme.CA, folder: Path) -> None:
        self._ca, self.chain, self.key = ca, folder / "tls.crt", folder / "tls.key"

    def issue(self, days: int, key: bool = True, one_file: bool = False) -> int:
        """A new one; when it expires, in Unix seconds."""
        expires = NOW + timedelta(days=days)
        made = self._ca.issue_cert("localhost", not_after=expires)
        chain = b"".join(pem.bytes() for pem in made.cert_chain_pems)
        if one_file:
            chain = made.private_key_pem.bytes() + chain
        elif key:
            self.key.write_bytes(made.private_key_pem.bytes())
        self._put(chain)
        return int(expires.timestamp())

    def _put(self, chain: bytes) -> None:
        new = self.chain.with_suffix(".new")
        new.write_bytes(chain)
        new.replace(self.chain)


class Client:
    """One connection to a gateway that trusts the authority."""

    def __init__(self, port: int, ca: trustme.CA) -> None:
        self._connection = http.client.HTTPSConnection("localhost", port, context=trusting(ca), timeout=5)
        self._connection.connect()

    @property
    def shown(self) -> int:
        """When the certificate expires that this connection's handshake showed."""
        return int(ssl.cert_time_to_seconds(self._connection.sock.getpeercert()["notAfter"]))

    def ask(self) -> int:
        """The status of a chat's answer."""
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
        self._connection.request("POST", "/v1/chat/completions", body, {"authorization": f"Bearer {KEY}"})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def metric(self) -> list[str]:
        """Samples of the metric."""
        self._connection.request("GET", "/metrics")
        lines = self._connection.getresponse().read().decode().splitlines()
        return [line for line in lines if line.startswith(METRIC)]

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def listener(expires: int) -> list[str]:
    """The metric of a gateway whose own certificate is all that it knows."""
    return [f'{METRIC}{{endpoint="",use="listener",worker="0"}} {float(expires)!r}']


def numbers(lines: list[str]) -> list[tuple[str, float]]:
    """Samples, however their numbers are written."""
    return [(name, float(value)) for name, value in (line.rsplit(" ", 1) for line in lines)]


def test_a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_is_not_taken(start, tmp_path, ca):
    files = Files(ca, tmp_path)
    first = files.issue(days=40)
    config = {
        "gateway": {"tls_cert": str(files.chain), "tls_key": str(files.key)},
        "endpoint": [{"name": "d", "provider": "dummy"}],
        "route": [route("m", "d/x")],
    }
    gateway = start(config, folder=tmp_path)
    port = int(gateway.url.rpartition(":")[2])

    def shown() -> int:
        client = Client(port, ca)
        try:
            assert client.ask() == 200
            return client.shown
        finally:
            client.close()

    old = Client(port, ca)
    assert (old.shown, old.ask(), numbers(old.metric())) == (first, 200, numbers(listener(first)))

    second = files.issue(days=90)
    eventually(lambda: shown() == second, 5, "the new certificate is not shown")
    assert old.ask() == 200, "a connection outlives the certificate that it began with"
    assert numbers(old.metric()) == numbers(listener(second))

    files.issue(days=120, key=False)
    eventually(lambda: len(gateway.events("listener.certificate_refused")) == 1, 5, "nothing was said")
    files.chain.write_bytes(b"-----BEGIN CERTIFICATE-----\nhalf")
    eventually(lambda: len(gateway.events("listener.certificate_refused")) == 2, 5, "nothing was said")
    files.key.unlink()
    eventually(lambda: len(gateway.events("listener.certificate_refused")) == 3, 5, "nothing was said")
    assert shown() == second
    assert numbers(old.metric()) == numbers(listener(second))
    assert {line["kept_until"] for line in gateway.events("listener.certificate_refused")} == {second}
    assert "KEY_VALUES_MISMATCH" in gateway.events("listener.certificate_refused")[0]["problem"].upper()

    third = files.issue(days=200)
    eventually(lambda: shown() == third, 5, "after broken ones, a good one is not shown")
    old.close()


def test_chain_and_key_may_be_one_file_and_what_cannot_be_used_is_said_at_the_start(start, tmp_path, ca):
    files = Files(ca, tmp_path)
    only = files.issue(days=30, one_file=True)
    config = {
        "gateway": {"tls_cert": str(files.chain)},
        "endpoint": [{"name": "d", "provider": "dummy"}],
        "route": [route("m", "d/x")],
    }
    gateway = start(config, folder=tmp_path)
    client = Client(int(gateway.url.rpartition(":")[2]), ca)
    assert (client.shown, client.ask()) == (only, 200)
    client.close()
    gateway.stop()
    files.issue(days=30, key=False)
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(gateway.file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert f"[gateway] tls_cert {files.chain}" in done.stderr
    assert "Traceback" not in done.stderr


def test_when_an_endpoint_s_certificate_expires_is_known_from_the_last_handshake(start, tmp_path, ca):
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    soon = NOW + timedelta(days=3)
    with Upstream(server_context(ca, not_after=soon)) as safe, Upstream() as plain:
        for one in (safe, plain):
            one.on("m", scripts.chat())
        endpoints = [
            endpoint(safe.url, "safe", ca_file=str(tmp_path / "ca.pem")),
            endpoint(safe.url.replace("localhost", "127.0.0.1"), "idle"),
            endpoint(plain.url, "plain"),
        ]
        routes = [route("m", "safe"), route("p", "plain/m"), route("i", "idle/m")]
        gateway = start({"endpoint": endpoints, "route": routes}, folder=tmp_path)
        assert known(gateway) == {}
        assert (gateway.chat("m").status, gateway.chat("p").status) == (200, 200)
        wanted = f'{METRIC}{{endpoint="safe",use="upstream",worker="0"}}'
        assert known(gateway) == {wanted: soon.timestamp()}


def known(gateway) -> dict[str, float]:
    """The metric, of a gateway without TLS of its own."""
    return {name: value for name, value in gateway.metrics().items() if name.startswith(METRIC)}
