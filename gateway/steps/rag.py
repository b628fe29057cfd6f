"""Passages of the route's knowledge bases, put before the conversation as numbered quotations.

A document may say anything, also "ignore your instructions": its text is fenced as data, and whatever looks like a
control token of a chat template, or like the fence itself, is taken out of it.
"""

from __future__ import annotations

import random
import re
import time
from typing import Any

import orjson

from gateway.context import Context, Retrieved
from gateway.contract.retrieval import QUERY_CHARS
from gateway.contract.snapshot import PASSAGES, Knowledge
from gateway.errors import GatewayError
from gateway.protocols.canonical import Message, Request, Text, ToolCall, ToolResult, Usage
from gateway.retrieval.base import Found, RetrievalError, Retriever
from gateway.runtime import Target
from gateway.streaming.consultation import ROUNDS, Consultation

NOTHING = "(No passage was found.)"
CALLS = 4
"""Searches that one answer of a model may ask for."""
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
        request = dialect.read_request(document)
        if knowledge.when == "tool" and _may_ask(ctx, request):
            ctx.consultation = Consultation(knowledge.about, [tool.name for tool in request.tools])
            return document
        if ctx.guarded is not None:  # a mask is found in no document
            request = dialect.read_request(ctx.guarded.before)
        question = question_of(request.messages)
        if not question:
            return document
        found = await self._search(ctx, knowledge, question)
        if not found.passages and (knowledge.when != "always" or found.outcome == "failed"):
            return document
        return dialect.with_system(document, written(knowledge.template, dict(enumerate(found.passages, 1))))

    async def consulted(self, ctx: Context, target: Target) -> None:
        """Search for what the model, last at `target`, wants to know, and make it the next turn of the conversation.

        Raises GatewayError as `apply` does.
        """
        knowledge, consultation = ctx.route.knowledge, ctx.consultation
        assert knowledge is not None
        assert consultation is not None
        results = []
        for number, call in enumerate(consultation.asked, 1):
            query = _query(call)
            if query is not None and ctx.guarded is not None:
                query = ctx.guarded.restored(query)
            if number > CALLS or query is None:
                wrong = f"At most {CALLS} searches at a time." if query else 'Give {"query": "…"}, some words of text.'
                results.append(ToolResult(call.id, [Text(wrong)], call.name, failed=True))
                continue
            text = await self._looked_up(ctx, knowledge, query)
            if consultation.rounds + 1 == ROUNDS:
                text += "\nThis was the last search: answer now."
            results.append(ToolResult(call.id, [Text(text)], call.name))
        if ctx.usage is None:
            guess = Usage(input=ctx.call.prompt_estimate, output=ctx.relayed_tokens)
            ctx.usage, ctx.relayed_tokens, consultation.estimated = consultation.total(guess), 0, True
        consultation.answered(results, ctx.usage, target.prices.cost(consultation.since(ctx.usage)))

    async def _looked_up(self, ctx: Context, knowledge: Knowledge, query: str) -> str:
        """What the model is told of one search; passages keep the numbers that they had in earlier ones."""
        before = ctx.retrieved
        now = await self._search(ctx, knowledge, query)
        known = list(before.passages) if before is not None else []
        places = {(one["base"], one["chunk"]): number for number, one in enumerate(known, 1)}
        numbered = {}
        for passage in now.passages:
            place = places.setdefault((passage["base"], passage["chunk"]), len(places) + 1)
            if place > len(known):
                known.append(passage)
            numbered[place] = passage
        if before is not None:
            outcome = "found" if known else now.outcome
            rerank = "failed" if "failed" in (before.rerank, now.rerank) else now.rerank
            ctx.retrieved = now._replace(
                outcome=outcome, passages=known, rerank=rerank, started=before.started, ms=before.ms + now.ms
            )
        if now.outcome == "failed":
            return "The search failed. Answer without it, and say that the documents could not be searched."
        return written(knowledge.template, numbered)

    async def _search(self, ctx: Context, knowledge: Knowledge, question: str) -> Retrieved:
        trial = random.random() < knowledge.trial if ctx.retrieved is None else ctx.retrieved.trial
        request = {
            "bases": knowledge.bases,
            "query": question,
            "principal": {"key": ctx.key.name, "team": ctx.key.team},
            "limits": {
                "top_k": knowledge.top_k, "score_floor": knowledge.score_floor, "token_budget": knowledge.token_budget,
            },
            "trial": trial,
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
        ctx.retrieved = retrieved = Retrieved(outcome, *found, trial, started, took * 1000.0, trace)  # type: ignore[arg-type]
        ctx.upstream_seconds += took
        if problem is not None and knowledge.on_failure == "closed":
            raise GatewayError("tunegate_retrieval", f"This model answers with passages only, and {problem}.")
        return retrieved


def _may_ask(ctx: Context, request: Request) -> bool:
    """Whether the model can be given a tool: not where it must call another or none, or where it answers several times,
    or where no model answers at all.
    """
    free = request.tool_choice is None or request.tool_choice.mode == "auto"
    return free and (request.n or 1) == 1 and ctx.operation.translates and ctx.operation.estimate is None


def _query(call: ToolCall) -> str | None:
    """What a call of the tool looks for; None if it does not say."""
    try:
        query = orjson.loads(call.arguments)["query"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return query.strip()[-QUERY_CHARS:] or None if isinstance(query, str) else None


def question_of(messages: list[Message]) -> str:
    """What the last user message asks; its end, if it is too long for a search."""
    for message in reversed(messages):
        if message.role == "user" and (text := message.text().strip()):
            return text[-QUERY_CHARS:]
    return ""


def written(template: str, passages: dict[int, dict[str, Any]]) -> str:
    """The template with the passages by number, each behind its number and its source."""
    told = "\n".join(_one(number, passage) for number, passage in passages.items())
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
