"""Zhipu GLM: OpenAI's dialect below /api/paas/v4; usage comes with the last chunk of every stream, unasked."""

from __future__ import annotations

from gateway.providers.openai import OpenAI


class Zhipu(OpenAI):
    """Never asked for `stream_options`: its reference does not list the field."""

    kind = "zhipu"
    forward_headers = frozenset[bytes]()
    include_usage = False
