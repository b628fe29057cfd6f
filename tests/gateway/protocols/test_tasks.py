"""Embeddings and rerank between dialects: what each body becomes, what is refused by name, which answers are bad."""

from __future__ import annotations

import json

import pytest

from gateway.errors import GatewayError
from gateway.protocols.base import BadReply, Origin
from gateway.protocols.tasks import embeddings, google, rerank
from gateway.protocols.tasks.base import Embed, Rank

ORIGIN = Origin("r-1", "public", 1)
ASK = embeddings.AskedAsOpenAI()
ONE, BATCH = google.AskedAsGemini(single=True), google.AskedAsGemini(single=False)
PART = {"parts": [{"text": "Hel"}, {"text": "lo"}]}


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": "a", "encoding_format": "binary"}, "encoding_format"),
        ({"input": "a", "dimensions": "many"}, "dimensions"),
        ({"input": "a", "input_type": "query"}, "input_type"),
    ],
)
def test_what_is_wrong_with_an_openai_body_is_named(document, named):
    with pytest.raises(GatewayError) as caught:
        ASK.read({"model": "m", **document})
    assert (caught.value.code, caught.value.param) == ("caller_bad_request", named)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"requests": []}, "requests"),
        ({"requests": [{"content": PART}, {"content": {}}]}, "requests[1].content.parts"),
        ({"requests": [{"content": PART}, {"content": PART, "taskType": "CLUSTERING"}]}, "requests[1]"),
        ({"requests": [{"content": {"parts": [{"inlineData": {}}]}}]}, "requests[0].content.parts"),
    ],
)
def test_what_is_wrong_with_a_gemini_batch_is_named(document, named):
    with pytest.raises(GatewayError) as caught:
        BATCH.read(document)
    assert (caught.value.code, caught.value.param) == ("caller_bad_request", named)


def test_what_texts_are_for_is_said_in_each_vendors_words():
    asked = ASK.read({"model": "m", "input": "a", "input_type": "search_query", "dimensions": 8})
    assert embeddings.ToCohere().write(asked, "m")["input_type"] == "search_query"
    [one] = google.ToGemini().write(asked, "m")["requests"]
    assert (one["taskType"], one["outputDimensionality"]) == ("RETRIEVAL_QUERY", 8)
    body = google.ToVertex().write(asked, "m")
    assert body["instances"] == [{"content": "a", "task_type": "RETRIEVAL_QUERY"}]
    assert body["parameters"] == {"outputDimensionality": 8}
    assert embeddings.ToOpenAI().write(asked, "m") == {
        "model": "m", "input": ["a"], "dimensions": 8, "encoding_format": "float",
    }  # fmt: skip


def test_googles_own_settings_survive_to_google_and_are_refused_elsewhere():
    asked = ONE.read({"content": PART, "task_type": "CODE_RETRIEVAL_QUERY", "title": "T"})
    assert asked.texts == ["Hello"]
    [one] = google.ToGemini().write(asked, "m")["requests"]
    assert (one["taskType"], one["title"]) == ("CODE_RETRIEVAL_QUERY", "T")
    for target in (embeddings.ToOpenAI(), embeddings.ToCohere(), embeddings.ToBedrock()):
        with pytest.raises(GatewayError) as caught:
            target.write(asked, "amazon.titan-embed-text-v2:0")
        assert (caught.value.code, caught.value.param) == ("caller_unsupported", "taskType")
    with pytest.raises(GatewayError):
        google.ToGemini().write(ASK.read({"model": "m", "input": "a", "odd": 1}), "m")


def test_titan_takes_one_text_and_says_its_tokens():
    target, asked = embeddings.ToBedrock(), Embed(["a"], dimensions=256)
    assert target.write(asked, "amazon.titan-embed-text-v2:0") == {"inputText": "a", "dimensions": 256}
    vectors = target.read({"embedding": [0.5], "inputTextTokenCount": 3}, asked)
    assert json.loads(ASK.write(vectors, asked, ORIGIN))["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    with pytest.raises(GatewayError) as caught:
        target.write(Embed(["a", "b"]), "eu.amazon.titan-embed-text-v2:0")
    assert caught.value.param == "input"


def test_vectors_come_back_in_the_order_of_the_texts_and_from_base64():
    answer = {"data": [{"index": 1, "embedding": "AACAPw=="}, {"index": 0, "embedding": [2.0]}]}
    assert embeddings.ToOpenAI().read(answer, Embed(["a", "b"])).values == [[2.0], [1.0]]


@pytest.mark.parametrize(
    ("target", "document"),
    [
        (embeddings.ToOpenAI(), {}),
        (embeddings.ToOpenAI(), {"data": [{"index": 0, "embedding": []}]}),
        (embeddings.ToOpenAI(), {"data": [{"index": 0, "embedding": "%"}]}),
        (embeddings.ToOpenAI(), {"data": [{"index": 0, "embedding": "AA=="}]}),
        (embeddings.ToOpenAI(), {"data": [{"index": -1, "embedding": [1.0]}]}),
        (embeddings.ToOpenAI(), {"data": [{"index": 0, "embedding": [True]}]}),
        (embeddings.ToCohere(), {"embeddings": {"float": [[1.0], [2.0]]}}),
        (embeddings.ToCohere(), {"embeddings": [[1.0]]}),
        (embeddings.ToBedrock(), {"embedding": "x"}),
        (google.ToGemini(), {"embeddings": [{"values": None}]}),
        (google.ToVertex(), {"predictions": [{"embeddings": []}]}),
    ],
)
def test_an_answer_without_a_vector_for_each_text_is_bad(target, document):
    with pytest.raises(BadReply):
        target.read(document, Embed(["a"]))


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"documents": [{"title": "x"}]}, "documents[0]"),
        ({"documents": ["a"], "top_n": 0}, "top_n"),
        ({"documents": ["a"], "return_documents": "yes"}, "return_documents"),
        ({"documents": ["a"], "query": {"text": "x"}}, "query"),
    ],
)
def test_what_is_wrong_with_a_rerank_body_is_named(document, named):
    with pytest.raises(GatewayError) as caught:
        rerank.AskedForRanks().read({"query": "?", **document})
    assert caught.value.param == named


def test_what_cohere_does_not_know_is_refused_and_its_own_is_kept():
    asked = rerank.AskedForRanks().read({"model": "m", "query": "?", "documents": ["a"], "max_tokens_per_doc": 9})
    assert rerank.ToCohere().write(asked, "m")["max_tokens_per_doc"] == 9
    assert rerank.ToBedrock().write(asked, "m")["api_version"] == 2
    with pytest.raises(GatewayError) as caught:
        rerank.ToCohere().write(Rank("?", ["a"], extra={"truncate": True}), "m")
    assert caught.value.param == "truncate"


@pytest.mark.parametrize(
    "results", [None, [], [{"index": 1, "relevance_score": 1}], [{"index": 0, "relevance_score": "1"}],
                [{"index": 0, "relevance_score": 1}] * 2, [{"index": True, "relevance_score": 1}]],
)  # fmt: skip
def test_a_ranking_of_what_was_not_sent_is_bad(results):
    with pytest.raises(BadReply):
        rerank.ToCohere().read({"results": results}, Rank("?", ["a"]))
