"""Whatever the pace of client and upstream, the same bytes go out in the same order, with one name replaced."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from gateway.errors import GatewayError
from gateway.protocols.multipart import Form
from gateway.server import upload as module
from gateway.server.running import Moment
from gateway.server.upload import Disk, Upload
from tests.fakes.forms import TYPE, File, form

FILE = bytes(range(256)) * 40
BODIES = [form(model="x/m", file=File(FILE), prompt="after"), form(file=File(FILE), model="x/m", prompt="after")]


class Client:
    """The connection that the body arrives on."""

    def __init__(self) -> None:
        self.paused = False

    def pause_upload(self) -> None:
        self.paused = True

    def resume_upload(self) -> None:
        self.paused = False


class Out:
    """An upstream that takes so many bytes until it is asked again."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.left = room
        self.sent = b""

    @property
    def blocked(self) -> bool:
        return self.left <= 0

    def pass_on(self, data: bytes) -> None:
        self.sent += data
        self.left -= len(data)


@pytest.fixture
def little(monkeypatch):
    """So little is held that every border is met."""
    monkeypatch.setattr(module, "HOLD", 700)
    monkeypatch.setattr(module, "BLOCK", 300)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    body=st.sampled_from(BODIES),
    at=st.lists(st.integers(0, 20_000), max_size=30),
    rooms=st.lists(st.integers(1, 5_000), min_size=1, max_size=6),
    attached=st.integers(0, 30),
    again=st.booleans(),
    chunked=st.booleans(),
)
def test_the_same_bytes_go_out_in_the_same_order(little, tmp_path, body, at, rooms, attached, again, chunked):
    client, disk = Client(), Disk(tmp_path, 1_000_000)
    loop = asyncio.new_event_loop()
    size = None if chunked else len(body)
    upload = Upload(client, Form(TYPE), size, 100_000, disk, Moment(loop))
    borders = sorted({0, len(body), *(place % (len(body) + 1) for place in at)})
    pieces = [body[a:b] for a, b in pairwise(borders)]
    out: Out | None = None

    def attach() -> Out:
        nonlocal out
        assert upload.rename("longer-name") == (None if chunked else len(body) + 8)
        out = Out(rooms[0])
        upload.attach(out)
        return out

    for number, piece in enumerate(pieces):
        upload.feed(piece)
        if out is None and upload.known.done and number >= attached:
            attach()
        if out is not None:
            out.left = rooms[number % len(rooms)]
            upload.pump()
    upload.end()
    assert upload.known.done
    last = out or attach()
    if again and not upload.spent:
        upload.detach()
        last = attach()
    for _ in range(len(body)):
        if upload.passed:
            break
        last.left = rooms[0]
        upload.pump()
    loop.close()
    assert upload.passed
    sent = last.sent
    if chunked:
        sent, rest = b"", sent
        while rest != b"0\r\n\r\n":
            head, _, rest = rest.partition(b"\r\n")
            sent, rest = sent + rest[: int(head, 16)], rest[int(head, 16) + 2 :]
    assert sent == body.replace(b"x/m", b"longer-name")
    upload.close()
    upload.close()
    assert disk.left == 1_000_000


def test_a_client_is_paused_while_nobody_takes_what_is_not_held(little, tmp_path):
    client, loop = Client(), asyncio.new_event_loop()
    upload = Upload(client, Form(TYPE), None, 100_000, Disk(tmp_path, 0), Moment(loop))
    for at in range(0, len(BODIES[0]) - 500, 200):
        if client.paused:
            break
        upload.feed(BODIES[0][at : at + 200])
    assert client.paused
    assert at < 1_500
    out = Out(10_000)
    upload.attach(out)
    assert not client.paused
    assert len(out.sent) > at
    loop.close()
    upload.close()


def test_after_a_mistake_nothing_more_goes_out(little, tmp_path):
    loop = asyncio.new_event_loop()
    body = form(("model", "a"), ("file", File(b"x" * 5000)), ("model", "b"), ("prompt", "p"))
    upload = Upload(Client(), Form(TYPE), len(body), 100_000, Disk(tmp_path, 0), Moment(loop))
    told: list[GatewayError] = []
    upload.on_broken = told.append
    out = Out(100_000)
    upload.feed(body[:2000])
    upload.attach(out)
    for at in range(2000, len(body), 50):
        upload.feed(body[at : at + 50])
    upload.end()
    assert ["occurs twice" in error.message for error in told] == [True]
    assert len(out.sent) < len(body)
    assert b'"prompt"' not in out.sent
    loop.close()
    upload.close()
