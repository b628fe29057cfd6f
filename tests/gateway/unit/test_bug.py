"""A mistake of ours is an answer and a log line, never a connection that hangs."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace

from gateway.api.chat import CHAT
from gateway.pipeline import Pipeline


class Sent:
    """An exchange that notes its answer."""

    def __init__(self):
        self.headers, self.body, self.peer, self.operation = {}, b"{}", "127.0.0.1", CHAT
        self.answer = self.upload = None

    def respond(self, status, lines, body):
        self.answer = (status, lines, json.loads(body))


class Broken:
    """A holder with a bug."""

    @property
    def current(self):
        raise KeyError("a bug")


def test_a_bug_before_admission_is_answered_with_500_and_logged(caplog):
    told = []
    telemetry = SimpleNamespace(rejected=lambda error, *_: told.append(error.code))
    exchange = Sent()
    with caplog.at_level(logging.ERROR, "gateway.pipeline"):
        asyncio.run(Pipeline(Broken(), None, None, None, telemetry, None, None, None, None).handle(exchange))
    status, lines, body = exchange.answer
    assert status == 500
    assert b"x-request-id" in lines
    assert body["error"]["code"] == "internal_error"
    assert told == ["tunegate_bug"]
    assert "a bug" in caplog.text
