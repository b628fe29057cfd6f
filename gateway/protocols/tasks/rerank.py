"""Rerank: as Cohere's older API, Jina and vLLM have it, and as Cohere's version 2 and its models at Bedrock do.

https://docs.cohere.com/v2/reference/rerank, https://docs.cohere.com/v1/reference/rerank, https://jina.ai/reranker
(read 2026-11)
"""

from __future__ import annotations

import orjson

from gateway.protocols import answers, fields
from gateway.protocols.base import BadReply, Origin, bad, unsupported
from gateway.protocols.canonical import Document, Usage
from gateway.protocols.fields import without_nones
from gateway.protocols.tasks.base import Place, Rank, Ranking

_KNOWN = frozenset({"model", "query", "documents", "top_n", "return_documents"})
_COHERES = frozenset({"max_tokens_per_doc", "priority"})


class AskedForRanks:
    """See `gateway.protocols.tasks.base.TaskIn`. Documents are texts, or objects with a `text`."""

    task = "rerank"

    def read(self, document: Document) -> Rank:
        """The members that Cohere and Jina share."""
        texts = []
        for at, one in enumerate(document["documents"]):
            text = one.get("text") if isinstance(one, dict) else one
            if not isinstance(text, str):
                raise bad(f"documents[{at}]", "must be a text, or an object with one as its `text`.")
            texts.append(text)
        top = fields.whole(document, "top_n")
        if top is not None and top < 1:
            raise bad("top_n", "must be at least 1.")
        extra = {name: value for name, value in document.items() if name not in _KNOWN}
        wanted = fields.flag(document, "return_documents") or False
        return Rank(fields.needed(document, "query"), texts, top, wanted, extra)

    def write(self, answer: Ranking, request: Rank, origin: Origin) -> bytes:
        """`results`, the best first."""
        results = [
            {"index": at, "relevance_score": score}
            | ({"document": {"text": request.documents[at]}} if request.with_documents else {})
            for at, score in answer.places
        ]
        body: Document = {"id": origin.id, "model": origin.model, "results": results}
        if answer.usage is not None:
            body["usage"] = {"prompt_tokens": answer.usage.total, "total_tokens": answer.usage.total}
        return orjson.dumps(body)


class ToCohere:
    """See `gateway.protocols.tasks.base.TaskOut`: Cohere's Rerank API, version 2."""

    operation = "rerank_v2"

    def write(self, request: Rank, model: str) -> Document:
        """It returns no documents: the gateway has them."""
        for name in request.extra:
            if name not in _COHERES:
                raise unsupported(name, "Cohere Rerank")
        return without_nones(
            model=model, query=request.query, documents=request.documents, top_n=request.top, **request.extra
        )

    def read(self, document: Document, request: Rank) -> Ranking:
        """Places that exist, each once."""
        places = []
        for one in answers.objects(document.get("results")):
            at, score = one.get("index"), one.get("relevance_score")
            if type(at) is not int or not 0 <= at < len(request.documents) or not isinstance(score, int | float):
                raise BadReply("ranks a document that was not sent")
            places.append(Place(at, score))
        if not places or len({place.at for place in places}) < len(places):
            raise BadReply("ranks no documents, or one twice")
        tokens = answers.mapping(answers.mapping(document.get("meta")).get("tokens"))
        count = answers.count(tokens.get("input_tokens"))
        return Ranking(places, None if count is None else Usage(input=count))


class ToBedrock(ToCohere):
    """The same model by InvokeModel."""

    operation = "invoke"

    def write(self, request: Rank, model: str) -> Document:
        """The model is in the URL, the version in the body."""
        body = super().write(request, model)
        del body["model"]
        return {**body, "api_version": 2}
