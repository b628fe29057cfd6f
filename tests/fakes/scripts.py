"""Ready-made answers of the fake upstream: framings of a reply, and whole conversations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from tests.fakes import wire
from tests.fakes.upstream import Close, Seen, Send, Served, Sleep, Step
from tests.fakes.wire import Usage

Framing = Literal["length", "chunked", "close"]
Answer = Callable[[Seen], list[Step]]
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


def head(status: int = 200, kind: str = "application/json", **more: str) -> bytes:
    """Status line and headers, without the framing header and the blank line."""
    lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Something')}", f"content-type: {kind}"]
    lines += [f"{k.replace('_', '-')}: {v}" for k, v in more.items()]
    return "\r\n".join(lines).encode() + b"\r\n"


def frame(data: bytes, framing: Framing = "chunked") -> bytes:
    """A piece of the body in its framing."""
    return b"%x\r\n%b\r\n" % (len(data), data) if framing == "chunked" else data


def reply(
    body: bytes,
    status: int = 200,
    kind: str = "application/json",
    *,
    framing: Framing = "length",
    tail: bytes = b"",
    served: Usage | None = None,
    **headers: str,
) -> list[Step]:
    """A complete reply in one write; `tail` is sent after its proper end."""
    start = head(status, kind, **headers)
    if framing == "length":
        data = start + b"content-length: %d\r\n\r\n" % len(body) + body
    elif framing == "chunked":
        data = start + b"transfer-encoding: chunked\r\n\r\n" + frame(body) + b"0\r\n\r\n"
    else:
        data = start + b"connection: close\r\n\r\n" + body
    steps: list[Step] = [Send(data + tail)]
    if served is not None:
        steps.insert(0, Served(served))
    if framing == "close":
        steps.append(Close())
    return steps


def error(
    status: int, message: str = "The server had an error", *, code: str | None = None, **headers: str
) -> list[Step]:
    """An error in OpenAI's shape."""
    return reply(wire.error_body(message, code=code), status, **headers)


def start_stream(framing: Framing = "chunked", kind: str = "text/event-stream", **headers: str) -> Send:
    """The headers of an event stream."""
    last = b"transfer-encoding: chunked\r\n\r\n" if framing == "chunked" else b"connection: close\r\n\r\n"
    return Send(head(200, kind, cache_control="no-cache", **headers) + last)


def stream(
    parts: Iterable[bytes | Step],
    *,
    framing: Framing = "chunked",
    gap: float = 0.0,
    end: bool = True,
    served: Usage | None = None,
    **headers: str,
) -> list[Step]:
    """An event stream: bytes are framed, one write each; steps run as they are. `end` closes the framing."""
    steps: list[Step] = [start_stream(framing, **headers)]
    for part in parts:
        if served is not None and isinstance(part, bytes) and b'"usage":{' in part:
            steps.append(Served(served))  # from here on the client may know the usage
            served = None
        if isinstance(part, bytes):
            steps.append(Send(frame(part, framing)))
            if gap:
                steps.append(Sleep(gap))
        else:
            steps.append(part)
    if end:
        steps.append(Send(b"0\r\n\r\n") if framing == "chunked" else Close())
        if served is not None:
            steps.insert(-1, Served(served))
    return steps


def byte_by_byte(data: bytes, *, framing: Framing = "chunked") -> list[Step]:
    """A stream of one-byte pieces, each its own chunk."""
    return stream((data[i : i + 1] for i in range(len(data))), framing=framing)


def chat(
    words: Sequence[str] = ("Hello", " world"),
    usage: Usage | None = Usage(),  # noqa: B008 - frozen
    *,
    flavour: str = "openai",
    gap: float = 0.0,
    framing: Framing = "chunked",
) -> Answer:
    """A well-behaved provider: chat, completions or embeddings, stream or not, as the request asks."""

    def answer(seen: Seen) -> list[Step]:
        model, asked = seen.model, seen.asks_usage
        if seen.target.endswith("/embeddings"):
            tokens = (usage or Usage()).prompt
            inputs = seen.json.get("input")
            count = len(inputs) if isinstance(inputs, list) else 1
            return reply(wire.embedding_body(count, tokens, model), served=Usage(tokens, 0))
        legacy = not seen.target.endswith("/chat/completions")
        if seen.stream:
            make = wire.completion_stream if legacy else wire.STREAMS[flavour]
            return stream(make(words, usage, model, asked=asked), gap=gap, framing=framing, served=usage)
        text = "".join(words)
        if legacy:
            return reply(wire.completion_body(text, usage or Usage(), model), served=usage)
        shape = {"zhipu": "zhipu", "dashscope": "zhipu"}.get(flavour, flavour)
        use = getattr(usage, shape)() if usage is not None else None
        return [Sleep(gap), *reply(wire.chat_body(text, use, model), served=usage)]

    return answer


def auto() -> Answer:
    """The default: `chat`, where the request's `metadata` may choose tokens, words and pace.

    `{"metadata": {"words": 5, "gap": 0.01, "prompt": 11, "completion": 5}}`
    """

    def answer(seen: Seen) -> list[Step]:
        wish = seen.json.get("metadata")
        wish = wish if isinstance(wish, dict) else {}
        words = [f"w{i} " for i in range(int(wish.get("words", 2)))]
        usage = Usage(int(wish.get("prompt", 20)), int(wish.get("completion", 10)))
        return chat(words, usage, gap=float(wish.get("gap", 0.0)))(seen)

    return answer


def stream_text(steps: Iterable[Step]) -> bytes:
    """Everything that a script sends, framing included."""
    return b"".join(s.data for s in steps if isinstance(s, Send))


def payloads(body: bytes) -> list[dict[str, object]]:
    """The JSON objects of an event stream, without [DONE]: a plain reading for well-formed streams."""
    found = []
    for line in body.replace(b"\r\n", b"\n").split(b"\n"):
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            found.append(json.loads(line[5:]))
    return found
