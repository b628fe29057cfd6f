"""The second table: what there is beside conversations. Each operation is tried at each vendor, or refused by name.

The vendors' answers are those of their references: platform.openai.com/docs/api-reference,
docs.cohere.com/v2/reference, ai.google.dev/api/embeddings, Vertex AI's text embeddings API, Bedrock's model parameters
of Titan and Cohere, docs.vllm.ai (all read 2026-11).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import openai
from google import genai
from google.genai import types

from tests.fakes import scripts
from tests.fakes.gateway import KEY, Gateway
from tests.fakes.upstream import Seen

VECTORS = [[0.5, -0.25, 1.0], [0.0, 2.0, -4.0]]
"""Exact in float32 too."""
TEXTS = ["Hello", "世界"]
SOUND = bytes(range(256)) * 40


@dataclass
class Trial:
    """One operation at one vendor. `answer` is what the fake says to each request; `seen` is what arrived."""

    gateway: Gateway
    kind: str
    model: str
    on: Callable[[Callable[[Seen], list[scripts.Step]]], None]
    openai: openai.OpenAI
    """The official client; the model is in a header for operations that name none."""
    seen: list[Seen] = field(default_factory=list)

    def says(self, body: bytes | dict[str, Any], kind: str = "application/json") -> None:
        """What the vendor answers from now on."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()

        def answer(seen: Seen) -> list[scripts.Step]:
            self.seen.append(seen)
            return scripts.reply(data, kind=kind)

        self.on(answer)

    def post(self, path: str, **fields: Any) -> dict[str, Any]:
        """A request of a client without an official SDK."""
        reply = self.gateway.call("POST", path, json.dumps({"model": self.model, **fields}).encode())
        if reply.status != 200:
            raise AssertionError(reply.body)
        return reply.json


def _openai_vectors(seen: Seen) -> dict[str, Any]:
    data = [{"object": "embedding", "index": at, "embedding": one} for at, one in enumerate(VECTORS)]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 7, "total_tokens": 7}}


ANSWERS: dict[str, dict[str, Any]] = {
    "gemini": {"embeddings": [{"values": one} for one in VECTORS], "usageMetadata": {"promptTokenCount": 7}},
    "vertex": {
        "predictions": [
            {"embeddings": {"values": one, "statistics": {"truncated": False, "token_count": count}}}
            for one, count in zip(VECTORS, (3, 4), strict=True)
        ]
    },
    "cohere": {
        "id": "e", "embeddings": {"float": VECTORS}, "texts": TEXTS,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 7}},
    },
    "bedrock": {"id": "e", "embeddings": VECTORS, "texts": TEXTS, "response_type": "embeddings_floats"},
}  # fmt: skip


def _arrived(trial: Trial) -> list[str]:
    """The texts that are to be embedded, wherever the vendor wants them."""
    seen = trial.seen[-1]
    body, path = seen.json, seen.target
    if trial.kind == "gemini":
        assert path.endswith(":batchEmbedContents"), path
        assert {one["model"] for one in body["requests"]} == {f"models/{seen.model}"}
        return [one["content"]["parts"][0]["text"] for one in body["requests"]]
    if trial.kind == "vertex":
        assert path.endswith(f"/publishers/google/models/{seen.model}:predict"), path
        return [one["content"] for one in body["instances"]]
    if trial.kind in ("cohere", "bedrock"):
        assert body["input_type"] == "search_document"
        assert body["embedding_types"] == ["float"]
        assert ("model" in body) == (trial.kind == "cohere")
        assert path.endswith("/invoke" if trial.kind == "bedrock" else "/embed"), path
        return list(body["texts"])
    return list(body["input"])


def embeddings(trial: Trial) -> None:
    """Two texts become two vectors, as numbers and as base64, which the official client asks for unasked."""
    trial.says(ANSWERS.get(trial.kind) or _openai_vectors(None))  # type: ignore[arg-type]
    for form in ("float", openai.omit):
        made = trial.openai.embeddings.create(model=trial.model, input=TEXTS, encoding_format=form)  # type: ignore[arg-type]
        assert [one.embedding for one in made.data] == VECTORS, made
        assert _arrived(trial) == TEXTS
        if trial.kind != "bedrock":  # it tells its tokens in a header only
            assert made.usage.prompt_tokens == 7, made.usage


def google_embeddings(trial: Trial) -> None:
    """The same asked by Google's own client."""
    trial.says(ANSWERS.get(trial.kind) or _openai_vectors(None))  # type: ignore[arg-type]
    options = types.HttpOptions(base_url=trial.gateway.url, api_version="v1beta")
    with genai.Client(api_key=KEY, vertexai=False, http_options=options) as client:
        made = client.models.embed_content(model=trial.model, contents=list(TEXTS))
    assert [one.values for one in made.embeddings or ()] == VECTORS, made
    assert _arrived(trial) == TEXTS


