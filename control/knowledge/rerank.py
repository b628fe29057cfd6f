"""Candidates in the order of a rerank model, through a route of the gateway. What fails changes no order."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from control.knowledge.gateway import Gateway, Unreachable, message_of
from control.knowledge.schemas import Rerank


class Unranked(Exception):
    """There are no scores; the message says why."""


@dataclass(frozen=True, slots=True)
class Reranker:
    """A route, as a base names it."""

    gateway: Gateway
    settings: Rerank
    digest: str | None
    """SHA-256 of the key that pays; None: it is gone."""

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text fits the query; only their order means anything.

        Raises:
            Unranked: no answer in time, a refusal, or something that is no score for each text.
        """
        route = self.settings.route
        if self.digest is None:
            raise Unranked(f"the API key {self.settings.key!r} is gone")
        body = {"model": route, "query": query, "documents": list(texts), "top_n": len(texts)}
        try:
            status, content = await self.gateway.post("/v1/rerank", self.digest, body, self.settings.timeout)
        except Unreachable as exc:
            raise Unranked(str(exc)) from exc
        if status != 200:
            raise Unranked(f"the route {route!r} answers {status}: {message_of(content)}")
        try:
            found = {int(one["index"]): float(one["relevance_score"]) for one in json.loads(content)["results"]}
        except (ValueError, KeyError, TypeError) as exc:
            raise Unranked(f"{route!r} answers no scores") from exc
        if found.keys() != set(range(len(texts))) or not all(map(math.isfinite, found.values())):
            raise Unranked(f"{route!r} answers {len(found)} scores for {len(texts)} texts, or such as are no numbers")
        return [found[at] for at in range(len(texts))]
