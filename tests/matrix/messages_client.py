"""The Anthropic SDK as a client; its own accumulator puts streams together."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
from anthropic import Anthropic

from tests.matrix.told import Ask, Call, Heard, Tokens

FINISH = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}


class MessagesClient:
    """See `tests.matrix.clients.Client`."""

    name = "messages"

    def __init__(self, url: str, key: str) -> None:
        self._sdk = Anthropic(base_url=url, api_key=key, max_retries=0, timeout=10)

    def close(self) -> None:
        self._sdk.close()

    def ask(self, ask: Ask) -> Heard:
        try:
            return self._stream(ask) if ask.stream else self._heard(self._sdk.messages.create(**self._body(ask)))
        except anthropic.APIStatusError as exc:
            body = exc.body
            assert isinstance(body, dict), body
            assert body["type"] == "error", body
            return Heard(status=exc.status_code, message=body["error"]["message"])

    def _body(self, ask: Ask) -> dict[str, Any]:
        images: list[Any] = []
        for url in ask.images:
            if url.startswith("data:"):
                media_type, _, data = url[5:].partition(";base64,")
                source = {"type": "base64", "media_type": media_type, "data": data}
            else:
                source = {"type": "url", "url": url}
            images.append({"type": "image", "source": source})
        content: Any = [{"type": "text", "text": ask.text}, *images] if images else ask.text
        messages: list[Any] = [{"role": "user", "content": content}]
        if ask.heard is not None:
            messages.append({"role": "assistant", "content": ask.heard.raw})
        if ask.results:
            results = [{"type": "tool_result", "tool_use_id": i, "content": text} for i, text in ask.results.items()]
            messages.append({"role": "user", "content": results})
        body: dict[str, Any] = {"model": ask.model, "messages": messages, "system": ask.system, "max_tokens": 20_000}
        if ask.tools:
            body["tools"] = [
                {"name": t.name, "description": t.description, "input_schema": t.schema} for t in ask.tools
            ]
        if ask.forced:
            body["tool_choice"] = {"type": "tool", "name": ask.forced}
        if ask.schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": ask.schema}}
        if ask.budget:
            body["thinking"] = {"type": "enabled", "budget_tokens": ask.budget}
        return body

    def _stream(self, ask: Ask) -> Heard:
        events, text = 0, ""
        try:
            with self._sdk.messages.stream(**self._body(ask)) as stream:
                for piece in stream.text_stream:
                    events, text = events + 1, text + piece
                heard = self._heard(stream.get_final_message())
        except (anthropic.APIError, httpx2.TransportError) as exc:
            if isinstance(exc, anthropic.APIStatusError) and exc.status_code != 200:
                raise
            return Heard(text=text, status=-1, message=str(exc), events=events)
        heard.events = events
        return heard

    def _heard(self, message: Any) -> Heard:
        heard = Heard(finish=FINISH[message.stop_reason])
        for block in message.content:
            if block.type == "text":
                heard.text += block.text
            elif block.type == "thinking":
                heard.reasoning += block.thinking
            elif block.type == "tool_use":
                heard.calls.append(Call(block.id, block.name, block.input))
        usage = message.usage
        details = usage.output_tokens_details
        thought = details.thinking_tokens if details else 0
        cached = usage.cache_read_input_tokens or 0
        heard.tokens = Tokens(usage.input_tokens, cached, usage.output_tokens - thought, thought)
        heard.raw = [block.model_dump(exclude_none=True) for block in message.content]
        for block in heard.raw:
            block.pop("parsed_output", None)
        return heard
