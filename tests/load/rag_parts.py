"""What `tests.load.rag` compares: a control plane with one knowledge base, and the script one would write instead."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pymilvus import AnnSearchRequest, MilvusClient, RRFRanker

from control.knowledge.engine import LOOK
from control.knowledge.local_model import LocalModel
from control.knowledge.terms import asked, terms
from control.knowledge.vectors import prepared as make_collection
from tests.fakes.gateway import Gateway
from tests.fakes.milvus import MilvusLite
from tests.fakes.plane import Plane
from tests.processes import eventually

TOP = 5
CANDIDATES = 40
REPEATS = 100
NEAR = {"metric_type": "COSINE", "params": {"ef": 100}}


class Ours:
    """A control plane with one knowledge base, asked as a gateway asks it."""

    def __init__(self, plane: Plane, model: str) -> None:
        self.plane = plane
        self._headers = {"authorization": f"Bearer {plane.service_token}"}
        self._key = plane.post("/keys", name="bench")["public_name"]
        plane.post("/knowledge", name="library", embedding={"kind": "local", "model": model})

    def fill(self, texts: dict[str, str]) -> tuple[int, float]:
        """(chunks, seconds) of taking in all modules."""
        began = time.perf_counter()
        for name, text in texts.items():
            answer = self.plane.client.post(
                "/api/v1/knowledge/library/documents", params={"name": f"{name}.txt"}, content=text.encode()
            )
            assert answer.status_code == 201, answer.text
        eventually(lambda: self._index()["ready"] == len(texts), 3600, pause=0.5)  # asking takes time of control too
        seconds = time.perf_counter() - began
        time.sleep(2 * LOOK)  # what was written is being indexed
        return sum(one["total"] for one in self._documents()), seconds

    def _index(self) -> dict[str, Any]:
        self.plane.sign_in()
        index: dict[str, Any] = self.plane.get("/knowledge/library")["indexes"][0]
        assert not index["failed"], "a module could not be taken in"
        return index

    def _documents(self) -> Iterator[dict[str, Any]]:
        page = 1
        while items := self.plane.get("/knowledge/library/documents", page=page, per_page=200)["items"]:
            yield from items
            page += 1

    def chunks(self) -> Iterator[tuple[str, str]]:
        """(title, text) of all chunks."""
        for one in self._documents():
            page = 1
            while items := self.plane.get(f"/knowledge/library/documents/{one['id']}/chunks", page=page, per_page=200)[
                "items"
            ]:
                yield from ((one["name"], chunk["text"]) for chunk in items)
                page += 1

    def mode(self, mode: str) -> None:
        """How passages are found from now on."""
        self.plane.patch("/knowledge/library", retrieval={"mode": mode, "candidates": CANDIDATES})

    def search(self, text: str, budget: int = 20_000) -> list[tuple[str, str]]:
        """(title, text) of the best passages. With a budget of tokens that it had before, an answer may be kept."""
        limits = {"top_k": TOP, "score_floor": -1, "token_budget": budget}
        body = {"bases": ["library"], "query": text, "principal": {"key": self._key}, "limits": limits}
        answer = self.plane.client.post("/internal/v1/retrieval", json=body, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return [(one["title"], one["text"]) for one in answer.json()["passages"]]


class Plain:
    """The script that one would write: pymilvus and the model, the same chunks."""

    def __init__(self, uri: str, model: LocalModel) -> None:
        self._client, self._model = MilvusClient(uri=uri), model

    def fill(self, chunks: Sequence[tuple[str, str]]) -> None:
        """Embed and write all chunks."""
        make_collection(self._client, "plain", self._model.dimension)
        for start in range(0, len(chunks), 64):
            some = chunks[start : start + 64]
            vectors = self._model.embed([text for _, text in some])
            rows = [
                {"id": str(start + at), "document": title[:36], "vector": vector.tolist(), "terms": terms(text)}
                for at, ((title, text), vector) in enumerate(zip(some, vectors, strict=True))
            ]
            self._client.upsert("plain", rows)
        self._client.flush("plain")  # without it Milvus Lite is 15 times as slow
        self._client.load_collection("plain")
        self._chunks = chunks

    def search(self, text: str, mode: str, vector: list[float]) -> list[tuple[str, str]]:
        """(title, text) of the best chunks."""
        if mode == "hybrid":
            found = both(self._client, "plain", text, vector)
        elif mode == "dense":
            found = self._client.search("plain", [vector], anns_field="vector", search_params=NEAR, limit=TOP)
        else:
            found = self._client.search(
                "plain", [asked(text)], anns_field="sparse", search_params={"metric_type": "BM25"}, limit=TOP
            )
        return [self._chunks[int(hit["id"])] for hit in found[0]]


def both(client: MilvusClient, collection: str, text: str, vector: list[float]) -> Any:
    """What a script gets that searches by vector and by words: by the same words as Tunegate."""
    searches = [
        AnnSearchRequest([vector], "vector", NEAR, CANDIDATES),
        AnnSearchRequest([asked(text)], "sparse", {"metric_type": "BM25"}, CANDIDATES),
    ]
    return client.hybrid_search(collection, searches, RRFRanker(60), limit=TOP, output_fields=["document"])


def timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def p95(times: Sequence[float]) -> float:
    """Of some times."""
    return sorted(times)[int(len(times) * 0.95)]


@contextmanager
def parts(folder: Path, model: str, models: Mapping[str, Path]) -> Iterator[tuple[Ours, str]]:
    """(a control plane with its Milvus Lite, URI of another one). `models`: name → folder of those that it runs."""
    with MilvusLite(folder / "milvus") as milvus, MilvusLite(folder / "plain") as other:
        plane = Plane(folder, f"sqlite+aiosqlite:///{folder / 'bench.db'}")
        more = "".join(f'models.{name} = "{place}"\n' for name, place in models.items())
        plane.config.write_text(f'{plane.config.read_text()}[knowledge]\nmilvus_uri = "{milvus.uri}"\n{more}')
        with plane:
            yield Ours(plane, model), other.uri


@contextmanager
def through_the_gateway(ours: Ours, folder: Path) -> Iterator[Callable[[str, str], None]]:
    """What asks a dummy a question through a gateway, by the route `without` or `with` passages."""
    ours.plane.sign_in()
    ours.plane.post("/endpoints", name="dummy", provider="dummy", spec={})
    target = [{"endpoint": "dummy", "model": "x"}]
    for name, more in (("without", {}), ("with", {"knowledge": {"bases": ["library"], "top_k": TOP}})):
        grants = [{"principal_kind": "everyone"}]
        ours.plane.post("/routes", name=name, spec={"target": target, **more}, grants=grants)
    secret = ours.plane.post("/keys", name="asking")["secret"]
    ours.plane.patch("/knowledge/library", readers=[{"kind": "everyone"}])
    config = {"control": {"url": ours.plane.url, "token": "env:TOKEN"}}
    (folder / "gateway").mkdir()
    with Gateway(config, folder / "gateway", env={"TOKEN": ours.plane.service_token}) as gateway:

        def ask(route: str, text: str) -> None:
            reply = gateway.chat(route, secret=secret, messages=[{"role": "user", "content": text}])
            assert reply.status == 200, reply.body
            told = reply.header("x-tunegate-retrieval") or "nothing"
            assert told.startswith("found") or route == "without", told

        yield ask
