"""Hypothesis strategies: answers as any deltas that a reader may give, and what each dialect keeps of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import orjson
from hypothesis import strategies as st

from gateway.protocols import fields
from gateway.protocols.canonical import (
    Block,
    BlockEnd,
    Choice,
    CitationDelta,
    Delta,
    Finished,
    Media,
    MediaDelta,
    Refusal,
    RefusalDelta,
    Reply,
    Start,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    ToolCall,
    ToolDelta,
    ToolStart,
    Usage,
    UsageNow,
)  # fmt: skip

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["data: x\n\n", "\r\n", "[DONE]", '{"a":1}', "中文", "\U0001f600", "\\u0041", "\0", "event: error"]
)
NAMES = st.from_regex(r"[a-z][a-z_]{0,10}", fullmatch=True)
IDS = st.from_regex(r"[a-z]{3}_[0-9a-f]{4,8}", fullmatch=True)
PROOFS = st.from_regex(r"[A-Za-z0-9+/]{4,16}={0,2}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(WORDS, JSON, max_size=3).map(lambda value: orjson.dumps(value).decode())
COUNTS = st.integers(0, 10**6)


@st.composite
def citations(draw: st.DrawFn, text: str) -> dict[str, object]:
    """A citation of a page, with its place in the text."""
    start, end = sorted([draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))])
    source = {"url": "https://example.com/" + draw(NAMES), "title": draw(WORDS)}
    return {"type": "web_search_result_location", "cited_text": "", **source, "start_index": start, "end_index": end}


@st.composite
def blocks(draw: st.DrawFn, number: int) -> Block:
    """One block; `number` makes ids unique."""
    kind = draw(st.sampled_from(["text", "text", "thinking", "signed", "redacted", "call", "call", "refusal", "image"]))
    if kind == "text":
        text = draw(WORDS) + draw(WORDS)
        return Text(text, draw(st.lists(citations(text), max_size=2)))
    if kind == "thinking":
        return Thinking(draw(WORDS), draw(st.none() | PROOFS), id=f"rs_{number}")
    if kind == "signed":
        return Thinking("", draw(PROOFS), id=f"rs_{number}")
    if kind == "redacted":
        return Thinking(redacted=draw(PROOFS), id=f"rs_{number}")
    if kind == "call":
        signature = draw(st.none() | PROOFS)
        return ToolCall(f"{draw(IDS)}{number}", draw(NAMES), draw(ARGUMENTS), signature)
    if kind == "refusal":
        return Refusal(draw(WORDS))
    return Media("image", media_type="image/png", data="iVBORw0KGgo=")


@st.composite
def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces, none of them empty."""
    cuts = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=3))})
    return [text[a:b] for a, b in pairwise(cuts)]


def token(text: str) -> dict[str, object]:
    """Its log probability, in OpenAI's form."""
    top = {"token": "x", "logprob": -2.5, "bytes": [120]}
    return {"token": text, "logprob": -0.25, "bytes": list(text.encode()), "top_logprobs": [top]}


@st.composite
def said(draw: st.DrawFn, at: int, block: Block, number: int, logprobs: bool) -> list[Delta]:
    """The deltas of a block."""
    if isinstance(block, Text):
        texts = [
            TextDelta(piece, at, {"content": [token(piece)], "refusal": None} if logprobs else None)
            for piece in draw(pieces(block.text))
        ]
        return [*texts, *(CitationDelta(one, at) for one in block.citations)]
    if isinstance(block, Refusal):
        return [RefusalDelta(piece, at) for piece in draw(pieces(block.text))]
    if isinstance(block, Thinking):
        if block.redacted is not None:
            return [ThinkingDelta(redacted=block.redacted, choice=at, id=block.id)]
        thought: list[Delta] = [ThinkingDelta(piece, None, None, at, block.id) for piece in draw(pieces(block.text))]
        if block.signature is not None:
            thought.append(ThinkingDelta("", block.signature, None, at, block.id))
        return thought
    if isinstance(block, ToolCall):
        start = ToolStart(number, block.id, block.name, at, block.signature)
        return [start, *(ToolDelta(number, piece, at) for piece in draw(pieces(block.arguments)))]
    assert isinstance(block, Media)
    return [MediaDelta(block, at)]


@st.composite
def choices(draw: st.DrawFn, at: int, logprobs: bool) -> list[Delta]:
    """All deltas of one choice; parallel calls may come interleaved, and borders may be left out between kinds."""
    made = [draw(blocks(at * 10 + number)) for number in range(draw(st.integers(1, 5)))]
    found: list[Delta] = []
    calls = 0
    for block, following in zip(made, [*made[1:], None], strict=True):
        deltas = draw(said(at, block, calls, logprobs))
        if isinstance(block, ToolCall):
            calls += 1
            if found and isinstance(found[-1], ToolDelta) and draw(st.booleans()):
                found.insert(-1, deltas.pop(0))  # the call before goes on after this one has begun
        found += deltas
        texts = isinstance(block, Text | Refusal) and isinstance(following, Text | Refusal)
        if texts or type(following) is type(block) is not ToolCall or draw(st.booleans()):
            found.append(BlockEnd(at))
    reasons = ["tool_calls", "length"] if calls else ["stop", "length", "content_filter", "stop_sequence", "refusal"]
    return [*found, Finished(draw(st.sampled_from(reasons)), None, at)]  # type: ignore[arg-type]


