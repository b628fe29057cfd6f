"""Embeddings: as OpenAI's API has them, in and out, and as Cohere's and Bedrock's models do. Google's: see `google`.

https://platform.openai.com/docs/api-reference/embeddings, https://docs.cohere.com/v2/reference/embed,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html and
…/model-parameters-embed.html (read 2026-11)
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from typing import Any

import orjson

from gateway.protocols import answers, fields
from gateway.protocols.base import BadReply, Origin, bad, unsupported
from gateway.protocols.canonical import Document, Usage
from gateway.protocols.fields import without_nones
from gateway.protocols.tasks.base import Embed, Vectors

INPUT_TYPES = ("search_document", "search_query", "classification", "clustering")
_KNOWN = frozenset({"model", "input", "encoding_format", "dimensions", "user", "input_type"})


class AskedAsOpenAI:
    """See `gateway.protocols.tasks.base.TaskIn`. `input_type` is not OpenAI's, but what most others must know."""

    task = "embeddings"

    def read(self, document: Document) -> Embed:
        """A text, or several; token ids mean something to OpenAI's models only."""
        given = document.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts or not all(isinstance(one, str) for one in texts):
            raise bad("input", "must be a text or an array of texts; the provider of this model knows no token ids.")
        form = document.get("encoding_format") or "float"
        if form not in ("float", "base64"):
            raise bad("encoding_format", "must be float or base64.")
        kind = document.get("input_type")
        if kind is not None and kind not in INPUT_TYPES:
            raise bad("input_type", f"must be one of {', '.join(INPUT_TYPES)}.")
        extra = {name: value for name, value in document.items() if name not in _KNOWN}
        return Embed(texts, kind, fields.whole(document, "dimensions"), form == "base64", extra=extra)

    def write(self, answer: Vectors, request: Embed, origin: Origin) -> bytes:
        """A list of objects."""
        packed = [_packed(one) if request.base64 else one for one in answer.values]
        data = [{"object": "embedding", "index": at, "embedding": one} for at, one in enumerate(packed)]
        tokens = answer.usage.total if answer.usage is not None else 0
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return orjson.dumps({"object": "list", "data": data, "model": origin.model, "usage": usage})


class ToOpenAI:
    """See `gateway.protocols.tasks.base.TaskOut`: OpenAI, and all that imitate it."""

    operation = "embeddings"

    def write(self, request: Embed, model: str) -> Document:
        """What texts are for has no place."""
        refuse(request, "OpenAI embeddings")
        return without_nones(model=model, input=request.texts, dimensions=request.dimensions, encoding_format="float")

    def read(self, document: Document, request: Embed) -> Vectors:
        """In the order of their `index`."""
        found = sorted(answers.objects(document.get("data")), key=lambda one: answers.index(one, "index"))
        usage = answers.mapping(document.get("usage"))
        values = [_unpacked(one.get("embedding")) for one in found]
        return checked(values, request, answers.count(usage.get("prompt_tokens")))


class ToCohere:
    """See `gateway.protocols.tasks.base.TaskOut`: Cohere's Embed API, version 2."""

    operation = "embed"

    def write(self, request: Embed, model: str) -> Document:
        """The models must know what the texts are for: to be found, if nothing is said."""
        refuse(request, "Cohere Embed")
        return without_nones(
            model=model,
            texts=request.texts,
            input_type=request.input_type or "search_document",
            embedding_types=["float"],
            output_dimension=request.dimensions,
        )

    def read(self, document: Document, request: Embed) -> Vectors:
        """`embeddings.float`; what was billed is what was counted."""
        billed = answers.mapping(answers.mapping(document.get("meta")).get("billed_units"))
        values = answers.mapping(document.get("embeddings")).get("float")
        return checked(values, request, answers.count(billed.get("input_tokens")))


class ToBedrock:
    """See `gateway.protocols.tasks.base.TaskOut`: Amazon's Titan and Cohere's models by InvokeModel."""

    operation = "invoke"

    def write(self, request: Embed, model: str) -> Document:
        """By the model's name, which an inference profile may put a region before."""
        if "cohere." in model:
            body = ToCohere().write(request, model)
            del body["model"]
            return body
        refuse(request, "Titan embeddings")
        if len(request.texts) != 1:
            raise unsupported("input", "Titan embeddings", "it takes one text a request.")
        return without_nones(inputText=request.texts[0], dimensions=request.dimensions)

    def read(self, document: Document, request: Embed) -> Vectors:
        """Either family's; Cohere's tells no tokens here."""
        if "embedding" in document:
            return checked([document["embedding"]], request, answers.count(document.get("inputTextTokenCount")))
        found = document.get("embeddings")
        return checked(found.get("float") if isinstance(found, dict) else found, request, None)


def refuse(request: Embed, dialect: str) -> None:
    """`unsupported` for the first member that only the client's dialect knows."""
    for name in request.extra:
        raise unsupported(name, dialect)


def checked(values: Any, request: Embed, tokens: int | None) -> Vectors:
    """Vectors of numbers, one for each text. Raises BadReply."""
    whole = isinstance(values, list) and len(values) == len(request.texts)
    if not whole or not all(isinstance(one, list) and one and all(map(_is_number, one)) for one in values):
        raise BadReply(f"does not hold {len(request.texts)} vectors")
    return Vectors(values, None if tokens is None else Usage(input=tokens))


def _is_number(value: Any) -> bool:
    return type(value) in (float, int)


def _packed(vector: list[float]) -> str:
    floats = array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()


def _unpacked(value: Any) -> Any:
    """A vector as numbers; some upstreams send base64 whatever they are asked for."""
    if not isinstance(value, str):
        return value
    try:
        floats = array("f", base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError) as exc:
        raise BadReply("holds a vector that is no base64 of numbers") from exc
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tolist()
