"""The bytes that real providers put on the wire: OpenAI's exact format and the variations of its imitators.

Every builder returns bytes or lists of SSE events (bytes that end in a blank line); nothing here does I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CREATED = 1_730_000_000
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


@dataclass(frozen=True)
class Usage:
    """Token counts as a provider bills them; `cached` is part of `prompt`, `reasoning` of `completion`."""

    prompt: int = 20
    completion: int = 10
    cached: int = 0
    reasoning: int = 0

    def openai(self) -> dict[str, object]:
        """OpenAI's usage object, with its details."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        }

    def deepseek(self) -> dict[str, object]:
        """DeepSeek's: cache hits beside the total, and the details only where they are not zero."""
        usage: dict[str, object] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_cache_hit_tokens": self.cached,
            "prompt_cache_miss_tokens": self.prompt - self.cached,
        }
        if self.reasoning:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return usage

    def vllm(self) -> dict[str, object]:
        """vLLM's: `prompt_tokens_details` is null unless the server was told to fill it."""
        return {
            "prompt_tokens": self.prompt,
            "total_tokens": self.prompt + self.completion,
            "completion_tokens": self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached} if self.cached else None,
        }

    def zhipu(self) -> dict[str, object]:
        """Zhipu's and DashScope's: details of the prompt only."""
        return {
            "completion_tokens": self.completion,
            "prompt_tokens": self.prompt,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "total_tokens": self.prompt + self.completion,
        }

    def buckets(self) -> dict[str, int]:
        """What the gateway's ledger must say for these counts."""
        return {
            "input": self.prompt - self.cached,
            "cache_read": self.cached,
            "cache_write": 0,
            "output": self.completion - self.reasoning,
            "reasoning": self.reasoning,
        }


def event(payload: object) -> bytes:
    """One SSE event with compact JSON, as OpenAI writes it."""
    return b"data: " + json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def chunk(model: str, choices: list[dict[str, object]], **extra: object) -> dict[str, object]:
    """The object of one chat chunk."""
    return {
        "id": "chatcmpl-AbCdEf0123456789",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
        "choices": choices,
        **extra,
    }


