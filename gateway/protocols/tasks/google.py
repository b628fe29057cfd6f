"""Embeddings as Google has them: `embedContent` and `batchEmbedContents` of AI Studio, `predict` of Vertex AI.

https://ai.google.dev/api/embeddings, https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api
(read 2026-11)
"""

from __future__ import annotations

from typing import Any, cast

import orjson

from gateway.protocols import answers, fields
from gateway.protocols.base import Origin, bad, unsupported
from gateway.protocols.canonical import Document
from gateway.protocols.fields import without_nones
from gateway.protocols.gemini.names import camel
from gateway.protocols.tasks.base import Embed, InputType, Vectors
from gateway.protocols.tasks.embeddings import checked

_WORDS: dict[str, str] = {
    "search_document": "RETRIEVAL_DOCUMENT",
    "search_query": "RETRIEVAL_QUERY",
    "classification": "CLASSIFICATION",
    "clustering": "CLUSTERING",
}
"""What vectors are for: Cohere's word -> Google's."""
_OURS = {theirs: ours for ours, theirs in _WORDS.items()}
_KNOWN = frozenset({"model", "content", "outputDimensionality"})
GOOGLES = frozenset({"taskType", "title"})
"""Members that only Google's models know, such as its further task types."""


class AskedAsGemini:
    """See `gateway.protocols.tasks.base.TaskIn`: one text, or a batch of requests with one each."""

    task = "embeddings"

    def __init__(self, *, single: bool) -> None:
        self._single = single

    def read(self, document: Document) -> Embed:
        """All requests of a batch must ask for the same, apart from their text."""
        document = camel(document)
        asked = [document] if self._single else fields.objects(document.get("requests"), "requests")
        if not asked:
            raise bad("requests", "must be a non-empty array.")
        embeds = [_read(one, "" if self._single else f"requests[{at}].") for at, one in enumerate(asked)]
        first = embeds[0]
        for at, one in enumerate(embeds):
            if (one.input_type, one.dimensions, one.extra) != (first.input_type, first.dimensions, first.extra):
                raise bad(f"requests[{at}]", "must have the same settings as the first one.")
        first.texts = [one.texts[0] for one in embeds]
        first.single = self._single
        return first

    def write(self, answer: Vectors, request: Embed, origin: Origin) -> bytes:
        """`embedding`, or `embeddings`."""
        values = [{"values": one} for one in answer.values]
        body: Document = {"embedding": values[0]} if request.single else {"embeddings": values}
        if answer.usage is not None:
            body["usageMetadata"] = {"promptTokenCount": answer.usage.total}
        return orjson.dumps(body)


def _read(document: Document, where: str) -> Embed:
    parts = fields.objects(
        fields.mapping(document.get("content"), f"{where}content").get("parts"), f"{where}content.parts"
    )
    texts = [part.get("text") for part in parts]
    if not texts or not all(isinstance(one, str) for one in texts):
        raise bad(f"{where}content.parts", "must hold text.")
    kind = document.get("taskType")
    known = _OURS.get(kind) if isinstance(kind, str) else None
    extra = {name: value for name, value in document.items() if name not in _KNOWN}
    if known is not None:
        del extra["taskType"]
    size = fields.whole(document, "outputDimensionality", where)
    return Embed(["".join(cast(list[str], texts))], cast(InputType | None, known), size, extra=extra)


class ToGemini:
    """See `gateway.protocols.tasks.base.TaskOut`: AI Studio."""

    operation = "batch_embed"

    def write(self, request: Embed, model: str) -> Document:
        """A batch, also of one."""
        settings = _settings(request, "Gemini embeddings")
        settings |= without_nones(outputDimensionality=request.dimensions)
        return {
            "requests": [
                {"model": f"models/{model}", "content": {"parts": [{"text": one}]}, **settings} for one in request.texts
            ]
        }

    def read(self, document: Document, request: Embed) -> Vectors:
        """Newer models tell their tokens."""
        values = [one.get("values") for one in answers.objects(document.get("embeddings"))]
        usage = answers.mapping(document.get("usageMetadata"))
        return checked(values, request, answers.count(usage.get("promptTokenCount")))


class ToVertex:
    """See `gateway.protocols.tasks.base.TaskOut`: Vertex AI."""

    operation = "predict"

    def write(self, request: Embed, model: str) -> Document:
        """Instances with their purpose, and parameters of all."""
        settings = _settings(request, "Vertex embeddings")
        if "taskType" in settings:
            settings["task_type"] = settings.pop("taskType")
        parameters = without_nones(outputDimensionality=request.dimensions)
        instances = [{"content": one, **settings} for one in request.texts]
        return {"instances": instances, **({"parameters": parameters} if parameters else {})}

    def read(self, document: Document, request: Embed) -> Vectors:
        """Each prediction tells its tokens."""
        found = [answers.mapping(one.get("embeddings")) for one in answers.objects(document.get("predictions"))]
        counts = [answers.count(answers.mapping(one.get("statistics")).get("token_count")) for one in found]
        known = [one for one in counts if one is not None]
        tokens = sum(known) if len(known) == len(counts) else None
        return checked([one.get("values") for one in found], request, tokens)


def _settings(request: Embed, dialect: str) -> dict[str, Any]:
    for name in request.extra:
        if name not in GOOGLES:
            raise unsupported(name, dialect)
    kind = {"taskType": _WORDS[request.input_type]} if request.input_type else {}
    return {**kind, **request.extra}
