"""The parsers under fuzz: each target takes dice, makes hostile input, and asserts what must hold for any input."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from itertools import pairwise
from typing import get_args

import orjson

from gateway.contract.patterns import Redaction
from gateway.copies.render import render
from gateway.errors import GatewayError
from gateway.protocols.multipart import Form
from gateway.protocols.sse import Framer, split
from gateway.providers.splice import replace_model, rewrite
from gateway.redact import Redactor
from gateway.streaming.find import last_object
from tests.fakes.forms import TYPE as FORM_TYPE, File, form

Dice = random.Random
Target = Callable[[Dice], None]

SPICE = [b"\r\n", b"\n", b"\r", b"\n\n", b"\r\n\r\n", b"\0", b"\xff", b":", b" ", b"0", b"-1", b"data:", b"{", b"}",
         b'"', b"\\", b'"usage"', b'"model"', b"\\u006", b"[", b",", b"1e9", "中".encode()]  # fmt: skip
EVENTS = [b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', b": ping\r\n\r\n", b"data: [DONE]\n\n",
          b"event: x\rdata: y\r\r", b'data: {"usage":{"prompt_tokens":1,"details":{"cached":0}}}\n\n',
          b"data: one\ndata: two\n\n"]  # fmt: skip
BODIES = [b'{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"stream":true}',
          b'{"messages":[{"content":"\\"model\\":\\"gpt-4o\\""}],"model" :\t"gpt-4o"}',
          b'{"tools":[{"model":"gpt-4o"}],"mod\\u0065l":"gpt-4o","n":1.50}',
          '{"x":"中文 \U0001f600","model":"gpt-4o","stream_options":{"a":[1,{"b":null}]}}'.encode()]  # fmt: skip


STREAMED: dict[str, Callable[[list[str]], list[object]]] = {
    "chat": lambda cuts: [{"choices": [{"delta": {"content": cut}}]} for cut in cuts],
    "gemini": lambda cuts: [{"candidates": [{"content": {"parts": [{"text": cut}]}}]} for cut in cuts],
    "messages": lambda cuts: [
        {"type": "message_start", "message": {"content": []}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": cut}} for cut in cuts),
    ],
    "responses": lambda cuts: [
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": cut} for cut in cuts
    ],
}
"""A text in pieces, in the dialects that clients speak."""


class Found(Exception):
    """An invariant that does not hold, and the input that shows it."""

    def __init__(self, data: object, why: str) -> None:
        super().__init__(f"{why}\ninput: {data!r}")


def mutated(dice: Dice, data: bytes, most: int = 6) -> bytes:
    """A few cuts, flips, insertions and repetitions."""
    found = bytearray(data)
    for _ in range(dice.randint(0, most)):
        at = dice.randrange(len(found) + 1)
        match dice.randrange(5):
            case 0:
                del found[at : at + dice.randint(1, 20)]
            case 1:
                found[at:at] = dice.choice(SPICE)
            case 2 if at < len(found):
                found[at] = dice.randrange(256)
            case 3:
                found[at:at] = found[at : at + dice.randint(1, 60)] * dice.randint(1, 3)
            case _:
                found[at:at] = found[dice.randrange(len(found) + 1) :][:40]
    return bytes(found)


def pieces(dice: Dice, data: bytes) -> list[bytes]:
    """The data as a network might deliver it: whole, in a few parts, or byte by byte."""
    count = dice.choice([0, 1, 3, len(data)])
    borders = sorted({0, len(data), *(dice.randrange(len(data) + 1) for _ in range(count))})
    return [data[a:b] for a, b in pairwise(borders)]


def contents(stream: bytes) -> list[bytes]:
    """What a client reads of a stream: the standard's algorithm, line by line (WHATWG HTML, section 9.2.6)."""
    found, data = [], []
    for line in re.split(rb"\r\n|\n|\r", stream)[:-1]:  # what follows the last line end is no line yet
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            found.append(b"\n".join(data).strip())
            data = []
    return [content for content in found if content]


def framer(dice: Dice) -> None:
    """Any cut of any stream gives back its bytes, and the events of the uncut stream."""
    stream = mutated(dice, b"".join(dice.choices(EVENTS, k=dice.randint(1, 6))))
    limit = dice.choice([40, 100_000])
    parts = pieces(dice, stream)
    framer, blocks = Framer(limit), list[bytes]()
    try:
        for part in parts:
            blocks.append(framer.feed(part))
    except ValueError:
        if limit > len(stream):
            raise Found(parts, "a short event was called too long") from None
        return
    rest = framer.flush()
    if b"".join(blocks) + rest != stream:
        raise Found(parts, "bytes were lost or made up")
    events = [event for block in blocks if block for event in split(block)]
    if b"".join(events) != b"".join(blocks):
        raise Found(parts, "split loses bytes")
    if [data for event in [*events, rest] for data in contents(event)] != contents(stream):
        raise Found(parts, "the cut changed the events")