def delta(fields: dict[str, object], finish: str | None = None) -> list[dict[str, object]]:
    """The `choices` of a chunk with one delta."""
    return [{"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish}]


def role_event(model: str = "m", **extra: object) -> bytes:
    """OpenAI's first chunk: a role and empty content, which is not content."""
    return event(chunk(model, delta({"role": "assistant", "content": "", "refusal": None}), **extra))


def word_event(word: str, model: str = "m", **extra: object) -> bytes:
    """A chunk of content."""
    return event(chunk(model, delta({"content": word}), **extra))


def finish_event(model: str = "m", reason: str = "stop", **extra: object) -> bytes:
    """The chunk that says why the answer ended."""
    return event(chunk(model, delta({}, reason), **extra))


def usage_event(usage: Usage, model: str = "m") -> bytes:
    """OpenAI's extra chunk for `include_usage`: no choices."""
    return event(chunk(model, [], usage=usage.openai()))


def openai_stream(words: Sequence[str], usage: Usage | None, model: str = "m", *, asked: bool) -> list[bytes]:
    """A chat stream of OpenAI: with `asked`, every chunk has `usage: null` and one more has the usage."""
    extra: dict[str, object] = {"usage": None} if asked else {}
    events = [role_event(model, **extra), *(word_event(w, model, **extra) for w in words)]
    events.append(finish_event(model, **extra))
    if asked and usage is not None:
        events.append(usage_event(usage, model))
    return [*events, DONE]


def deepseek_stream(words: Sequence[str], usage: Usage, model: str, *, asked: bool) -> list[bytes]:
    """DeepSeek: comments while queueing, reasoning before the answer, usage in the last choice's chunk."""

    def piece(fields: dict[str, object], finish: str | None = None, **extra: object) -> bytes:
        body = chunk(model, delta(fields, finish), **extra)
        del body["service_tier"]
        return event(body)

    events = [KEEP_ALIVE, KEEP_ALIVE, piece({"role": "assistant", "content": None, "reasoning_content": ""})]
    if usage.reasoning:
        events += [piece({"content": None, "reasoning_content": t}) for t in ("Let ", "me think.")]
    events += [piece({"content": w, "reasoning_content": None}) for w in words]
    last = {"usage": usage.deepseek()} if asked else {}
    return [*events, piece({"content": "", "reasoning_content": None}, "stop", **last), DONE]


def vllm_stream(words: Sequence[str], usage: Usage, model: str, *, asked: bool) -> list[bytes]:
    """vLLM: no service tier, `stop_reason` and `token_ids`, usage in a chunk of its own."""

    def piece(choices: list[dict[str, object]], **extra: object) -> bytes:
        head = {"id": "chatcmpl-0f", "object": "chat.completion.chunk", "created": CREATED, "model": model}
        return event({**head, "choices": choices, **extra})

    def one(fields: dict[str, object], finish: str | None = None) -> list[dict[str, object]]:
        base = {"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish, "token_ids": None}
        return [base | ({"stop_reason": None} if finish else {})]

    events = [piece(one({"role": "assistant", "content": "", "reasoning": None}), prompt_token_ids=None)]
    events += [piece(one({"content": w})) for w in words[:-1]]
    events.append(piece(one({"content": words[-1]}, "stop")))
    if asked:
        events.append(piece([], usage=usage.vllm()))
    return [*events, DONE]


def zhipu_stream(words: Sequence[str], usage: Usage, model: str, *, asked: bool) -> list[bytes]:
    """Zhipu: usage always comes, inside the chunk that finishes the answer."""

    def piece(fields: dict[str, object], **extra: object) -> bytes:
        choice: dict[str, object] = {"index": 0, "delta": {"role": "assistant", **fields}}
        if "usage" in extra:
            choice = {"index": 0, "finish_reason": "stop", **choice}
        head = {"id": "2024110112", "created": CREATED, "model": model}
        return event({**head, "choices": [choice], **extra})

    return [*(piece({"content": w}) for w in words), piece({"content": ""}, usage=usage.zhipu()), DONE]


def dashscope_stream(words: Sequence[str], usage: Usage, model: str, *, asked: bool) -> list[bytes]:
    """DashScope in its compatible mode: nulls where OpenAI leaves out, no space between some fields."""

    def piece(choices: list[dict[str, object]], use: object = None) -> bytes:
        body = {"choices": choices, "object": "chat.completion.chunk", "usage": use, "created": CREATED}
        return event({**body, "system_fingerprint": None, "model": model, "id": "chatcmpl-ds"})

    events = [piece(delta({"content": "", "role": "assistant"}))]
    events += [piece(delta({"content": w})) for w in words]
    events.append(piece(delta({"content": ""}, "stop")))
    if asked:
        events.append(piece([], usage.zhipu()))
    return [*events, DONE]


STREAMS = {
    "openai": openai_stream,
    "deepseek": deepseek_stream,
    "vllm": vllm_stream,
    "zhipu": zhipu_stream,
    "dashscope": dashscope_stream,
}


def completion_stream(words: Iterable[str], usage: Usage | None, model: str, *, asked: bool) -> list[bytes]:
    """A legacy text completion stream."""

    def piece(choices: list[dict[str, object]], **extra: object) -> bytes:
        head = {"id": "cmpl-1", "object": "text_completion", "created": CREATED, "model": model}
        return event({**head, "choices": choices, **extra})

    events = [piece([{"text": w, "index": 0, "logprobs": None, "finish_reason": None}]) for w in words] + [
        piece([{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}])
    ]
    if asked and usage is not None:
        events.append(piece([], usage=usage.openai()))
    return [*events, DONE]


def pretty(payload: object) -> bytes:
    """JSON as OpenAI's complete replies have it: indented, with a last line break."""
    return json.dumps(payload, indent=2, ensure_ascii=False).encode() + b"\n"


def chat_body(text: str = "Hello world", usage: object = None, model: str = "m", **extra: object) -> bytes:
    """A complete chat reply; `usage` is the object to put there, None leaves it out."""
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": []}
    payload: dict[str, object] = {
        "id": "chatcmpl-AbCdEf0123456789",
        "object": "chat.completion",
        "created": CREATED,
        "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        **({"usage": usage} if usage is not None else {}),
        "service_tier": "default",
        "x_unknown": {"kept": [1, 2.50, None]},
        **extra,
    }
    return pretty(payload)


def completion_body(text: str, usage: Usage, model: str) -> bytes:
    """A complete legacy text completion."""
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": "length"}
    head = {"id": "cmpl-1", "object": "text_completion", "created": CREATED, "model": model}
    return pretty({**head, "choices": [choice], "usage": usage.openai()})


def embedding_body(count: int, tokens: int, model: str) -> bytes:
    """A complete embeddings reply."""
    data = [{"object": "embedding", "index": i, "embedding": [0.0023064255, -0.009327292]} for i in range(count)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return pretty({"object": "list", "data": data, "model": model, "usage": usage})


def error_body(message: str = "The server had an error", kind: str = "server_error", code: str | None = None) -> bytes:
    """OpenAI's error object."""
    return pretty({"error": {"message": message, "type": kind, "param": None, "code": code}})
