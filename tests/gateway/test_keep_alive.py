"""How long a client's connection lives: idle time counts, the time of a long answer does not."""

from __future__ import annotations

import json
import time

import pytest

from tests.fakes import scripts
from tests.fakes.gateway import KEY, Gateway, chat_request, endpoint, route
from tests.fakes.http import Connection
from tests.fakes.upstream import Sleep

AUTH = {"authorization": f"Bearer {KEY}"}
IDLE = 1.0


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    config = {
        "gateway": {"keepalive_timeout": IDLE},
        "endpoint": [endpoint(upstream.url)],
        "route": [route("x/*")],
    }
    return start(config)


def slow(seen):
    return [Sleep(IDLE * 2.2), *scripts.auto()(seen)]


@pytest.mark.parametrize("before", ["/v1/models", "/healthz", None])
def test_a_long_answer_is_not_cut_off_by_the_idle_time_of_an_earlier_request(gateway, scripted, before):
    name = scripted(slow)
    with Connection(gateway.url) as conn:
        if before is not None:
            conn.request("GET", before, headers=AUTH)
            assert conn.response().status == 200
        conn.request("POST", "/v1/chat/completions", json.dumps(chat_request(f"x/{name}")).encode(), AUTH)
        reply = conn.response()
        assert (reply.status, reply.complete) == (200, True)
        conn.request("GET", "/v1/models", headers=AUTH)
        assert conn.response().status == 200, "the connection is still good"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions"])
def test_an_idle_connection_is_closed_after_its_time_whatever_it_carried(gateway, scripted, path):
    with Connection(gateway.url) as conn:
        if path == "/v1/models":
            conn.request("GET", path, headers=AUTH)
        else:
            name = scripted(scripts.auto())
            conn.request("POST", path, json.dumps(chat_request(f"x/{name}")).encode(), AUTH)
        assert conn.response().status == 200
        answered = time.monotonic()
        assert conn.closed_by_peer(IDLE + 2.5)
        assert time.monotonic() - answered > IDLE * 0.8
