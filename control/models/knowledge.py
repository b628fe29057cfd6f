"""Knowledge bases. The database is the truth: Milvus only finds, and can be filled again from what is here."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control.models.base import NAME, Base, LongText, Versioned, now
from control.models.training import Owned

URL_CHARS = 2000


class KnowledgeBase(Owned, Versioned, Base):
    """A named collection of documents, and how they are found."""

    __tablename__ = "knowledge_base"
    __table_args__ = (Index("ix_knowledge_base_owner", "owner_kind", "owner"),)

    name: Mapped[str] = mapped_column(String(NAME), unique=True)
    description: Mapped[str] = mapped_column(String(1000), default="")
    readers: Mapped[list[Any]] = mapped_column(default=list)
    """`control.knowledge.access.Reader` besides the owner."""
    retrieval: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """`control.knowledge.schemas.Retrieval`."""
    latest: Mapped[int] = mapped_column(default=1)
    """Number of the last index: numbers are never reused."""
    revision: Mapped[int] = mapped_column(default=0)
    """Counts changes of what may be found: documents that come, go, or have other readers or metadata."""
    changed_at: Mapped[datetime] = mapped_column(default=now)
    """Of the last such change."""
    deleting: Mapped[bool] = mapped_column(default=False)
    """Nobody sees it any more; what it has in files and in Milvus is being taken away."""


class KnowledgeIndex(Base):
    """One way of cutting and embedding all documents of a base. It never changes: a change makes another one."""

    __tablename__ = "knowledge_index"
    __table_args__ = (UniqueConstraint("base_id", "number"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """Name of its collection in Milvus, too: `tg_` and this without hyphens."""
    base_id: Mapped[str] = mapped_column(ForeignKey("knowledge_base.id", ondelete="CASCADE"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(String(12))
    """building, live or old. At most one of a base is live."""
    held: Mapped[bool] = mapped_column(default=False)
    """It does not take over by itself once it is complete: it is on trial until somebody says so."""
    embedding: Mapped[dict[str, Any]]
    """`control.knowledge.schemas.Embedding`."""
    chunking: Mapped[dict[str, Any]]
    """`control.knowledge.schemas.Chunking`."""
    dimension: Mapped[int] = mapped_column(default=0)
    """Of its vectors; 0 until the first one has come. Then it is pinned."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))
    live_at: Mapped[datetime | None]


class KnowledgeDocument(Base):
    """A file of a base. Its content never changes: new content of the same name is another document."""

    __tablename__ = "knowledge_document"
    __table_args__ = (Index("ix_knowledge_document_name", "base_id", "name"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """Name of its folder, too."""
    base_id: Mapped[str] = mapped_column(ForeignKey("knowledge_base.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(255))
    url: Mapped[str] = mapped_column(String(URL_CHARS), default="")
    """Where it was fetched; empty for a file that was sent."""
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(12), default="")
    """What it was parsed as, such as `pdf`."""
    pages: Mapped[int] = mapped_column(default=0)
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Metadata that people gave it: a filter may ask for it."""
    readers: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    """Who of those that may read the base may read this; null: all of them."""
    deleting: Mapped[bool] = mapped_column(default=False, index=True)
    """Nobody finds it any more; its file and its vectors are being taken away."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(NAME))


class KnowledgeEntry(Base):
    """A document in an index: how far it is."""

    __tablename__ = "knowledge_entry"
    __table_args__ = (Index("ix_knowledge_entry_state", "state", "not_before"),)

    index_id: Mapped[str] = mapped_column(ForeignKey("knowledge_index.id", ondelete="CASCADE"), primary_key=True)
    document_id: Mapped[str] = mapped_column(ForeignKey("knowledge_document.id", ondelete="CASCADE"), primary_key=True)
    state: Mapped[str] = mapped_column(String(12))
    """waiting, parsing, embedding, ready or failed."""
    done: Mapped[int] = mapped_column(default=0)
    """Chunks that are embedded."""
    total: Mapped[int] = mapped_column(default=0)
    """Chunks that there are."""
    reused: Mapped[int] = mapped_column(default=0)
    """Chunks whose vector was there already."""
    code: Mapped[str] = mapped_column(String(32), default="")
    """Why it failed, or waits: from a closed vocabulary (docs/knowledge.md)."""
    message: Mapped[str] = mapped_column(String(1000), default="")
    not_before: Mapped[datetime]
    """Not worked on until then: pauses after a trouble that may pass, and the claim of the process that works on it."""
    tries: Mapped[int] = mapped_column(default=0)
    """Troubles in a row."""


class KnowledgeChunk(Base):
    """A piece of a document, as an index cuts it. It is there once the whole document is ready."""

    __tablename__ = "knowledge_chunk"
    __table_args__ = (UniqueConstraint("index_id", "document_id", "number"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    """Of index, document and number: the same whenever it is made again."""
    index_id: Mapped[str] = mapped_column(ForeignKey("knowledge_index.id", ondelete="CASCADE"))
    document_id: Mapped[str] = mapped_column(ForeignKey("knowledge_document.id", ondelete="CASCADE"), index=True)
    number: Mapped[int]
    """From 0, in the order of the text."""
    parent: Mapped[int]
    """Number of the first chunk of the same section."""
    page: Mapped[int | None]
    section: Mapped[str] = mapped_column(String(500))
    start: Mapped[int]
    end: Mapped[int]
    tokens: Mapped[int]
    text: Mapped[str] = mapped_column(LongText)
    digest: Mapped[str] = mapped_column(String(64))
    """Of its vector in `knowledge_vector`."""


class KnowledgeVector(Base):
    """The vector of a text by a model: what is embedded once is not embedded again, in this base."""

    __tablename__ = "knowledge_vector"

    base_id: Mapped[str] = mapped_column(ForeignKey("knowledge_base.id", ondelete="CASCADE"), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of the model's name, a NUL and the text."""
    vector: Mapped[bytes] = mapped_column(LargeBinary(65_535))
    """float32, little-endian, of length one."""
