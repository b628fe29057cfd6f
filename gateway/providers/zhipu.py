"""Zhipu GLM: OpenAI's dialect below /api/paas/v4; usage comes with the last chunk of every stream, unasked."""

from __future__ import annotations

from gateway.protocols.base import Outbound
from gateway.protocols.chat import Chat
from gateway.providers.openai import OpenAI
from gateway.providers.operations import BATCHES, FILES, RERANK, TEXT
from gateway.providers.styles import Switched


class Unasked(Switched):
    """See below."""

    include_usage = False


class Zhipu(OpenAI):
    """Never asked for `stream_options`: its reference does not list the field."""

    kind = "zhipu"
    operations: tuple[str, ...] = (
        *TEXT,
        *RERANK,
        "moderations",
        "images",
        "speech",
        "transcriptions",
        *FILES,
        *BATCHES,
    )
    dialect: Outbound = Chat(Unasked())
    forward_headers = frozenset[bytes]()
    include_usage = False
