"""Random damage on both sides of the gateway, from fixed seeds: it answers properly and stays up."""

from __future__ import annotations

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes import scripts, wire
from tests.fakes.gateway import KEY, Gateway, chat_request, endpoint, eventually, new_id, route
from tests.fakes.http import Connection
from tests.fakes.upstream import Close, Reset, Send, Sleep
from tests.fakes.wire import Usage

ROUNDS = 150


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    times = {"first_byte": 0.3, "idle": 0.3, "total": 2.0}
    config = {
        "gateway": {"request_timeout": 0.5},
        "endpoint": [endpoint(upstream.url, timeouts=times)],
        "route": [route("x/*")],
    }
    return start(config)


SPICE = [
    b"\r\n",
    b"\n",
    b"\x00",
    b"\xff",
    b":",
    b" ",
    b"0",
    b"-1",
    b"data:",
    b"{",
    b'"',
    b"transfer-encoding: chunked\r\n",
]


def damage(dice: random.Random, data: bytes) -> bytes:
    """A few cuts, flips, insertions and repetitions."""
    found = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(found) + 1)
        match dice.randrange(5):
            case 0:
                del found[at : at + dice.randint(1, 30)]
            case 1:
                found[at:at] = dice.choice(SPICE)
            case 2 if at < len(found):
                found[at] ^= 1 << dice.randrange(8)
            case 3:
                found[at:at] = found[at : at + dice.randint(1, 60)]
            case _:
                del found[dice.randint(at, len(found)) :]
    return bytes(found)


def pieces(dice: random.Random, data: bytes, most: int = 6) -> list[bytes]:
    """The data in a few parts, cut anywhere."""
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(most)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


def run(count: int, one) -> list:
    with ThreadPoolExecutor(12) as pool:
        return [f.result() for f in [pool.submit(one, n) for n in range(count)]]


@pytest.mark.parametrize("stream", [False, True])
def test_damaged_replies(gateway, upstream, scripted, stream):
    good = scripts.reply(wire.chat_body("word", Usage().openai()))
    if stream:
        good = scripts.stream(wire.openai_stream(["a", "b"], Usage(), asked=True))
    text = scripts.stream_text(good)

    def one(number: int) -> str:
        dice = random.Random(1000 * stream + number)
        steps: list = []
        for piece in pieces(dice, damage(dice, text)):
            steps += [Send(piece), Sleep(0.01)]
        name, rid = scripted([*steps, Reset() if dice.random() < 0.2 else Close()]), new_id()
        reply = gateway.chat(f"x/{name}", rid=rid, stream=stream)
        assert reply.complete, (number, reply)
        assert reply.status >= 200, number
        if reply.status >= 500:
            assert reply.error, number
            assert (reply.fault or "").startswith("provider_"), (number, reply)
        elif reply.status == 200 and stream:
            assert reply.events, number
            last = reply.events[-1]
            if last != "[DONE]" and '"error"' not in last:
                # Damage that is a legal stream without its end: both readings are honest.
                assert gateway.row(rid)["end"] in ("success", "upstream_error_partial")
        return rid

    ids = run(ROUNDS, one)
    eventually(lambda: upstream.answering == 0, 10)
    eventually(lambda: {r["request_id"] for r in gateway.ledger()} >= set(ids), 10)
    rows = [r for r in gateway.ledger() if r["request_id"] in set(ids)]
    assert len(rows) == len(ids)
    assert gateway.chat(f"x/{scripted(scripts.chat())}").status == 200


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_stream_means_the_same_however_it_is_cut(gateway, scripted, ending):
    events = wire.openai_stream(["one", "two", "😀"], Usage(12, 34), asked=True)
    events.insert(3, wire.KEEP_ALIVE)
    data = b"".join(events).replace(b"\n", ending)
    expected = b"".join(e for e in events if b'"choices":[]' not in e).replace(b"\n", ending)

    def one(number: int) -> None:
        dice = random.Random(number)
        steps: list = []
        for piece in pieces(dice, data, 30):
            steps += [piece, Sleep(0.001)] if dice.random() < 0.5 else [piece]
        rid = new_id()
        reply = gateway.chat(f"x/{scripted(scripts.stream(steps))}", rid=rid, stream=True)
        assert reply.body == expected, number
        assert gateway.row(rid)["tokens"] == Usage(12, 34).buckets()

    run(60, one)


def test_damaged_requests(gateway, upstream, scripted):
    body = json.dumps(chat_request(f"x/{scripted(scripts.chat())}", stream=True)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()

    def one(number: int) -> None:
        dice = random.Random(5000 + number)
        with Connection(gateway.url, timeout=6) as conn:
            try:
                for piece in pieces(dice, damage(dice, head + body)):
                    conn.send(piece)
                    time.sleep(0.005)
                reply = conn.response()
            except TimeoutError:
                raise
            except OSError:
                return  # cut off before all was sent
            assert reply.status in (0, 200, 400, 401, 403, 404, 405, 408, 411, 413, 415, 431, 501, 505), (
                number,
                reply,
            )

    run(ROUNDS, one)
    eventually(lambda: upstream.answering == 0, 10)
    assert gateway.chat(f"x/{scripted(scripts.chat())}").status == 200
    assert not [e for e in gateway.events() if "Traceback" in json.dumps(e)], "an unexpected exception was logged"
