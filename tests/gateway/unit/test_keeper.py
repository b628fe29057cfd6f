"""The request log's queue: bounded to the byte, delivered once, and never more than best effort."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from gateway.contract import snapshot as wire
from gateway.copies import keeper as module
from gateway.copies.keeper import Keeper, Kept, Refused
from gateway.redact import Redactor
from gateway.runtime import LogRule

MOST = 1000


class Sink:
    """Takes entries slowly, or fails as it is told."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause = pause
        self.errors: list[Exception] = []
        self.entries: list[str] = []
        self.batches = 0

    async def deliver(self, entries: Sequence[Kept]) -> None:
        """See `BodySink.deliver`."""
        await asyncio.sleep(self.pause)
        self.batches += 1
        if self.errors:
            raise self.errors.pop(0)
        self.entries += [json.loads(entry.payload)["id"] for entry in entries]


def rule(bodies: str = "both") -> LogRule:
    spec = wire.Log.model_validate({"bodies": bodies, "max_bytes": MOST})
    return LogRule(spec, Redactor((), ()), bodies != "response", bodies != "request")


def record(
    keeper: Keeper, identity: str, request: bytes = b"{}", answer: bytes = b"{}", of: LogRule | None = None
) -> bool:
    draft = keeper.begin(of or rule(), request)
    if draft is None:
        return False
    if draft.answer is not None:
        draft.answer.add(answer)
    keeper.keep(identity, 0.0, draft)
    return True


def test_room_is_promised_before_and_given_back_after():
    async def work():
        sink = Sink()
        keeper = Keeper(sink, 3 * MOST)
        first = keeper.begin(rule(), b"x" * 5000)
        assert keeper.held == 2 * MOST, "of the request no more than the route keeps"
        assert keeper.begin(rule(), b"x" * 200) is None
        assert keeper.begin(rule(), b"") is not None
        assert keeper.held == 3 * MOST
        assert keeper.begin(rule("request"), b"") is not None, "nothing needs no room"
        assert keeper.begin(rule("request"), b"x") is None
        assert keeper.outcomes["full"] == 2
        first.answer.add(b"y" * 300)
        keeper.keep("1", 0.0, first)
        assert keeper.held == MOST + 300 + MOST
        assert await keeper.close(1.0) == MOST, "what is still recorded stays promised"
        assert sink.entries == ["1"]

    asyncio.run(work())


def test_a_failure_keeps_the_batch_and_a_refusal_drops_it():
    async def work():
        sink = Sink()
        sink.errors = [OSError("away"), Refused("never"), OSError("away again")]
        keeper = Keeper(sink, 10**6)
        record(keeper, "1")
        assert await keeper.close(1.0) > 0
        assert await keeper.close(1.0) == 0
        assert keeper.outcomes == {"kept": 0, "full": 0, "refused": 1, "failed": 0}
        record(keeper, "2")
        await keeper.close(1.0)
        await keeper.close(1.0)
        assert sink.entries == ["2"]
        assert (keeper.outcomes["kept"], keeper.held) == (1, 0)

    asyncio.run(work())


def test_a_stop_in_the_middle_of_a_delivery_delivers_everything_once(monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.01)

    async def work():
        sink = Sink(pause=0.2)
        keeper = Keeper(sink, 10**6)
        task = asyncio.create_task(keeper.run())
        record(keeper, "1")
        await asyncio.sleep(0.1)
        record(keeper, "2")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await keeper.close(2.0) == 0
        assert sink.entries == ["1", "2"]

    asyncio.run(work())


def test_a_stop_waits_no_longer_than_it_may(monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.01)

    async def work():
        keeper = Keeper(Sink(pause=30.0), 10**6)
        task = asyncio.create_task(keeper.run())
        record(keeper, "1")
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        began = asyncio.get_running_loop().time()
        assert await keeper.close(0.2) > 0
        assert asyncio.get_running_loop().time() - began < 1.0

    asyncio.run(work())


def test_a_bug_in_the_rendering_costs_one_entry(monkeypatch):
    rendered = module.render

    def render(raw, *rest):
        if b"bad" in raw:
            raise RuntimeError("the text of a body, which no log may hold")
        return rendered(raw, *rest)

    monkeypatch.setattr(module, "render", render)

    async def work():
        sink = Sink()
        keeper = Keeper(sink, 10**6)
        for identity, body in (("1", b"{}"), ("2", b"bad"), ("3", b"{}")):
            record(keeper, identity, body)
        assert await keeper.close(1.0) == 0
        assert sink.entries == ["1", "3"]
        assert (keeper.outcomes["kept"], keeper.outcomes["failed"]) == (2, 1)

    asyncio.run(work())


def test_many_entries_go_in_several_batches():
    async def work():
        sink = Sink()
        keeper = Keeper(sink, 10**9)
        for number in range(250):
            record(keeper, str(number))
        assert await keeper.close(5.0) == 0
        assert len(sink.entries) == 250
        assert sink.batches == 3

    asyncio.run(work())