@st.composite
def streams(draw: st.DrawFn, most: int = 1) -> list[Delta]:
    """A whole stream with up to `most` choices, which may be interleaved."""
    logprobs = draw(st.booleans())
    waiting = [draw(choices(at, logprobs)) for at in range(draw(st.integers(1, most)))]
    found: list[Delta] = [Start("id-1", "a-model", None, draw(st.none() | st.just("default")))]
    while waiting:
        one = draw(st.sampled_from(waiting)) if len(waiting) > 1 else waiting[0]
        found.append(one.pop(0))
        waiting = [left for left in waiting if left]
    usage = Usage(*(draw(COUNTS) for _ in range(5)))
    return [*found, UsageNow(usage)]


# --- what a dialect keeps


def heard(name: str, reply: Reply) -> Reply:
    """What of an answer can be told in a dialect, in its own words."""
    reply = replace(reply, choices=[replace(one, blocks=list(one.blocks), stop_sequence=None) for one in reply.choices])
    for choice in reply.choices:
        {"openai": _chat, "anthropic": _anthropic, "responses": _responses, "gemini": _gemini}[name](choice)
    if name == "gemini":
        reply.id, reply.service_tier = "req-1", None
    elif name == "openai":
        reply.id = "chatcmpl-req-1"
    elif name == "anthropic":
        reply.id, reply.choices = "msg_req-1", reply.choices[:1]
    else:
        reply.id, reply.choices = "resp_req-1", reply.choices[:1]
        reply.service_tier = reply.service_tier or "default"
    if reply.usage is not None and name == "gemini":  # tokens that were written to a cache are input there
        given, read, written, made, thought = reply.usage
        reply.usage = Usage(given + written, read, 0, made, thought)
    return reply


def in_members(reply: Reply) -> Reply:
    """A whole chat completion tells its text, its thoughts and its calls by member, not in their order."""
    kinds = (Thinking, Text, Refusal, ToolCall)
    for choice in reply.choices:
        choice.blocks = sorted(choice.blocks, key=lambda block: kinds.index(type(block)))  # type: ignore[arg-type]
        _chat(choice)
    return reply


def _chat(choice: Choice) -> None:
    """No media, no borders between texts; a call's arguments and a text's citations as they are."""
    words = {"stop_sequence": "stop", "refusal": "content_filter"}
    choice.finish = words.get(choice.finish or "stop", choice.finish)  # type: ignore[assignment]
    joined: list[Block] = []
    for block in choice.blocks:
        last = joined[-1] if joined else None
        if isinstance(block, Media):
            continue
        if isinstance(block, Text) and isinstance(last, Text):
            joined[-1] = Text(last.text + block.text, last.citations + block.citations)
        elif isinstance(block, Refusal) and isinstance(last, Refusal):
            joined[-1] = Refusal(last.text + block.text)
        elif isinstance(block, Thinking) and isinstance(last, Thinking) and _open(last) and block.redacted is None:
            joined[-1] = Thinking(last.text + block.text, block.signature, id=block.id)
        else:
            joined.append(block)
    choice.blocks = joined


def _open(block: Thinking) -> bool:
    return block.signature is None and block.redacted is None


def _responses(choice: Choice) -> None:
    """Everything but how an answer was stopped."""
    words = {"stop_sequence": "stop", "refusal": "content_filter"}
    choice.finish = words.get(choice.finish or "stop", choice.finish)  # type: ignore[assignment]


def _anthropic(choice: Choice) -> None:
    """A refusal is text, there are no images of its own, and no ids of thinking."""
    if choice.finish == "content_filter":
        choice.finish = "refusal"
    choice.logprobs = None
    joined: list[Block] = []
    for block in choice.blocks:
        if isinstance(block, Refusal):
            block = Text(block.text)  # noqa: PLW2901
        if isinstance(block, ToolCall):
            arguments = orjson.dumps(fields.arguments_of(block.arguments)).decode()
            joined.append(replace(block, signature=None, arguments=arguments))
        elif isinstance(block, Thinking):
            joined.append(replace(block, id=None))
        elif not isinstance(block, Media):
            joined.append(block)
    choice.blocks = joined


def _gemini(choice: Choice) -> None:
    """A refusal is text, texts are joined, citations belong to all text, thinking has no id."""
    words = {"stop_sequence": "stop", "refusal": "content_filter"}
    choice.finish = words.get(choice.finish or "stop", choice.finish)  # type: ignore[assignment]
    joined: list[Block] = []
    citations = [one for block in choice.blocks if isinstance(block, Text) for one in block.citations]
    for block in choice.blocks:
        last = joined[-1] if joined else None
        if isinstance(block, Text | Refusal):
            if isinstance(last, Text):
                joined[-1] = Text(last.text + block.text)
            else:
                joined.append(Text(block.text))
        elif isinstance(block, Thinking):
            if block.text and isinstance(last, Thinking) and last.text and _open(last):
                joined[-1] = Thinking(last.text + block.text, block.signature)
            else:
                joined.append(replace(block, id=None))
        elif isinstance(block, ToolCall):
            arguments = orjson.dumps(fields.arguments_of(block.arguments)).decode()
            joined.append(replace(block, arguments=arguments))
        else:
            joined.append(block)
    texts = [block for block in joined if isinstance(block, Text)]
    if texts:
        texts[-1].citations = citations
    choice.blocks = joined