def splice(dice: Dice) -> None:
    """A body that parses is spliced to what a parser would have made of it, or refused; nothing else is raised."""
    body = mutated(dice, dice.choice(BODIES))
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    if not isinstance(document, dict) or not isinstance(document.get("model"), str) or not document["model"]:
        return  # the parser in front has refused it
    new, options = json.dumps(dice.choice(["x", "\0", "中", '"'])).encode(), b'{"include_usage":true}'
    try:
        one = b"".join(replace_model(body, orjson.dumps(document["model"]), new))
        two = b"".join(rewrite(body, {"model": new, "stream_options": options}))
    except GatewayError as error:
        if not error.code.startswith("caller_"):
            raise Found(body, f"refused as {error.code}") from error
        return
    if orjson.loads(one) != {**document, "model": json.loads(new)}:
        raise Found(body, f"replace_model made {one!r}")
    expected = {**document, "model": json.loads(new)}
    if "stream_options" in document:
        expected["stream_options"] = json.loads(options)
    if orjson.loads(two) != expected:
        raise Found(body, f"rewrite made {two!r}")


PRIVATE = ["13812345678", "alice@example.com", "11010519491231002X", "4111111111111111", "sk-0123456789abcdef"]
STRICT = Redactor(get_args(Redaction), ())


def log(dice: Dice) -> None:
    """Any bytes become some text of the right length, and what must not be kept is not in it, however it was spelt."""
    secret = dice.choice(PRIVATE)
    text = dice.choice(["", "x ", "\n", "“"]) + secret + dice.choice(["", " x", "\n", "”"])
    if dice.random() < 0.5:
        body = json.dumps({"a": [text], secret: 1}, ensure_ascii=dice.random() < 0.5).encode()
        if dice.random() < 0.3:
            body = body.replace(secret[:1].encode(), b"\\u%04x" % ord(secret[0]))
    else:
        cuts = pieces(dice, text.encode())
        tell = dice.choice(list(STREAMED.values()))
        deltas = tell([cut.decode(errors="ignore") for cut in cuts])
        body = b"".join(b"data: %b\n\n" % orjson.dumps(delta) for delta in deltas)
    cut = dice.random() < 0.1
    kept = render(body, cut, STRICT, 100_000, {}).text
    if secret in kept and not (cut and body.startswith(b"data:")):
        raise Found(body, f"kept {secret}")
    most = dice.choice([256, 1000])
    kept = render(mutated(dice, body * dice.choice([1, 9])), cut, STRICT, most, {}).text
    if len(kept.encode()) > most:
        raise Found(body, "kept too much")


def find(dice: Dice) -> None:
    """What is found is a JSON object that stands in the bytes; a document's own last usage is found."""
    usage = {"prompt_tokens": dice.randrange(99), "details": {"cached": dice.randrange(9), "deep": {"er": None}}}
    if dice.random() < 0.5:
        text = dice.choice(['"usage":{"a":1}', "usage", "{", "\\"])
        data = orjson.dumps({"text": text, "usage": usage})
        if last_object(data) != usage:
            raise Found(data, "the usage was not found")
        return
    data = mutated(dice, b"".join(dice.choices(EVENTS, k=3)) + orjson.dumps({"usage": usage}), 10)
    found = last_object(data)
    if found is not None and not isinstance(found, dict):
        raise Found(data, f"found {found!r}")


FORMS = [form(model="x/m", file=File(b"RIFF\r\n--XyZ-\r\n"), language="zh"), form(file=File(b""), model="x/m")]


def multipart(dice: Dice) -> None:
    """However a form is cut, it has the same fields in the same places, or is refused."""
    body = mutated(dice, dice.choice(FORMS)) if dice.random() < 0.8 else dice.choice(FORMS)
    whole, cut = _fields(body, [body]), _fields(body, pieces(dice, body))
    if whole != cut:
        raise Found(body, f"{whole} whole, {cut} in pieces")


def _fields(body: bytes, arriving: list[bytes]) -> object:
    found = Form(FORM_TYPE)
    try:
        for piece in arriving:
            found.feed(piece)
        found.end()
    except GatewayError as error:
        return error.code
    for name, span in found.spans.items():
        if name in found.fields and body[span.start : span.end].decode() != found.fields[name]:
            raise Found(body, f"{name} is not at {span}")
    return found.fields, found.spans
