"""The HTTP side of a model server, one of ours or one that somebody else runs."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any
from urllib.parse import urlsplit

from trainer.settings import Engine, ExternalEngine

TIMEOUT = 60.0
"""Seconds that an answer may take."""


class Server:
    """Asks it. Every call opens a connection of its own: there are few."""

    def __init__(self, engine: Engine | ExternalEngine, key: str = "") -> None:
        url = urlsplit(engine.url)
        self._host, self._prefix = url.netloc, url.path.rstrip("/").removesuffix("/v1")
        ca_file = engine.ca_file if isinstance(engine, ExternalEngine) else None
        self._context = ssl.create_default_context(cafile=ca_file) if url.scheme == "https" else None
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})

    def models(self) -> list[dict[str, Any]]:
        """What it has: `id`, and of vLLM `root` and `parent`. ValueError if it does not say."""
        status, text = self._request("GET", "/v1/models", None)
        if status != 200:
            raise ValueError(f"GET /v1/models: {status}")
        found: list[dict[str, Any]] = json.loads(text)["data"]
        return found

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        """(status, text) of the answer."""
        return self._request("POST", path, json.dumps(body).encode())

    def _request(self, method: str, path: str, body: bytes | None) -> tuple[int, str]:
        if self._context is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, timeout=TIMEOUT, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(self._host, timeout=TIMEOUT)
        try:
            connection.request(method, f"{self._prefix}{path}", body, self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read(4_000_000).decode(errors="replace")
        finally:
            connection.close()