def rerank(trial: Trial) -> None:
    """Three documents, objects and texts mixed; the best two come back with their texts, in both shapes."""
    results = [{"index": 2, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]
    shown = [{**one, "document": {"text": "abc"[one["index"]]}} for one in results]  # type: ignore[index]
    if trial.kind in ("cohere", "bedrock"):
        trial.says({"id": "r", "results": results, "meta": {"billed_units": {"search_units": 1}}})
    else:
        trial.says({"results": shown, "usage": {"total_tokens": 9}})
    documents = ["a", {"text": "b"}, "c"]
    found = trial.post("/v1/rerank", query="?", documents=documents, top_n=2, return_documents=True)
    assert found["results"] == shown, found
    body = trial.seen[-1].json
    assert (body["query"], body["top_n"]) == ("?", 2)
    if trial.kind in ("cohere", "bedrock"):
        assert body["documents"] == ["a", "b", "c"]
        assert "return_documents" not in body
        assert ("model" in body) == (trial.kind == "cohere")
    plain = trial.post("/v2/rerank", query="?", documents=["a", "b", "c"], top_n=2)
    assert [(one["index"], one["relevance_score"]) for one in plain["results"]] == [(2, 0.9), (0, 0.1)]


def transcriptions(trial: Trial) -> None:
    """A sound becomes text."""
    trial.says({"text": "Hello"})
    sound = ("a.wav", io.BytesIO(SOUND))
    made = trial.openai.audio.transcriptions.create(model=trial.model, file=sound)
    assert made.text == "Hello"
    assert SOUND in trial.seen[-1].body
    assert trial.model.partition("/")[2].encode() in trial.seen[-1].body


def speech(trial: Trial) -> None:
    """A text becomes sound, byte for byte."""
    trial.says(SOUND, "audio/mpeg")
    made = trial.openai.audio.speech.create(model=trial.model, input="Hello", voice="alloy")
    assert made.read() == SOUND


def images(trial: Trial) -> None:
    """A text becomes a picture."""
    trial.says({"created": 1, "data": [{"b64_json": "AAAA"}]})
    made = trial.openai.images.generate(model=trial.model, prompt="A cat")
    assert made.data is not None
    assert made.data[0].b64_json == "AAAA"


def moderations(trial: Trial) -> None:
    """A text gets its verdict."""
    trial.says({"id": "m", "model": "x", "results": [{"flagged": True, "categories": {}, "category_scores": {}}]})
    assert trial.openai.moderations.create(model=trial.model, input="x").results[0].flagged


def files(trial: Trial) -> None:
    """A file goes up, and comes back to its owner."""
    trial.says({"id": f"file-{trial.kind}", "object": "file", "bytes": 3, "created_at": 1, "filename": "a",
                "purpose": "batch", "status": "processed"})  # fmt: skip
    made = trial.openai.files.create(file=("a", io.BytesIO(b"abc")), purpose="batch")
    assert trial.openai.files.retrieve(made.id).filename == "a"
    trial.says(b"abc", "application/octet-stream")
    assert trial.openai.files.content(made.id).read() == b"abc"
    assert trial.seen[-1].target.partition("?")[0].endswith(f"/files/{made.id}/content")


def batches(trial: Trial) -> None:
    """A batch of an uploaded file begins, and is looked at."""
    files(trial)
    batch = {"id": f"batch-{trial.kind}", "object": "batch", "endpoint": "/v1/chat/completions", "created_at": 1,
             "input_file_id": f"file-{trial.kind}", "completion_window": "24h", "status": "in_progress"}  # fmt: skip
    trial.says(batch)
    made = trial.openai.batches.create(
        input_file_id=f"file-{trial.kind}", endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert trial.openai.batches.retrieve(made.id).status == "in_progress"


OPERATIONS: dict[str, Callable[[Trial], None]] = {
    "embeddings": embeddings,
    "embeddings by Google's client": google_embeddings,
    "rerank": rerank,
    "transcriptions": transcriptions,
    "speech": speech,
    "images": images,
    "moderations": moderations,
    "files": files,
    "batches": batches,
}
_TEXT = {"embeddings", "embeddings by Google's client"}
SPOKEN: dict[str, set[str]] = {
    "openai": set(OPERATIONS),
    "azure": _TEXT | {"transcriptions", "speech", "images", "files", "batches"},
    "gemini": _TEXT,
    "vertex": _TEXT,
    "bedrock": _TEXT | {"rerank"},
    "cohere": _TEXT | {"rerank"},
    "dashscope": _TEXT | {"files", "batches"},
    "zhipu": set(OPERATIONS),
    "moonshot": {"files"},
    "openrouter": _TEXT,
    "ollama": _TEXT,
    "vllm": _TEXT | {"rerank", "transcriptions", "speech"},
    "deepseek": set(),
    "anthropic": set(),
}
"""Vendor -> what its API has. All else must be refused by name."""


def refused(trial: Trial, operation: str) -> None:
    """The vendor has no such API: a 400 says so, and nothing is asked of it."""
    trial.says(b"{}")
    try:
        OPERATIONS[operation](trial)
    except openai.BadRequestError as error:
        told = f"{error.response.headers.get('x-tunegate-error')} {error.message}"
    except genai.errors.ClientError as error:
        told = f"{error.code} caller_unsupported {error.message}"
    except AssertionError as error:
        told = str(error)
    assert "has an API for" in told or "has no API for" in told, told
    asked = [one for one in trial.seen if operation != "batches" or "/batches" in one.target]  # it may have files
    assert not asked, "the vendor was asked"
