"""Three seconds of `make fuzz`, from a fixed seed."""

from __future__ import annotations

import pytest

from gateway.contract.snapshot import Timeouts
from gateway.upstream.call import UpstreamCall
from gateway.upstream.connection import UpstreamConnection
from tests.fuzz.run import TARGETS, fuzz, main
from tests.fuzz.upstream import FakePool, Recorder, Transport


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_makes_a_parser_break_its_promises(target):
    cases, problem = fuzz([target], 3.0 / len(TARGETS), first_seed=1)
    assert not problem, problem
    assert cases[target] > 10  # on a machine that has other things to do, too


@pytest.mark.parametrize("status", ["099 Odd", "104 Interim"])
def test_a_body_before_the_final_head_is_a_bad_reply(status):
    class Still:
        def randrange(self, _):
            return 9

    sink = Recorder(Still())  # type: ignore[arg-type]
    sink.call = UpstreamCall(b"", [b"{}"], 2, sink, Timeouts(), 64, 0.0, lambda call: None)
    wire = UpstreamConnection(FakePool([]))  # type: ignore[arg-type]
    wire.connection_made(Transport())
    wire.send(sink.call)
    wire.data_received(f"HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\nabc".encode())
    wire.connection_lost(None)
    assert sink.calls == ["failure"]


def test_a_failure_is_told_with_its_seed_and_fails_the_command(monkeypatch, capsys):
    def broken(dice):
        raise ValueError(b"these bytes")

    monkeypatch.setitem(TARGETS, "framer", broken)
    assert main(["--seconds", "0.1", "--target", "framer"]) == 1
    assert "these bytes" in capsys.readouterr().err
    assert main(["--target", "framer", "--seed", "7"]) == 1
    assert "framer, seed 7: ValueError: b'these bytes'" in capsys.readouterr().out
