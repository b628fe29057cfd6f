"""Forms with files pass while they arrive: in nobody's memory, at the pace of the slower side, with one model."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.fakes import scripts
from tests.fakes.forms import TYPE, File, form
from tests.fakes.gateway import KEY, Gateway, endpoint, eventually, key, new_id, route
from tests.fakes.http import Connection
from tests.fakes.upstream import parse_request

PATH = "/v1/audio/transcriptions"
TEXT = b'{"text":"Hello","usage":{"type":"tokens","input_tokens":7,"output_tokens":5,"total_tokens":12}}'
BIG = os.urandom(3_000_000)
MOST = 80_000_000
_OPEN: list[Connection] = []


@pytest.fixture(autouse=True)
def _closing():
    yield
    while _OPEN:
        _OPEN.pop().close()


@pytest.fixture(scope="module")
def gateway(start, upstream) -> Gateway:
    twice = route("twice/*", "up", retry={"max_attempts": 3, "backoff": 0.01})
    return start(
        {
            "gateway": {"max_upload_bytes": MOST, "max_body_bytes": 100_000, "request_timeout": 1.5},
            "endpoint": [endpoint(upstream.url)],
            "route": [route("x/*"), twice],
            "key": [key("tester"), key("narrow", "sk-tg-narrow" + "0" * 40, models=["x/cheap"])],
        }
    )


@pytest.fixture(scope="module")
def sdk(gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def send(gateway: Gateway, body: bytes, rid: str = "", path: str = PATH, secret: str = KEY, **more: str):
    headers = {"content_type": TYPE.decode(), "x_request_id": rid or new_id(), **more}
    return gateway.call("POST", path, body, secret=secret, **headers)


def began(gateway: Gateway, size: int, path: str = PATH, secret: str = KEY, rid: str = "", **more: str) -> Connection:
    """A connection on which the head of an upload has been sent."""
    conn = Connection(gateway.url)
    _OPEN.append(conn)
    framing = {"content-length": str(size)} if size else {"transfer-encoding": "chunked"}
    fields = {"host": conn.host, "authorization": f"Bearer {secret}", "content-type": TYPE.decode(), **framing, **more}
    fields |= {"x-request-id": rid} if rid else {}
    conn.send("\r\n".join([f"POST {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]).encode() + b"\r\n\r\n")
    return conn


def taken(conn: Connection, body: bytes) -> int:
    """Send until the peer takes no more; how many bytes it took."""
    sent = 0
    while sent < len(body):
        try:
            sent += conn.sock.send(body[sent : sent + 262_144])
        except TimeoutError:
            break
    return sent


def test_only_the_models_name_is_another_one_there(gateway, upstream, scripted):
    model, rid = scripted(scripts.reply(TEXT)), new_id()
    body = form(model=f"x/{model}", language="中", file=File(BIG), prompt="after the file")
    reply = send(gateway, body, rid)
    assert (reply.status, reply.body) == (200, TEXT)
    [seen] = upstream.of(model)
    assert seen.body == body.replace(b"x/" + model.encode(), model.encode())
    assert (seen.target, seen.header("content-type")) == (PATH, TYPE.decode())
    row = gateway.row(rid)
    assert (row["operation"], row["model"], row["usage_source"]) == ("transcriptions", f"x/{model}", "provider")
    assert (row["tokens"]["input"], row["tokens"]["output"]) == (7, 5)


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_the_model_may_come_after_the_file_as_in_curls_examples(gateway, upstream, scripted, size):
    model = scripted(scripts.reply(TEXT))
    body = form(file=File(BIG[:size]), model=f"x/{model}", response_format="json")
    assert send(gateway, body).body == TEXT
    [seen] = upstream.of(model)
    assert seen.body == body.replace(b"x/" + model.encode(), model.encode())
    assert not [path for path in gateway.data.iterdir() if path.name.startswith("tmp")], "nothing stays on the disk"


def test_a_chunked_upload_passes_as_one(gateway, upstream, scripted):
    model = scripted(scripts.reply(TEXT))
    body = form(model=f"x/{model}", file=File(BIG[:500_000]))
    conn = began(gateway, 0)
    for at in range(0, len(body), 70_000):
        piece = body[at : at + 70_000]
        conn.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    conn.send(b"0\r\n\r\n")
    assert conn.response().body == TEXT
    [seen] = upstream.of(model)
    assert seen.body == body.replace(b"x/" + model.encode(), model.encode())
    assert seen.header("transfer-encoding") == "chunked"


def test_a_client_that_asks_first_is_told_to_go_on(gateway, scripted):
    body = form(file=File(BIG), model=f"x/{scripted(scripts.reply(TEXT))}")
    conn = began(gateway, len(body), expect="100-continue")
    conn.send(body)
    reply = conn.response()
    assert (reply.interim, reply.body) == ([100], TEXT)


def test_byte_by_byte_and_twice_on_one_connection(gateway, upstream, scripted):
    model = scripted(scripts.reply(TEXT))
    body = form(model=f"x/{model}", file=File(b"abc"))
    conn = began(gateway, len(body))
    for at in range(len(body)):
        conn.send(body[at : at + 1])
    assert conn.response().body == TEXT
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: {TYPE.decode()}\r\n"
    conn.send(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    assert conn.response().body == TEXT
    assert len({seen.connection for seen in upstream.of(model)}) == 1, "the upstream's connection is used again"


def test_the_official_client_transcribes_translates_and_edits(gateway, upstream, scripted, sdk):
    model = scripted(scripts.reply(TEXT))
    sound, picture = ("a.wav", io.BytesIO(b"RIFF")), ("a.png", io.BytesIO(b"PNG"))
    assert sdk.audio.transcriptions.create(model=f"x/{model}", file=sound).text == "Hello"
    sound[1].seek(0)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        assert sdk.audio.translations.create(model=f"x/{model}", file=sound).text == "Hello"
    image = scripted(scripts.reply(b'{"created":1,"data":[{"b64_json":"AAAA"}]}'))
    edited = sdk.images.edit(model=f"x/{image}", image=[picture, picture], prompt="more")
    assert edited.data is not None
    assert edited.data[0].b64_json == "AAAA"
    assert [seen.target for seen in upstream.of(model)] == [PATH, "/v1/audio/translations"]


def test_a_transcript_may_be_plain_text_or_a_stream(gateway, scripted):
    model = scripted(scripts.reply(b"Hello", kind="text/plain"))
    assert send(gateway, form(model=f"x/{model}", response_format="text", file=File(b"x"))).body == b"Hello"
    events = [b'data: {"type":"transcript.text.delta","delta":"Hel"}\n\n', b"data: " + TEXT + b"\n\n"]
    model, rid = scripted(scripts.stream(events)), new_id()
    reply = send(gateway, form(model=f"x/{model}", file=File(b"x"), stream="true"), rid)
    assert reply.body == b"".join(events)
    row = gateway.row(rid)
    assert (row["tokens"]["output"], row["end"]) == (5, "success")


def test_a_large_upload_is_in_nobodys_memory(gateway, upstream, scripted):
    def peak() -> int:
        [line] = [one for one in Path(f"/proc/{gateway.pid}/status").read_text().splitlines() if "VmHWM" in one]
        return int(line.split()[1]) * 1024

    model = scripted(scripts.reply(TEXT))
    send(gateway, form(model=f"x/{model}", file=File(b"warm")))
    before = peak()
    assert send(gateway, form(model=f"x/{model}", file=File(bytes(64_000_000)))).status == 200
    assert peak() - before < 12_000_000
    assert send(gateway, form(file=File(bytes(64_000_000)), model=f"x/{model}")).status == 200
    assert peak() - before < 12_000_000


def test_a_slow_upstream_makes_the_client_wait(start):
    server = socket.create_server(("127.0.0.1", 0))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    gateway = start({"endpoint": [endpoint(f"http://127.0.0.1:{server.getsockname()[1]}/v1")], "route": [route("x/*")]})
    body = form(model="x/m", file=File(bytes(60_000_000)))
    conn = began(gateway, len(body))
    conn.sock.settimeout(1.0)
    sent = taken(conn, body)
    assert sent < 30_000_000, "what nobody reads is not taken"
    conn.sock.settimeout(20)
    peer, _ = server.accept()
    got = bytearray()

    def read() -> None:
        while parse_request(got) is None:
            got.extend(peer.recv(1_048_576))
        answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
            len(TEXT),
            TEXT,
        )
        peer.sendall(answer)

    reader = threading.Thread(target=read)
    reader.start()
    conn.send(body[sent:])
    assert conn.response().body == TEXT
    reader.join()
    peer.close()
    server.close()
    assert len(bytes(got)) > len(body)


@pytest.mark.parametrize("padding", [0, 3_000_000])
def test_a_second_model_is_never_served(gateway, upstream, scripted, padding):
    cheap, dear = scripted(scripts.reply(TEXT)), scripted(scripts.reply(TEXT))
    body = form(("model", f"x/{cheap}"), ("file", File(BIG[:padding])), ("model", dear))
    reply = send(gateway, body)
    assert (reply.status, reply.fault) == (400, "caller_bad_request")
    assert "twice" in reply.error["message"]
    assert not upstream.of(cheap) + upstream.of(dear), "no whole request arrived there"


def test_grants_are_checked_before_a_byte_goes_out(gateway, upstream, scripted):
    model = scripted(scripts.reply(TEXT))
    body = form(model=f"x/{model}", file=File(BIG))
    assert send(gateway, body, secret="sk-tg-narrow" + "0" * 40).fault == "policy_access"
    assert send(gateway, body, secret="sk-tg-nobody" + "0" * 40).fault == "policy_key"
    assert send(gateway, form(model="none", file=File(BIG))).fault == "caller_unknown_model"
    assert not upstream.of(model)


def test_an_unknown_key_hears_so_while_it_still_sends(gateway):
    conn = began(gateway, 50_000_000, secret="sk-tg-nobody" + "0" * 40)
    reply = conn.response()
    assert (reply.status, reply.fault, reply.header("connection")) == (401, "policy_key", "close")


@pytest.mark.parametrize(
    ("body", "headers", "fault", "status"),
    [
        (b"", {}, "caller_bad_request", 400),
        (b"not a form at all, but long enough to be sure of that", {}, "caller_bad_request", 400),
        (form(file=File(b"x")), {}, "caller_bad_request", 400),
        (form(model="", file=File(b"x")), {}, "caller_bad_request", 400),
        (form(model="x/auto", file=File(b"x"))[:-9], {}, "caller_bad_request", 400),
        (b"{}", {"content_type": "application/json"}, "caller_bad_request", 415),
        (b"{}", {"content_type": "multipart/form-data"}, "caller_bad_request", 415),
    ],
)
def test_what_is_no_form_is_refused(gateway, body, headers, fault, status):
    reply = send(gateway, body, **headers)
    assert (reply.fault, reply.status) == (fault, status), reply


def test_too_large_is_413_when_it_says_so_and_when_it_turns_out(start, upstream, scripted):
    most = 1_000_000
    limited = {"gateway": {"max_upload_bytes": most}, "endpoint": [endpoint(upstream.url)], "route": [route("x/*")]}
    gateway = start(limited)
    assert began(gateway, most + 1).response().fault == "caller_too_large"
    model, rid = scripted(scripts.reply(TEXT)), new_id()
    conn = began(gateway, 0, rid=rid)
    first = form(model=f"x/{model}", file=File(b"x"))[:-12]
    conn.send(b"%x\r\n%b\r\n" % (len(first), first))
    for _ in range(most // 100_000 + 1):
        conn.send(b"%x\r\n%b\r\n" % (100_000, bytes(100_000)))
    reply = conn.response()
    assert (reply.status, reply.fault) == (413, "caller_too_large")
    assert not upstream.of(model)
    assert gateway.row(rid)["end"] == "upstream_error"


def test_a_silent_client_is_408_and_a_slow_one_is_served(gateway, upstream, scripted):
    model = scripted(scripts.reply(TEXT))
    body = form(model=f"x/{model}", file=File(b"y" * 400))
    conn = began(gateway, len(body))
    conn.send(body[:-300])
    reply = conn.response()
    assert (reply.status, reply.fault) == (408, "caller_slow")
    conn = began(gateway, len(body))
    for at in range(0, len(body), 200):
        conn.send(body[at : at + 200])
        time.sleep(0.6)  # slower in all than a silent one may be
    assert conn.response().body == TEXT


def test_a_client_that_leaves_stops_the_upstream_and_is_settled(gateway, upstream, scripted):
    model, rid = scripted(scripts.reply(TEXT)), new_id()
    body = form(model=f"x/{model}", file=File(BIG))
    open_before = upstream.open_connections
    conn = began(gateway, len(body), rid=rid)
    conn.send(body[:1_000_000])
    eventually(lambda: upstream.open_connections > open_before or upstream.connections)
    conn.abort()
    assert gateway.row(rid)["end"] == "client_gone"
    assert not upstream.of(model)


def test_a_small_upload_is_tried_again_and_a_large_one_is_not(gateway, upstream, scripted):
    small = scripted(scripts.error(500), scripts.reply(TEXT))
    assert send(gateway, form(model=f"twice/{small}", file=File(b"x" * 1000))).body == TEXT
    assert len(upstream.of(small)) == 2
    assert upstream.of(small)[0].body == upstream.of(small)[1].body
    large = scripted(scripts.error(500), scripts.reply(TEXT))
    assert send(gateway, form(model=f"twice/{large}", file=File(BIG))).fault == "provider_5xx"
    assert len(upstream.of(large)) == 1
    kept = scripted(scripts.error(500), scripts.reply(TEXT))
    assert send(gateway, form(file=File(BIG), model=f"twice/{kept}")).body == TEXT, "it was on the disk"


def test_a_disk_that_takes_nothing_is_a_503_that_says_what_helps(gateway):
    away = gateway.data.with_name("away")
    gateway.data.rename(away)
    try:
        reply = send(gateway, form(file=File(BIG), model="x/auto"))
    finally:
        away.rename(gateway.data)
    assert (reply.status, reply.fault) == (503, "tunegate_overloaded")
    assert "before the file" in json.loads(reply.body)["error"]["message"]


def test_disk_for_waiting_forms_is_bounded_for_all_together_and_given_back(start, upstream, scripted):
    limits = {"upload_disk_bytes": 4_000_000}
    gateway = start({"gateway": limits, "endpoint": [endpoint(upstream.url)], "route": [route("x/*")]})
    model = scripted(scripts.reply(TEXT))
    late, early = form(file=File(BIG), model=f"x/{model}"), form(model=f"x/{model}", file=File(BIG))
    waiting = began(gateway, len(late))
    waiting.send(late[:-200])
    eventually(lambda: send(gateway, late).fault == "tunegate_overloaded", 15)
    assert send(gateway, early).body == TEXT, "what need not wait passes"
    waiting.send(late[-200:])
    assert waiting.response().body == TEXT
    for _ in range(3):
        assert send(gateway, late).body == TEXT


@pytest.mark.parametrize(("end", "said"), [("kill9", "interrupted"), ("stop", "stopped")])
def test_a_gateway_that_ends_in_the_middle_of_an_upload_settles_it_and_leaves_no_file(start, upstream, end, said):
    config = {"gateway": {"drain_timeout": 1.0}, "endpoint": [endpoint(upstream.url)], "route": [route("x/*")]}
    gateway, rids = start(config), (new_id(), new_id())
    early, late = form(model="x/m", file=File(BIG)), form(file=File(BIG), model="x/m")
    for body, rid in zip((early, late), rids, strict=True):
        began(gateway, len(body), rid=rid).send(body[:-200])
    eventually(lambda: gateway.metric("tunegate_in_flight_requests") == 1)
    getattr(gateway, end)()
    gateway.start()
    assert gateway.row(rids[0])["end"] == said
    assert not gateway.rows(rids[1]), "a request whose model is not known was never admitted"
    assert not [path for path in gateway.data.iterdir() if path.name.startswith("tmp")]


def test_uploads_at_once_do_not_mix(gateway, upstream, scripted):
    models = [scripted(scripts.reply(TEXT)) for _ in range(12)]
    bodies = {model: form(model=f"x/{model}", file=File(model.encode() * 60_000)) for model in models}
    threads = [threading.Thread(target=send, args=(gateway, body)) for body in bodies.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for model, body in bodies.items():
        [seen] = upstream.of(model)
        assert seen.body == body.replace(b"x/" + model.encode(), model.encode())
