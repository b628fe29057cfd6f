"""How well passages were found: figures from the places of what was expected. Arithmetic only.

Of a question, `ranks` says for each expected passage at which place it was found, from 1; None: not among the first
`DEPTH`. Two expected passages that were found in one have the same place.

| figure | of one question |
|---|---|
| recall@k | part of the expected passages with a place up to k |
| MRR | 1 / the first place; 0 if nothing was found |
| nDCG@10 | sum of 1 / log2(place + 1) over the places, by that of the best order there is; a place counts once |

A run has their means over its questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from control.knowledge.evaluation.schemas import Expected, Figures
from gateway.contract.retrieval import Passage

DEPTH = 10
Ranks = Sequence[int | None]


def places(expected: Sequence[Expected], passages: Sequence[Passage]) -> list[int | None]:
    """At which place each expected passage was found."""
    found = [(passage.title, flat(passage.text)) for passage in passages[:DEPTH]]

    def place(one: Expected) -> int | None:
        wanted = flat(one.text)
        hits = (
            rank
            for rank, (title, text) in enumerate(found, 1)
            if (not one.document or one.document == title) and wanted in text
        )
        return next(hits, None)

    return [place(one) for one in expected]


def flat(text: str) -> str:
    """A text as it is compared: in any case, with any white space."""
    return " ".join(text.casefold().split())


def recall(ranks: Ranks, depth: int) -> float:
    """0 to 1."""
    return sum(rank is not None and rank <= depth for rank in ranks) / len(ranks)


def reciprocal(ranks: Ranks) -> float:
    """0 to 1."""
    found = [rank for rank in ranks if rank is not None]
    return 1 / min(found) if found else 0.0


def gain(ranks: Ranks) -> float:
    """nDCG@10, 0 to 1."""
    best = sum(1 / math.log2(place + 1) for place in range(1, min(len(ranks), DEPTH) + 1))
    return sum(1 / math.log2(place + 1) for place in {rank for rank in ranks if rank is not None}) / best


def worse(new: Ranks, old: Ranks) -> bool:
    """Whether anything that was expected is found later, or not any more."""
    return any(before is not None and (after is None or after > before) for before, after in zip(old, new, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of the values does not exceed (nearest rank)."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def figures(answers: Sequence[tuple[Ranks, float]], unranked: int = 0) -> Figures:
    """Of (ranks, milliseconds) of each question; there is at least one. `unranked`: where a rerank model failed."""

    def mean(values: Sequence[float]) -> float:
        return round(math.fsum(values) / len(values), 6)

    every = [ranks for ranks, _ in answers]
    took = [ms for _, ms in answers]
    return Figures(
        recall_1=mean([recall(ranks, 1) for ranks in every]),
        recall_5=mean([recall(ranks, 5) for ranks in every]),
        recall_10=mean([recall(ranks, 10) for ranks in every]),
        mrr=mean([reciprocal(ranks) for ranks in every]),
        ndcg_10=mean([gain(ranks) for ranks in every]),
        p50_ms=percentile(took, 0.5),
        p95_ms=percentile(took, 0.95),
        unranked=unranked,
    )
