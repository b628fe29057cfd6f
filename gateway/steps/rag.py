"""Passages of the route's knowledge bases, put before the conversation as numbered quotations.

A document may say anything, also "ignore your instructions": its text is fenced as data, and whatever looks like a
control token of a chat template, or like the fence itself, is taken out of it.
"""

from __future__ import annotations

import re
import time
from typing import Any

from gateway.context import Context, Retrieved
from gateway.contract.retrieval import QUERY_CHARS
from gateway.contract.snapshot import PASSAGES, Knowledge
from gateway.errors import GatewayError
from gateway.protocols.canonical import Message
from gateway.retrieval.base import Found, RetrievalError, Retriever

NOTHING = "(No passage was found.)"
_CONTROL = re.compile(
    r"<\|[^|<>]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|</?(?:start|end)_of_turn>|</?passages?\b[^<>]{0,200}>"
    r"|<\uff5c[^\uff5c<>]{1,40}\uff5c>|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]",
    re.IGNORECASE,
)
"""Control tokens of Qwen, Llama, Mistral, Gemma, GLM, DeepSeek; our fence; control characters."""


class Rag:
    """See `gateway.steps.base.Step`."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever

    def wanted(self, ctx: Context) -> bool:
        """Conversations only."""
        return ctx.route.knowledge is not None and ctx.operation.dialect is not None and ctx.operation.task is None

    async def apply(self, ctx: Context, document: dict[str, Any]) -> dict[str, Any]:
        """The passages in front, as the dialect says such things; `ctx.retrieved` tells what became of it.

        Raises GatewayError(tunegate_retrieval) where the search fails and the route says `closed`.
        """
        knowledge, dialect = ctx.route.knowledge, ctx.operation.dialect
        assert knowledge is not None
        assert dialect is not None
        question = question_of(dialect.read_request(document).messages)
        if not question:
            return document
        passages = await self._search(ctx, knowledge, question)
        if not passages and (knowledge.when == "found" or ctx.retrieved is None or ctx.retrieved.outcome == "failed"):
            return document
        return dialect.with_system(document, written(knowledge.template, passages))

    async def _search(self, ctx: Context, knowledge: Knowledge, question: str) -> list[dict[str, Any]]:
        request = {
            "bases": knowledge.bases,
            "query": question,
            "principal": {"key": ctx.key.name, "team": ctx.key.team},
            "limits": {
                "top_k": knowledge.top_k, "score_floor": knowledge.score_floor, "token_budget": knowledge.token_budget,
            },
        }  # fmt: skip
        trace = ctx.trace.child() if ctx.trace is not None else None
        started = time.monotonic()
        problem: RetrievalError | None = None
        found = Found([])
        try:
            found = await self._retriever.search(request, knowledge.timeout, trace)
        except RetrievalError as exc:
            problem = exc
        took = time.monotonic() - started
        outcome = "failed" if problem else "found" if found.passages else "nothing"
        ctx.retrieved = Retrieved(outcome, *found, started, took * 1000.0, trace)  # type: ignore[arg-type]
        ctx.upstream_seconds += took
        if problem is not None and knowledge.on_failure == "closed":
            raise GatewayError("tunegate_retrieval", f"This model answers with passages only, and {problem}.")
        return found.passages


def question_of(messages: list[Message]) -> str:
    """What the last user message asks; its end, if it is too long for a search."""
    for message in reversed(messages):
        if message.role == "user" and (text := message.text().strip()):
            return text[-QUERY_CHARS:]
    return ""


def written(template: str, passages: list[dict[str, Any]]) -> str:
    """The template with the passages, each behind its number and its source."""
    told = "\n".join(_one(number, passage) for number, passage in enumerate(passages, 1))
    return template.replace(PASSAGES, f"<passages>\n{told}\n</passages>" if passages else NOTHING)


def _one(number: int, passage: dict[str, Any]) -> str:
    page = passage.get("page")
    source = ", ".join(filter(None, (passage["title"], f"p. {page}" if page else "", passage["section"])))
    source = clean(source).replace('"', "'").replace("\n", " ")
    return f'<passage number="{number}" source="{source}">\n{clean(passage["text"])}\n</passage>'


def clean(text: str) -> str:
    """The text without what a model, or the fence around it, could take for more than data.

    Until nothing is found any more: taking one out may put another one together.
    """
    while True:
        text, count = _CONTROL.subn("", text)
        if not count:
            return text
