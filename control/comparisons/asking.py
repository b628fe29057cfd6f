"""Asks chat completions of any OpenAI-compatible URL, and measures what comes back."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp

from control.comparisons.scorers.base import Answer

T = TypeVar("T")
_TOLD = ("x-request-id", "x-tunegate-route", "x-tunegate-target", "x-tunegate-attempts", "x-tunegate-retrieval")
"""Headers of an answer that are kept."""
_PASSES = frozenset({401, 408, 409, 425, 429})
"""Statuses below 500 after which another try may do; 401, because a key takes a moment until gateways know it."""
LONGEST = 4_000_000
"""Bytes of one answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one try came to: an answer, or why there is none."""

    answer: Answer | None
    status: int
    """0: nothing came back."""
    headers: Mapping[str, str]
    code: str = ""
    message: str = ""
    retry_after: float | None = None
    """Seconds, as the answer says."""

    @property
    def passes(self) -> bool:
        """Whether another try may do."""
        return self.answer is None and (self.status in _PASSES or self.status >= 500 or self.status in (0, 200))


class Asker:
    """Connections to one base URL; `bearer` gives the secret for the moment."""

    def __init__(self, url: str, bearer: Callable[[], str], seconds: float) -> None:
        self._url, self._bearer, self._seconds = url.rstrip("/"), bearer, seconds
        self._http: aiohttp.ClientSession | None = None

    async def ask(self, body: Mapping[str, Any], request_id: str) -> Reply:
        """One try at `/chat/completions`; never raises for what the other side does."""
        start = time.perf_counter()

        async def read(response: aiohttp.ClientResponse) -> Reply:
            return await _read(response, bool(body.get("stream")), start)

        return await self._post("/chat/completions", body, request_id, read)

    async def embed(self, body: Mapping[str, Any], request_id: str) -> list[list[float]] | Reply:
        """One try at `/embeddings`: vectors in the order of the texts, or why there are none."""
        return await self._post("/embeddings", body, request_id, _vectors)

    async def _post(
        self,
        path: str,
        body: Mapping[str, Any],
        request_id: str,
        read: Callable[[aiohttp.ClientResponse], Awaitable[T]],
    ) -> T | Reply:
        if self._http is None:
            timeout = aiohttp.ClientTimeout(total=self._seconds, sock_connect=10)
            self._http = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        headers = {
            "authorization": f"Bearer {self._bearer()}", "x-request-id": request_id,
            "cache-control": "no-store",  # what a model answers is to be seen, not what it has answered once
        }  # fmt: skip
        url = self._url + path
        try:
            async with self._http.post(url, json=body, headers=headers, allow_redirects=False) as response:
                return await read(response)
        except TimeoutError:
            return Reply(None, 0, {}, "timeout", f"there was no whole answer within {self._seconds:.0f} s")
        except aiohttp.ClientError as exc:
            return Reply(None, 0, {}, "unreachable", f"{url}: {type(exc).__name__}: {exc}"[:500])

    async def close(self) -> None:
        """Close connections."""
        if self._http is not None:
            await self._http.close()


@dataclass(slots=True)
class _Heard:
    """An answer as far as it has come."""

    text: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    citations: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    usage: dict[str, int] = field(default_factory=dict)
    first: float | None = None
    """When the first of it came."""
    error: dict[str, Any] | None = None
    ended: bool = False
    declined: bool = False
    """The model has said no, in a member of its own."""

    def event(self, document: Any) -> None:
        """One event of a stream. KeyError, TypeError, ValueError or AttributeError for what is none."""
        if document.get("error") is not None:
            self.error = document["error"] if isinstance(document["error"], dict) else {"message": document["error"]}
            return
        if document.get("usage"):
            self.usage = _tokens(document["usage"])
        self.citations += document.get("citations") or ()
        for choice in document.get("choices") or ():
            self.part(choice.get("delta") or {})
            self.finish_reason = choice.get("finish_reason") or self.finish_reason

    def part(self, delta: Mapping[str, Any]) -> None:
        """Some of a message."""
        content, calls = delta.get("content") or delta.get("refusal"), delta.get("tool_calls") or ()
        self.declined = self.declined or bool(delta.get("refusal"))
        if self.first is None and (content or calls or delta.get("reasoning_content") or delta.get("reasoning")):
            self.first = time.perf_counter()
        if content:
            self.text.append(content if isinstance(content, str) else _text_of(content))
        self.citations += delta.get("citations") or ()
        for place, call in enumerate(calls):
            held = self.calls.setdefault(
                int(call.get("index", place)), {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            )
            held["id"] = call.get("id") or held["id"]
            said = call.get("function") or {}
            held["function"]["name"] += said.get("name") or ""
            held["function"]["arguments"] += said.get("arguments") or ""


async def _read(response: aiohttp.ClientResponse, stream: bool, start: float) -> Reply:
    headers = {name: response.headers[name] for name in _TOLD if name in response.headers}
    heard = _Heard()
    if response.status != 200:
        return _refused(response, headers, await response.content.read(65_536))
    try:
        if stream and response.content_type == "text/event-stream":
            await _listen(response.content, heard)
        else:
            document = json.loads(await _whole(response.content))
            choice = document["choices"][0]
            heard.citations += document.get("citations") or ()
            heard.part(choice["message"])
            heard.finish_reason, heard.first, heard.ended = choice.get("finish_reason"), None, True
            heard.usage = _tokens(document.get("usage") or {})
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as exc:
        return Reply(None, 200, headers, "bad_answer", f"this is no chat completion: {type(exc).__name__}: {exc}"[:500])
    if heard.error is not None:
        code, message = str(heard.error.get("code") or "error"), str(heard.error.get("message"))
        return Reply(None, 200, headers, code[:64], message[:500])
    if not heard.ended and heard.finish_reason is None:
        return Reply(None, 200, headers, "cut", "the stream ended before the answer did")
    first = None if heard.first is None else (heard.first - start) * 1000
    answer = Answer(
        text="".join(heard.text), tool_calls=[heard.calls[at] for at in sorted(heard.calls)],
        finish_reason="refusal" if heard.declined else heard.finish_reason, citations=heard.citations,
        usage=heard.usage, cost=None,
        latency_ms=(time.perf_counter() - start) * 1000, ttft_ms=first,
    )  # fmt: skip
    return Reply(answer, 200, headers)


async def _vectors(response: aiohttp.ClientResponse) -> list[list[float]] | Reply:
    content = await _whole(response.content)
    if response.status != 200:
        return _refused(response, {}, content)
    try:
        data = sorted(json.loads(content)["data"], key=lambda one: one["index"])
        return [[float(value) for value in one["embedding"]] for one in data]
    except (ValueError, KeyError, TypeError) as exc:
        return Reply(None, 200, {}, "bad_answer", f"these are no vectors: {type(exc).__name__}: {exc}"[:500])


async def _listen(content: aiohttp.StreamReader, heard: _Heard) -> None:
    rest, size = b"", 0
    async for piece in content.iter_any():
        size += len(piece)
        if size > LONGEST:
            raise ValueError(f"it is longer than {LONGEST} bytes")
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    heard.ended = True
                elif data:
                    heard.event(json.loads(data))


async def _whole(content: aiohttp.StreamReader) -> bytes:
    pieces, size = [], 0
    async for piece in content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > LONGEST:
            raise ValueError(f"it is longer than {LONGEST} bytes")
    return b"".join(pieces)


def _refused(response: aiohttp.ClientResponse, headers: dict[str, str], content: bytes) -> Reply:
    try:
        error = json.loads(content)["error"]
        code, message = str(error.get("code") or error.get("type") or "error"), str(error["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = "error", content[:300].decode(errors="replace")
    return Reply(
        None, response.status, headers, code[:64], message[:500], retry_after(response.headers.get("retry-after"))
    )


def retry_after(said: str | None) -> float | None:
    """Seconds, of the header's number or date; None where it says nothing that can be understood."""
    if said is None:
        return None
    try:
        return max(0.0, float(said)) if float(said) < 1e6 else None
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _tokens(usage: Mapping[str, Any]) -> dict[str, int]:
    """Numbers of a usage object; those inside of `…_details` under their own names."""
    found: dict[str, int] = {}
    for name, value in usage.items():
        inner = value.items() if isinstance(value, dict) else [(name, value)]
        found |= {key: one for key, one in inner if isinstance(one, int) and not isinstance(one, bool)}
    return found


def _text_of(parts: Any) -> str:
    return "".join(part.get("text", "") for part in parts if isinstance(part, dict))
