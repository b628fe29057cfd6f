"""What serves knowledge bases: files, models, Milvus and the work in the background. None where there is no Milvus.

Its parts need the extra `knowledge`, so nothing imports them before it is certain that they are wanted.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from control.db import Database
from control.errors import ConfigError, Problem
from control.kit.files import Files
from control.kit.outbound import Outbound
from control.kit.periodic import every
from control.knowledge.trouble import Trouble
from control.models import KnowledgeIndex
from control.security import Vault
from control.settings import Settings, reference

if TYPE_CHECKING:
    from control.knowledge.cleaning import Cleaning
    from control.knowledge.embedding import Embedder, Embedders
    from control.knowledge.evaluation.running import Runs
    from control.knowledge.ingest import Ingest
    from control.knowledge.retrieval import Retriever
    from control.knowledge.vectors import Vectors

T = TypeVar("T")
LOOK = 0.5
"""Seconds between looks for something to do."""


class Engine:
    """The parts; one for a process."""

    def __init__(
        self,
        files: Files,
        embedders: Embedders,
        vectors: Vectors,
        retriever: Retriever,
        ingest: Ingest,
        cleaning: Cleaning,
        runs: Runs,
        pages: Outbound,
    ) -> None:
        self.files, self.embedders, self.retriever, self.pages = files, embedders, retriever, pages
        self._vectors, self._ingest, self._cleaning, self._runs = vectors, ingest, cleaning, runs

    @property
    def lite(self) -> bool:
        """Whether it is Milvus Lite that finds chunks."""
        return self._vectors.lite

    @property
    def models(self) -> Sequence[str]:
        """Names of the embedding models that run here."""
        return sorted(self.embedders.folders)

    async def embedder(self, session: AsyncSession, index: KnowledgeIndex) -> Embedder:
        """The model of an index.

        Raises:
            Problem: 503 where it cannot be had.
        """
        try:
            return await self.embedders.get(session, index.embedding)
        except Trouble as exc:
            raise exc.problem() from exc

    async def first(self, items: Iterator[T], many: int) -> list[T]:
        """The first ones, made in a thread."""
        return await asyncio.to_thread(lambda: list(islice(items, many)))

    async def run(self) -> None:
        """Put documents in, take away what is deleted and ask the questions of test sets, until cancelled."""
        try:
            await asyncio.gather(
                every(LOOK, self._ingest.all_there_is, "documents cannot be put into knowledge bases now"),
                every(LOOK, self._cleaning.all_there_is, "deleted documents cannot be taken away now"),
                every(LOOK, self._runs.all_there_is, "test sets cannot be run now"),
            )
        finally:
            await self.retriever.close()
            await self.embedders.gateway.close()
            await self._vectors.close()


def open_engine(settings: Settings, db: Database, vault: Vault) -> Engine | None:
    """The engine of these settings; None without `[knowledge] milvus_uri`.

    Raises:
        ConfigError: a package of the extra is missing, or the token cannot be read.
    """
    table = settings.knowledge
    if not table.milvus_uri:
        return None
    try:
        from control.knowledge.cleaning import Cleaning  # noqa: PLC0415 - of the extra `knowledge`
        from control.knowledge.copies import Copies  # noqa: PLC0415
        from control.knowledge.embedding import Embedders  # noqa: PLC0415
        from control.knowledge.evaluation.running import Runs  # noqa: PLC0415
        from control.knowledge.gateway import Gateway  # noqa: PLC0415
        from control.knowledge.ingest import Ingest  # noqa: PLC0415
        from control.knowledge.local_model import folders  # noqa: PLC0415
        from control.knowledge.results import Results  # noqa: PLC0415
        from control.knowledge.retrieval import Retriever  # noqa: PLC0415
        from control.knowledge.vectors import Vectors  # noqa: PLC0415
    except ImportError as exc:
        raise ConfigError(f"[knowledge] needs the extra `knowledge`: {exc.name} is not installed") from exc
    if importlib.util.find_spec("pymilvus") is None:
        raise ConfigError("[knowledge] needs the extra `knowledge`: pymilvus is not installed")
    files = Files(settings.knowledge_dir)
    embedders = Embedders(Gateway(settings.console.gateway_url, vault), folders(table.models))
    vectors = Vectors(table.milvus_uri, reference(table.milvus_token))
    copies = Copies(db, table.copies_mib * 2**20)
    retriever = Retriever(db, embedders, vectors, copies, Results(table.cache_entries, table.cache_seconds))
    pages = Outbound(table.private_pages)
    ingest = Ingest(db, files, table, embedders, vectors)
    return Engine(
        files, embedders, vectors, retriever, ingest, Cleaning(db, files, vectors), Runs(db, retriever), pages
    )


def required(engine: Engine | None) -> Engine:
    """The engine; 503 where there is none."""
    if engine is None:
        raise Problem(503, "knowledge_off", "this control serves no knowledge bases: set [knowledge] milvus_uri")
    return engine
