"""HashiCorp Vault's transit engine as far as decryption goes: its paths, headers, bodies and statuses, on loopback."""

from __future__ import annotations

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PATH = "/v1/transit/decrypt/tunegate"
TOKEN = "hvs.test-0123456789"


class TransitVault:
    """The server; `manner` makes it misbehave: sealed, garbage, slow, redirect, huge, or an answer."""

    def __init__(self) -> None:
        self.manner: Any = None
        self.asked: list[dict[str, str]] = []
        self._key = AESGCM(AESGCM.generate_key(256))
        self._over = threading.Event()
        vault = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                vault.asked.append({name.lower(): value for name, value in self.headers.items()})
                if vault.manner == "slow":
                    vault._over.wait(20)
                vault._send(self, *vault._answer(self.path, dict(self.headers), body))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}{PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def wrapped_key(self, key: bytes | None = None) -> str:
        """As `vault write -f -field=ciphertext transit/datakey/wrapped/tunegate`: a new key that nobody has seen."""
        nonce = os.urandom(12)
        return "vault:v1:" + base64.b64encode(nonce + self._key.encrypt(nonce, key or os.urandom(32), None)).decode()

    def close(self) -> None:
        """End the server; twice is no error."""
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if self.manner == "sealed":
            return 503, b'{"errors":["Vault is sealed"]}'
        if self.manner == "redirect":
            return 307, b""
        if self.manner in ("garbage", "huge"):
            return 200, b"<html>" * (1 if self.manner == "garbage" else 100_000)
        if isinstance(self.manner, (dict, list)):
            return 200, json.dumps(self.manner).encode()
        lower = {name.lower(): value for name, value in headers.items()}
        if lower.get("x-vault-token") != TOKEN or lower.get("x-vault-request") != "true":
            return 403, b'{"errors":["1 error occurred:\\n\\t* permission denied\\n\\n"]}'
        if path != PATH:
            return 404, b'{"errors":[]}'
        text = json.loads(body)["ciphertext"]
        try:
            raw = base64.b64decode(text.removeprefix("vault:v1:"))
            plain = self._key.decrypt(raw[:12], raw[12:], None)
        except (ValueError, InvalidTag):
            return 400, b'{"errors":["cipher: message authentication failed"]}'
        document = {
            "request_id": "5b4d8b2a", "lease_id": "", "renewable": False, "lease_duration": 0,
            "data": {"plaintext": base64.b64encode(plain).decode()}, "wrap_info": None, "warnings": None, "auth": None,
        }  # fmt: skip
        return 200, json.dumps(document).encode()

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        handler.send_response(status)
        if status == 307:
            handler.send_header("location", "http://127.0.0.1:1/")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
