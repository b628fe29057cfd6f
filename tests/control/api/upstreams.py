"""An upstream that misbehaves as its path says, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Upstream:
    """A server on loopback; `base_url + "/" + what` is a base URL whose /models does `what`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                upstream.asked.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                with contextlib.suppress(OSError):
                    upstream.answer(self, self.path.split("/")[1])

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.over = threading.Event()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.port = self._server.server_address[1]
        self.base_url = f"http://127.0.0.1:{self.port}"

    def answer(self, handler: BaseHTTPRequestHandler, what: str) -> None:
        status, body, headers = 200, b"", {}
        if what == "ok":
            body = json.dumps({"data": [{"id": "b-model"}, {"id": "a-model"}, {"id": 7}, "x"]}).encode()
        elif what == "google":
            body = json.dumps({"models": [{"name": "models/gemini-x"}, {"name": "models/a"}]}).encode()
        elif what == "echo":
            seen = handler.headers["authorization"]
            body = json.dumps({"data": [{"id": seen.split()[1]}, {"id": "fine"}, {"id": "<b>no</b>"}]}).encode()
        elif what.isdigit():
            status, body = int(what), b'{"error": "upstream words ' + handler.headers["authorization"].encode() + b'"}'
        elif what == "redirect":
            status, headers = 302, {"location": f"{self.base_url}/ok/models"}
        elif what == "slow":
            self.over.wait(20)
        elif what == "huge":
            body = b" " * 3_000_000
        elif what == "garbage":
            handler.wfile.write(b"this is not HTTP at all\r\n\r\n")
            return
        elif what == "deep":
            body = b"[" * 200_000
        elif what == "html":
            body = b"<html>sign in</html>"
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
