"""OpenAI's older text interface, `/v1/completions`: its answers, read and written anew where a guard looks at them.

https://platform.openai.com/docs/api-reference/completions (read 2026-11). Its prompts are no conversations: they go to
upstreams that have this API, and to no others.
"""

from __future__ import annotations

import orjson

from gateway.protocols import answers
from gateway.protocols.base import BadReply, Origin, UsageOf
from gateway.protocols.canonical import Choice, Delta, Document, Reply, Request, Start, Text
from gateway.protocols.chat import Chat
from gateway.protocols.chat.reply import finish_of, written_finish, written_usage
from gateway.protocols.chat.stream import ChatReader, ChatWriter


class Legacy(Chat):
    """Told like chat, but for where the text stands."""

    operation = "completions"

    def read_request(self, document: Document) -> Request:
        """Nothing of it: the client's own bytes go to the upstream."""
        return Request([])

    def read_reply(self, document: Document, usage: UsageOf) -> Reply:
        """A whole answer."""
        choices = answers.objects(document.get("choices"))
        if not choices:
            raise BadReply("has no choices")
        raw = document.get("usage")
        return Reply(
            answers.text(document, "id"),
            answers.text(document, "model"),
            [Choice([Text(answers.text(one, "text"))], finish_of(one.get("finish_reason"))) for one in choices],
            usage(raw) if isinstance(raw, dict) else None,
        )

    def write_reply(self, reply: Reply, request: Request, origin: Origin) -> bytes:
        """The body of a whole answer."""
        told = {
            "id": f"cmpl-{origin.id}", "object": "text_completion", "created": origin.created,
            "model": reply.model or origin.model,
            "choices": [
                _choice(at, _text(choice), written_finish(choice.finish or "stop"))
                for at, choice in enumerate(reply.choices)
            ],
        }  # fmt: skip
        return orjson.dumps(told if reply.usage is None else {**told, "usage": written_usage(reply.usage)})

    def reader(self, usage: UsageOf) -> ChatReader:
        """For one streamed answer."""
        return _Reader(usage)

    def writer(self, request: Request, origin: Origin) -> ChatWriter:
        """For one streamed answer."""
        return _Writer(request, origin)


class _Reader(ChatReader):
    def _choice(self, choice: Document, deltas: list[Delta]) -> None:
        super()._choice({**choice, "delta": {"content": choice.get("text")}, "logprobs": None}, deltas)


class _Writer(ChatWriter):
    def _begin(self, start: Start) -> None:
        envelope = {
            "id": f"cmpl-{self._origin.id}", "object": "text_completion", "created": self._origin.created,
            "model": start.model or self._origin.model,
        }  # fmt: skip
        self._head = b"data: " + orjson.dumps(envelope)[:-1] + b',"choices":'

    def _chunk(self, choice: int, delta: Document, more: Document | None = None) -> bytes:
        told = _choice(choice, delta.get("content") or "", (more or {}).get("finish_reason"))
        return b"%b[%b]}\n\n" % (self._head, orjson.dumps(told))


def _text(choice: Choice) -> str:
    return "".join(block.text for block in choice.blocks if isinstance(block, Text))


def _choice(index: int, text: str, finish: str | None) -> Document:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
