"""Control as a worker sees it, over a real socket: takes events by number and logs by offset as the real one does.

`down` makes it answer 503, `refuses` take no file for its name, `garbage` answer with no JSON, `loses` lose the answer
to a batch of events.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import urllib.parse
from typing import Any

TOKEN = "a-service-token"


class FakeControl:
    def __init__(self) -> None:
        self.orders: dict[str, Any] = {}
        """Sent at each heartbeat, besides what `start` holds and the worker does not tell of."""
        self.start: dict[str, dict[str, Any]] = {}
        self.beats: list[dict[str, Any]] = []
        self.events: dict[str, list[dict[str, Any]]] = {}
        self.batches: list[tuple[int, int]] = []
        self.logs: dict[str, bytes] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.data: dict[str, bytes] = {}
        self.downloads: list[str] = []
        self.down = self.garbage = self.loses = self.refuses = False
        self.log_limit = 1 << 30
        handler = type("Handler", (_Handler,), {"control": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def status(self, attempt: str) -> dict[str, Any]:
        """What the last heartbeat said of an attempt."""
        told = self.beats[-1]["attempts"] if self.beats else []
        return next((one for one in told if one["attempt"] == attempt), {})


class _Handler(http.server.BaseHTTPRequestHandler):
    control: FakeControl

    def do_POST(self) -> None:
        self._answer(self._read())

    def do_PUT(self) -> None:
        self._answer(self._read())

    def do_GET(self) -> None:
        self._answer(b"")

    def log_message(self, *_: object) -> None:
        return

    def _read(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _answer(self, body: bytes) -> None:
        control = self.control
        if control.down:
            return self._send(503, b"down")
        if control.garbage:
            return self._send(200, b"<html>a proxy</html>")
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._send(401, b"")
        url = urllib.parse.urlsplit(self.path)
        match [urllib.parse.unquote(part) for part in url.path.removeprefix("/internal/v1/trainer/").split("/")]:
            case ["sync"]:
                self._sync(json.loads(body))
            case ["attempts", id, "events"]:
                self._events(id, json.loads(body))
            case ["attempts", id, "log"]:
                offset, held = int(urllib.parse.parse_qs(url.query)["offset"][0]), control.logs.get(id, b"")
                if offset > len(held):
                    return self._send(409, b'{"code": "wrong_offset"}')
                if offset + len(body) > control.log_limit:
                    return self._send(413, b'{"code": "too_large"}')
                control.logs[id] = held[:offset] + body
                self._send(200, json.dumps({"next": len(control.logs[id])}).encode())
            case ["attempts", _, "files", *_] if control.refuses:
                self._send(422, b'{"code":"bad_path"}')
            case ["attempts", id, "files", *path]:
                assert hashlib.sha256(body).hexdigest() == self.headers["x-sha256"]
                control.files.setdefault(id, {})["/".join(path)] = body
                self._send(204, b"")
            case ["data", version, split]:
                control.downloads.append(f"{version}/{split}")
                self._send(200, control.data[version])
            case ["adapters", id, "files", *path]:
                control.downloads.append(f"{id}/{'/'.join(path)}")
                self._send(200, control.files[id]["/".join(path)])
            case _:
                self._send(404, b"")

    def _sync(self, status: dict[str, Any]) -> None:
        control = self.control
        control.beats.append(status)
        reported = {one["attempt"] for one in status["attempts"]}
        start = [order for id, order in control.start.items() if id not in reported]
        self._send(200, json.dumps({"start": start, "lease_seconds": 30, **control.orders}).encode())

    def _events(self, id: str, batch: dict[str, Any]) -> None:
        control = self.control
        held = control.events.setdefault(id, [])
        control.batches.append((batch["first"], len(batch["lines"])))
        if batch["first"] <= len(held):
            held += batch["lines"][len(held) - batch["first"] :]
        if control.loses:
            control.loses = False
            self.close_connection = True
            return
        self._send(200, json.dumps({"next": len(held)}).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
