"""The dialects under fuzz: streams, answers and requests of every vendor, mutated; any dialect reads, all others write.

The seeds are the golden fixtures. Whatever comes in, a reader raises BadReply or ValueError and nothing else, a request
is refused by GatewayError and nothing else, and what was read can be written in every other dialect.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import orjson

from gateway.errors import GatewayError
from gateway.protocols.base import BadReply, Origin
from gateway.protocols.canonical import Broken, Delta, Message, Request, Text
from gateway.protocols.collect import Collector
from tests.fuzz.targets import Found, mutated, pieces
from tests.gateway.protocols import eventstream
from tests.gateway.protocols.dialects import INBOUND, OUTBOUND, SPOKEN
from tests.gateway.protocols.golden import CASES, having, load, rendered

Dice = random.Random
FIXTURES = {case: load(case) for case in CASES}
WITH = {member: having(member) for member in ("request", "reply", "stream")}
JUNK: list[Any] = [None, True, 0, -1, 1 << 62, 1.5, "", "text", "中", "data:;base64,", [],
                   {}, [None], [[]], [{}], ["x"],
                   {"type": "text"}, {"text": 1}, {"error": {"code": []}}, [{"type": []}]]  # fmt: skip
REQUEST = Request([Message("user", [Text("Hello")])], include_usage=True)
ORIGIN = Origin("req-1", "a-model", 1)
LIMIT = 100_000
FRAMED = "bedrock-events"


def spoilt(dice: Dice, document: Any) -> Any:
    """The document with a few values replaced, swapped or taken out."""
    document = copy.deepcopy(document)
    for _ in range(dice.randint(0, 4)):
        holder, key = dice.choice(list(_places(document)) or [(None, None)])
        match dice.randrange(4):
            case 0 if holder is not None:
                del holder[key]
            case 1 if holder is not None:
                other, at = dice.choice(list(_places(document)))
                holder[key] = copy.deepcopy(other[at])
            case _ if holder is not None:
                holder[key] = copy.deepcopy(dice.choice(JUNK))
    return document


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    else:
        return []
    return [(value, key) for key, _ in inner] + [place for _, one in inner for place in _places(one)]


def stream(dice: Dice) -> None:
    """A broken stream is a BadReply or a ValueError; what was read before can be told in any dialect."""
    case = dice.choice(WITH["stream"])
    fixture = FIXTURES[case]
    kind = case.partition("/")[0]
    often = dice.choice([0.0, 0.1, 0.5])
    events = [
        {**one, "data": spoilt(dice, one["data"]) if dice.random() < often else one["data"]}
        for one in fixture["stream"]
    ]
    if dice.random() < 0.2:
        dice.shuffle(events)
    data = b"".join(rendered(kind, events))
    if dice.random() < 0.5:
        data = mutated(dice, data)
    _tell(data, _read(kind, pieces(dice, data)), dice.choice(list(INBOUND)))


def _read(kind: str, arriving: list[bytes]) -> list[Delta]:
    """What a stream says until it breaks."""
    dialect, usage = SPOKEN[kind]
    framer, reader = dialect.framer(LIMIT), dialect.reader(usage)
    found: list[Delta] = []
    try:
        for piece in arriving:
            for event in framer.feed(piece):
                found += reader.read(event)
        for event in framer.rest():
            found += reader.read(event)
        found += reader.end()
    except (BadReply, ValueError):
        pass
    return found


def seeds(kind: str) -> list[bytes]:
    """The golden streams of a dialect; of `bedrock-events` the events in lines, since its frames have check sums."""
    if kind == FRAMED:
        streams = [FIXTURES[case]["stream"] for case in WITH["stream"] if case.startswith("bedrock/")]
        return [b"\n".join(b"%b %b" % (e["event"].encode(), orjson.dumps(e["data"])) for e in one) for one in streams]
    return [
        b"".join(rendered(kind, FIXTURES[case]["stream"])) for case in WITH["stream"] if case.startswith(f"{kind}/")
    ]


def decode(kind: str, data: bytes, cuts: int) -> None:
    """As `stream`, for input that somebody else has made; it arrives whole, or in reads of `cuts` bytes."""
    if kind == FRAMED:
        kind, lines = "bedrock", (line.partition(b" ") for line in data.split(b"\n"))
        data = b"".join(eventstream.event(name.decode("latin-1")[:100], payload) for name, _, payload in lines)
    arriving = [data] if not cuts else [data[at : at + cuts] for at in range(0, len(data), cuts)]
    found = _read(kind, arriving)
    for name in INBOUND:
        _tell(data, found, name)


def _tell(data: object, found: list[Delta], name: str) -> None:
    """What was read can be told in a dialect, and collects."""
    collector = Collector()
    for delta in found:
        if not isinstance(delta, Broken):
            collector.add(delta)
    inbound = INBOUND[name]
    writer = inbound.writer(REQUEST, ORIGIN)
    try:
        for delta in found:
            writer.write(delta)
        writer.end()
        inbound.write_reply(collector.reply, REQUEST, ORIGIN)
    except Exception as error:
        raise Found(data, f"cannot be told in {name}: {error!r}") from error


def answer(dice: Dice) -> None:
    """A broken answer is a BadReply; one that was read is written in every dialect."""
    case = dice.choice(WITH["reply"])
    document = spoilt(dice, FIXTURES[case]["reply"])
    dialect, usage = SPOKEN[case.partition("/")[0]]
    try:
        reply = dialect.read_reply(document, usage)
    except BadReply:
        return
    for name, inbound in INBOUND.items():
        try:
            inbound.write_reply(reply, REQUEST, ORIGIN)
        except Exception as error:
            raise Found(document, f"cannot be told in {name}: {error!r}") from error


def question(dice: Dice) -> None:
    """Any document is a request, or refused; a request is written in every dialect, or refused."""
    case = dice.choice(WITH["request"])
    fixture = FIXTURES[case]
    reader = INBOUND.get(case.partition("/")[0], INBOUND["openai"])
    document = spoilt(dice, fixture.get("chat", fixture["request"]))
    if not isinstance(document, dict):
        return
    request = _refused(document, "read", lambda: reader.read_request(document))
    if request is None:
        return
    for name, outbound in OUTBOUND.items():
        _refused(document, name, lambda outbound=outbound: outbound.write_request(request, "a-model"))  # type: ignore[misc]


def _refused(document: Any, name: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except GatewayError as error:
        if error.code not in ("caller_bad_request", "caller_unsupported"):
            raise Found(document, f"refused as {error.code}") from error
    except Exception as error:
        raise Found(document, f"{name}: {error!r}") from error
    return None
