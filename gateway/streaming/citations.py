"""What the numbers in an answer mean: `citations`, for routes that say that their clients know the member.

Each is shaped like OpenAI's file citations: {"type": "file_citation", "index": 1, "file_id": …, "filename": …} and
where in the document it stands. A whole answer of /v1/chat/completions has them in each message, a stream in the delta
of one more chunk before `[DONE]`; whole answers of other dialects have them beside everything else, their streams
have none.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.context import Context

_DONE = b"data: [DONE]"


def wanted(ctx: Context) -> bool:
    """Whether the answer is to carry citations."""
    knowledge, found = ctx.route.knowledge, ctx.retrieved
    return knowledge is not None and knowledge.citations and found is not None and bool(found.passages)


def citations(passages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One for each passage, in the order of their numbers."""
    return [
        {
            "type": "file_citation", "index": number, "file_id": one["document"], "filename": one["title"],
            "page": one.get("page"), "section": one["section"], "chunk_id": one["chunk"], "start": one.get("start"),
            "end": one.get("end"), "score": one.get("score"), "knowledge_base": one["base"],
        }
        for number, one in enumerate(passages, 1)
    ]  # fmt: skip


def in_body(ctx: Context, body: bytes) -> bytes:
    """A whole answer with its citations; the same bytes where it is no JSON object."""
    assert ctx.retrieved is not None
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if not isinstance(document, dict) or ctx.end != "success":
        return body
    told = citations(ctx.retrieved.passages)
    choices = document.get("choices") if ctx.operation.name == "chat" else None
    if not isinstance(choices, list):
        return orjson.dumps({**document, "citations": told})
    for choice in choices:
        if isinstance(choice, dict) and isinstance(choice.get("message"), dict):
            choice["message"]["citations"] = told
    return orjson.dumps(document)


def in_stream(ctx: Context, last: bytes) -> bytes:
    """The last events of a stream, with one more chunk before `[DONE]`."""
    assert ctx.retrieved is not None
    if ctx.operation.name != "chat" or _DONE not in last:
        return last
    delta = {"citations": citations(ctx.retrieved.passages)}
    chunk = {
        "id": f"chatcmpl-{ctx.id}", "object": "chat.completion.chunk", "created": int(ctx.ts),
        "model": ctx.call.model, "choices": [{"index": 0, "delta": delta, "finish_reason": None}],
    }  # fmt: skip
    before, done, after = last.partition(_DONE)
    return b"%bdata: %b\n\n%b%b" % (before, orjson.dumps(chunk), done, after)
