"""The OpenAI SDK's chat completions as a client; its own accumulator puts streams together."""

from __future__ import annotations

import json
from typing import Any

import openai
from openai import OpenAI

from tests.matrix.told import Ask, Call, Heard, Tokens


class ChatClient:
    """See `tests.matrix.clients.Client`."""

    name = "chat"

    def __init__(self, url: str, key: str) -> None:
        self._sdk = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=10)

    def close(self) -> None:
        self._sdk.close()

    def ask(self, ask: Ask) -> Heard:
        try:
            return (
                self._stream(ask) if ask.stream else self._heard(self._sdk.chat.completions.create(**self._body(ask)))
            )
        except openai.APIStatusError as exc:
            return Heard(status=exc.status_code, message=exc.message)

    def _body(self, ask: Ask) -> dict[str, Any]:
        parts: Any = [{"type": "image_url", "image_url": {"url": url}} for url in ask.images]
        content = [{"type": "text", "text": ask.text}, *parts] if parts else ask.text
        messages: list[Any] = [{"role": "system", "content": ask.system}, {"role": "user", "content": content}]
        if ask.heard is not None:
            messages.append(ask.heard.raw)
        messages += [{"role": "tool", "tool_call_id": id_, "content": text} for id_, text in ask.results.items()]
        body: dict[str, Any] = {"model": ask.model, "messages": messages}
        if ask.tools:
            body["tools"] = [
                {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
                for t in ask.tools
            ]
        if ask.forced:
            body["tool_choice"] = {"type": "function", "function": {"name": ask.forced}}
        if ask.schema is not None:
            form = {"name": "answer", "schema": ask.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if ask.budget:
            body["reasoning_effort"] = "medium"
        return body

    def _stream(self, ask: Ask) -> Heard:
        events, text, reasoning = 0, "", ""
        details: list[Any] = []
        try:
            with self._sdk.chat.completions.stream(**self._body(ask), stream_options={"include_usage": True}) as stream:
                for event in stream:
                    if event.type == "content.delta":
                        events, text = events + 1, text + event.delta
                    elif event.type == "chunk" and event.chunk.choices:
                        extra = event.chunk.choices[0].delta.model_extra or {}
                        reasoning += extra.get("reasoning_content") or extra.get("reasoning") or ""
                        details += extra.get("reasoning_details") or []
                heard = self._heard(stream.get_final_completion())
        except openai.LengthFinishReasonError as exc:  # the accumulator's way to say so
            heard = self._heard(exc.completion)
        except openai.APIStatusError:
            raise
        except openai.APIError as exc:  # told in the stream, or cut
            return Heard(text=text, status=-1, message=exc.message, events=events)
        heard.events, heard.reasoning = events, reasoning
        if details:
            heard.raw["reasoning_details"] = details
        return heard

    def _heard(self, completion: Any) -> Heard:
        choice = completion.choices[0]
        message = choice.message
        calls = [
            Call(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()
        ]
        usage = completion.usage
        tokens = None
        if usage is not None:
            cached, thought = usage.prompt_tokens_details, usage.completion_tokens_details
            read = (cached.cached_tokens or 0) if cached else 0
            reasoned = (thought.reasoning_tokens or 0) if thought else 0
            tokens = Tokens(usage.prompt_tokens - read, read, usage.completion_tokens - reasoned, reasoned)
        raw = message.model_dump(exclude_none=True, exclude={"parsed"})
        for call in raw.get("tool_calls", ()):
            call["function"].pop("parsed_arguments", None)
        extra = message.model_extra or {}
        reasoning = extra.get("reasoning_content") or extra.get("reasoning") or ""
        return Heard(message.content or "", reasoning, calls, choice.finish_reason, tokens, 0, raw)
