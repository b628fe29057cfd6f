"""A raw-socket HTTP/1.1 client that keeps every byte, with the time at which it came.

Written apart from the gateway's own parsers on purpose: it is strict where a client's parser is forgiving.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


class Broken(AssertionError):
    """The peer sent something that is not HTTP/1.1."""


@dataclass
class Response:
    """One reply, whole or as far as it came."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    raw: bytes = b""
    arrivals: list[tuple[float, bytes]] = field(default_factory=list)
    """Pieces of the body without framing, with the monotonic time of each."""
    complete: bool = False
    """Ended as its framing says; False when the connection ended before."""
    interim: list[int] = field(default_factory=list)
    """1xx answers that came first."""
    started: float = 0.0
    head_at: float = 0.0
    ended: float = 0.0

    def header(self, name: str) -> str | None:
        """First value of a header."""
        return next((v for k, v in self.headers if k == name), None)

    def all(self, name: str) -> list[str]:
        """Every value of a header."""
        return [v for k, v in self.headers if k == name]

    @property
    def json(self) -> dict[str, Any]:
        """The body as a JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict), value
        return value

    @property
    def error(self) -> dict[str, Any]:
        """The error object of an OpenAI-shaped error; fails if the body has another shape."""
        error = self.json["error"]
        assert set(error) >= {"message", "type", "code", "param"}, error
        assert isinstance(error["message"], str), error
        assert error["message"], error
        return error  # type: ignore[no-any-return]

    @property
    def fault(self) -> str | None:
        """Code of the closed vocabulary."""
        return self.header("x-tunegate-error")

    @property
    def request_id(self) -> str:
        """The reply's x-request-id."""
        return self.header("x-request-id") or ""

    @property
    def events(self) -> list[str]:
        """Data of the event stream's events, by the letter of the WHATWG rules."""
        return sse_data(self.body)

    @property
    def words(self) -> str:
        """Content of a chat stream, joined."""
        found = []
        for data in self.events:
            if data != "[DONE]":
                for choice in json.loads(data).get("choices", []):
                    found.append(choice["delta"].get("content") or "")
        return "".join(found)


def sse_data(body: bytes) -> list[str]:
    """The `data` of each dispatched event; an event without its blank line is dropped."""
    found: list[str] = []
    lines: list[str] = []
    text = body.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    for line in text.split("\n")[:-1]:
        if not line:
            if lines:
                found.append("\n".join(lines))
            lines = []
        elif line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
    return found


class Connection:
    """One client connection. Requests are sent as bytes; `response` reads one reply."""

    def __init__(self, url: str, *, timeout: float = 10.0, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        sock = socket.create_connection((parts.hostname, parts.port), timeout=timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = tls.wrap_socket(sock, server_hostname=parts.hostname) if tls else sock
        self.host = f"{parts.hostname}:{parts.port}"
        self.timeout = timeout
        self.buffer = b""
        self.eof = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close with FIN."""
        self.sock.close()

    def abort(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send an ordinary request."""
        fields = {"host": self.host, **(headers or {})}
        if body is not None:
            fields.setdefault("content-type", "application/json")
            fields.setdefault("content-length", str(len(body)))
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        self.send("\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + (body or b""))

    def _more(self, response: Response) -> bool:
        """Read once; False at the end of the connection."""
        if self.eof:
            return False
        try:
            data = self.sock.recv(65_536)
        except TimeoutError:
            raise
        except OSError:
            data = b""
        if not data:
            self.eof = True
            return False
        self.buffer += data
        response.raw += data
        return True

    def response(self, *, stop: int | None = None, head_only: bool = False) -> Response:
        """Read one reply to its end, or until `stop` bytes of body have come."""
        got = Response(started=time.monotonic(), raw=self.buffer)
        try:
            self._head(got)
            if not got.status or head_only or got.status in (204, 304):
                got.complete = bool(got.status)
            elif "chunked" in (got.header("transfer-encoding") or ""):
                assert got.header("content-length") is None, "both framings in one reply"
                self._chunks(got, stop)
            elif got.header("content-length") is not None:
                self._sized(got, int(got.header("content-length") or 0), stop)
            else:
                while self._take(got, len(self.buffer)) or self._more(got):
                    if stop is not None and len(got.body) >= stop:
                        break
                got.complete = self.eof
        finally:
            got.ended = time.monotonic()
        return got

    def _head(self, got: Response) -> None:
        while True:
            while b"\r\n\r\n" not in self.buffer:
                if not self._more(got):
                    if self.buffer:
                        raise Broken(f"half a header: {self.buffer[:200]!r}")
                    return
            block, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            first, *lines = block.decode("latin-1").split("\r\n")
            if not first.startswith("HTTP/1.1 "):
                raise Broken(f"not a status line: {first!r}")
            status = int(first[9:12])
            if status >= 200:
                break
            got.interim.append(status)
        got.head_at = time.monotonic()
        got.status = status
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise Broken(f"not a header: {line!r}")
            got.headers.append((name.lower(), value.strip()))

    def _take(self, got: Response, size: int) -> int:
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        if data:
            got.arrivals.append((time.monotonic(), data))
            got.body += data
        return len(data)

    def _sized(self, got: Response, size: int, stop: int | None) -> None:
        while True:
            self._take(got, size - len(got.body))
            if len(got.body) == size:
                got.complete = True
                return
            if (stop is not None and len(got.body) >= stop) or not self._more(got):
                return

    def _chunks(self, got: Response, stop: int | None) -> None:
        while True:
            while b"\r\n" not in self.buffer:
                if not self._more(got):
                    return
            line, _, rest = self.buffer.partition(b"\r\n")
            size = int(line, 16)
            while len(rest) < size + 2:
                if not self._more(got):
                    return
                rest = self.buffer.partition(b"\r\n")[2]
            if rest[size : size + 2] != b"\r\n":
                raise Broken(f"a chunk without its end: {rest[size : size + 2]!r}")
            self.buffer = rest
            self._take(got, size)
            self.buffer = self.buffer[2:]
            if size == 0:
                got.complete = True
                return
            if stop is not None and len(got.body) >= stop:
                return

    def rest(self) -> bytes:
        """The raw rest of a chunked reply, to its last chunk or the end of the connection."""
        data, self.buffer = self.buffer, b""
        while not data.endswith(b"0\r\n\r\n"):
            piece = self.sock.recv(65_536)
            if not piece:
                break
            data += piece
        return data

    def closed_by_peer(self, within: float = 2.0) -> bool:
        """Whether the peer ends the connection soon (bytes that still come are dropped)."""
        end = time.monotonic() + within
        while not self.eof and (left := end - time.monotonic()) > 0:
            self.sock.settimeout(left)
            try:
                self.eof = not self.sock.recv(65_536)
            except TimeoutError:
                return False
            except OSError:
                self.eof = True
        self.sock.settimeout(self.timeout)
        return self.eof


def once(
    url: str,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    timeout: float = 10.0,
) -> Response:
    """One request on a connection of its own."""
    with Connection(url, timeout=timeout) as conn:
        conn.request(method, path, body, headers)
        return conn.response(head_only=method == "HEAD")
