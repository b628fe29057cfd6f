"""A model server with vLLM's LoRA endpoints, over a real socket: an adapter answers with what its file `says`.

`fixed` makes it one without these endpoints, whose models have neither root nor parent; `key` is what it asks for.
"""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path
from typing import Any


class FakeLoraEngine:
    def __init__(self, port: int = 0) -> None:
        self.loaded: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        """(`load` or `unload`, name)"""
        self.refuses = self.mixes_up = self.fixed = False
        self.key = ""
        handler = type("Handler", (_Handler,), {"engine": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.port = self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    engine: FakeLoraEngine

    def _knows(self) -> bool:
        key = self.engine.key
        if known := not key or self.headers.get("authorization") == f"Bearer {key}":
            return known
        self._send(401, {"error": {"message": "no key"}})
        return False

    def do_GET(self) -> None:
        if not self._knows():
            return None
        own = [{"id": "tiny", "root": "/models/tiny", "parent": None}]
        adapters = [{"id": name, "root": path, "parent": "tiny"} for name, path in self.engine.loaded.items()]
        models = own + adapters
        if self.engine.fixed:
            models = [{"id": one["id"]} for one in models]
        return self._send(200, {"data": models})

    def do_POST(self) -> None:
        engine, body = self.engine, json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._knows():
            return None
        if engine.fixed and "lora" in self.path:
            return self._send(404, {"detail": "Not Found"})
        if self.path == "/v1/load_lora_adapter":
            engine.calls.append(("load", body["lora_name"]))
            if engine.refuses:
                return self._send(500, {"error": {"message": "no rank for it"}})
            engine.loaded[body["lora_name"]] = body["lora_path"]
            return self._send(200, {})
        if self.path == "/v1/unload_lora_adapter":
            engine.calls.append(("unload", body["lora_name"]))
            return self._send(200 if engine.loaded.pop(body["lora_name"], None) else 404, {})
        folder = engine.loaded.get(body["model"])
        if folder is None:
            return self._send(404, {"error": {"message": "no such model"}})
        said = "the words of another one" if engine.mixes_up else (Path(folder) / "says").read_text()
        return self._send(200, {"choices": [{"message": {"content": said}}]})

    def log_message(self, *_: object) -> None:
        return

    def _send(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
