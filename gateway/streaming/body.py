"""Replies that are one JSON document: held whole while they are small, passed on as they come when they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from gateway.errors import UpstreamFailure
from gateway.routing.retry import retry_after_seconds
from gateway.search import finder
from gateway.streaming import find

if TYPE_CHECKING:
    from gateway.streaming.reply import Reply

HOLD_BYTES = 1_048_576
"""A reply up to this size is complete before its first byte is sent, so a cut one can be retried."""
TAIL_BYTES = 65_536
"""Of a larger one, this much of the end is kept to find the usage in."""
ERROR_BYTES = 262_144


class BodyRelay:
    """A reply with status 200 that is not a stream."""

    __slots__ = ("_held", "_reply", "_size", "_streaming", "_tail", "body")
    tells_events = False

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._held: list[bytes] = []
        self._size = 0
        self._tail = b""
        self._streaming = False
        self.body = b""
        """The whole body of a reply that is `whole`."""

    def release(self) -> tuple[bytes, int | None]:
        """(bytes held back so far, length of the whole body if the upstream stated it)."""
        held, self._held = b"".join(self._held), []
        self._streaming = True
        self._tail = held[-TAIL_BYTES:]
        headers = self._reply.headers
        stated = headers.get(b"content-length") if b"content-encoding" not in headers else None
        return held, int(stated) if stated is not None else None

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The head came before."""

    def on_data(self, data: bytes) -> None:
        """Hold, or pass on."""
        self._size += len(data)
        if self._streaming:
            self._tail = (self._tail + data)[-TAIL_BYTES:]
            if not self._reply.client_left:
                self._reply.exchange.write(data)
            return
        self._held.append(data)
        if self._size > HOLD_BYTES:
            self._reply.ready()

    def on_end(self) -> None:
        """Check that it is what it should be, and read its usage."""
        reply = self._reply
        if self._streaming or reply.first.done:
            self._meter(self._tail if self._streaming else b"".join(self._held)[-TAIL_BYTES:])
            reply.done()
            return
        self.body = body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held = [body]
        problem = self._problem(body)
        if problem is not None:
            reply.fail(problem)
            return
        self._meter(body)
        reply.whole = True
        reply.done()
        reply.ready()

    def on_failure(self, failure: UpstreamFailure) -> None:
        """Cut short."""
        self._reply.fail(failure)

    def estimate(self) -> int:
        """Output tokens from the size of what was relayed; of operations that write no text there are none."""
        if not self._reply.ctx.call.output_estimate:
            return 0
        size = self._reply.wire.content_bytes(self.body) if self.body else self._size
        return max(1, size // 4)

    def _meter(self, data: bytes) -> None:
        reply = self._reply
        raw = find.last_object(data, reply.wire.usage_key)
        if raw is not None:
            reply.ctx.usage = reply.wire.usage(raw)

    def _problem(self, body: bytes) -> UpstreamFailure | None:
        text = body.strip()  # no copy if there is nothing to strip
        if text[:1] != b"{" or text[-1:] != b"}":
            what = "an empty body" if not text else "an HTML page" if text[:1] == b"<" else "no JSON object"
            return UpstreamFailure("provider_bad_reply", f"The upstream answered with status 200 and {what}.")
        if (
            finder(body)(b'"error"', 0) < 0
        ):  # not `in`: with bytes, that tries a number first, and catches its own exception
            return None
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return UpstreamFailure("provider_bad_reply", "The upstream answered with broken JSON.")
        return failure_in(document.get("error"), self._reply) if document.get("error") else None


class Told:
    """An answer of the gateway's own, which no upstream was asked for."""

    def __init__(self, body: bytes, tells_events: bool = False) -> None:
        self.body = body
        self.tells_events = tells_events

    def release(self) -> tuple[bytes, int | None]:
        """All of it; of a stream, all but the last event."""
        return self.body, None if self.tells_events else len(self.body)

    def estimate(self) -> int:
        """It has cost nothing."""
        return 0


class ErrorBody:
    """A reply with another status: collected, then classified."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._body = b""

    def on_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The head came before."""

    def on_data(self, data: bytes) -> None:
        """Collect; of a monstrous error page the beginning is enough."""
        if len(self._body) < ERROR_BYTES:
            self._body += data

    def on_end(self) -> None:
        """Say what it means."""
        self._reply.fail(classify(self._reply, self._body))

    def on_failure(self, failure: UpstreamFailure) -> None:
        """The status says enough, even if the explanation was cut off."""
        self._reply.fail(classify(self._reply, self._body))


def classify(reply: Reply, body: bytes) -> UpstreamFailure:
    """What an upstream's error status means: whose fault, whether to try again, what the client is told.

    Statuses 401 and 403 speak of our credentials, not the client's, and their bodies may quote them: they become 502.
    """
    status = reply.status
    endpoint = reply.target.endpoint.name
    message = reply.target.endpoint.provider.error_message(body)
    wait = reply.headers.get(b"retry-after")
    retry_after = retry_after_seconds(wait)
    headers = ((b"retry-after", wait),) if wait is not None and retry_after is not None else ()
    if status in (401, 403):
        text = (
            f"The endpoint {endpoint!r} refused the gateway's credentials (status {status}). Tell your administrator."
        )
        return UpstreamFailure("provider_auth", text, upstream_status=status)
    if any(secret in body for secret in reply.target.endpoint.secrets):
        message = None  # some upstreams quote the credential that they refuse
    passed = body if message is not None and reply.translation is None and reply.task is None else None
    text = message or f"The endpoint {endpoint!r} answered with status {status} and no readable error."
    if status in (408, 425, 429) or status == 529:
        code = "provider_rate" if status in (429, 529) else "provider_timeout"
        return UpstreamFailure(
            code, text, retry_after=retry_after, upstream_status=status, status=status, headers=headers, body=passed
        )
    if status >= 500:
        return UpstreamFailure(
            "provider_5xx", text, retry_after=retry_after, upstream_status=status,
            status=status if status < 600 else 502, headers=headers, body=passed,
        )  # fmt: skip
    if status < 400:
        text = f"The endpoint {endpoint!r} answered with the unexpected status {status}; redirects are not followed."
        return UpstreamFailure("provider_bad_reply", text, upstream_status=status)
    return UpstreamFailure(
        "provider_rejected", text, retriable=False, blames_target=False, upstream_status=status, status=status,
        headers=headers, body=passed,
    )  # fmt: skip


def failure_in(error: object, reply: Reply) -> UpstreamFailure:
    """An `error` object inside a reply with status 200: its `code` may be the status that it should have had."""
    code = error.get("code") if isinstance(error, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    text = message if isinstance(message, str) else "The upstream answered with status 200 and an error inside."
    if any(secret in text.encode() for secret in reply.target.endpoint.secrets):
        text = "The upstream answered with an error that quotes the gateway's credential; it is not shown."
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    if 400 <= status < 500 and status not in (401, 403, 408, 425, 429):
        return UpstreamFailure(
            "provider_rejected", text, retriable=False, blames_target=False, upstream_status=200, status=status
        )
    return UpstreamFailure("provider_bad_reply", text, upstream_status=200)
