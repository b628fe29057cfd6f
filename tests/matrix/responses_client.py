"""The OpenAI SDK's Responses API as a client; its own accumulator puts streams together.

Later turns go by `previous_response_id`: the gateway keeps the earlier ones.
"""

from __future__ import annotations

import json
from typing import Any

import openai
from openai import OpenAI

from tests.matrix.told import Ask, Call, Heard, Tokens


class ResponsesClient:
    """See `tests.matrix.clients.Client`."""

    name = "responses"

    def __init__(self, url: str, key: str) -> None:
        self._sdk = OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=10)

    def close(self) -> None:
        self._sdk.close()

    def ask(self, ask: Ask) -> Heard:
        try:
            return self._stream(ask) if ask.stream else self._heard(self._sdk.responses.create(**self._body(ask)))
        except openai.APIStatusError as exc:
            return Heard(status=exc.status_code, message=exc.message)

    def _body(self, ask: Ask) -> dict[str, Any]:
        body: dict[str, Any] = {"model": ask.model, "instructions": ask.system}
        if ask.heard is not None:
            body["previous_response_id"] = ask.heard.raw
        if ask.results:
            body["input"] = [
                {"type": "function_call_output", "call_id": i, "output": text} for i, text in ask.results.items()
            ]
        elif ask.images:
            parts = [{"type": "input_image", "image_url": url, "detail": "auto"} for url in ask.images]
            body["input"] = [{"role": "user", "content": [{"type": "input_text", "text": ask.text}, *parts]}]
        else:
            body["input"] = ask.text
        if ask.tools:
            body["tools"] = [
                {"type": "function", "name": t.name, "description": t.description, "parameters": t.schema}
                for t in ask.tools
            ]
        if ask.forced:
            body["tool_choice"] = {"type": "function", "name": ask.forced}
        if ask.schema is not None:
            form = {"type": "json_schema", "name": "answer", "schema": ask.schema, "strict": True}
            body["text"] = {"format": form}
        if ask.budget:
            body["reasoning"] = {"effort": "medium"}
        return body

    def _stream(self, ask: Ask) -> Heard:
        events, text = 0, ""
        try:
            with self._sdk.responses.stream(**self._body(ask)) as stream:
                for event in stream:
                    if event.type == "response.output_text.delta":
                        events, text = events + 1, text + event.delta
                    elif event.type == "error":
                        return Heard(text=text, status=-1, message=event.message, events=events)
                    elif event.type in ("response.completed", "response.incomplete"):
                        heard = self._heard(event.response)
        except openai.APIStatusError:
            raise
        except (openai.APIError, RuntimeError) as exc:  # RuntimeError: no completed event
            return Heard(text=text, status=-1, message=str(exc), events=events)
        heard.events = events
        return heard

    def _heard(self, response: Any) -> Heard:
        heard = Heard(finish="stop" if response.status == "completed" else "length", raw=response.id)
        for item in response.output:
            if item.type == "message":
                heard.text += "".join(part.text for part in item.content)
            elif item.type == "reasoning":
                heard.reasoning += "".join(part.text for part in item.content or item.summary)
            elif item.type == "function_call":
                heard.calls.append(Call(item.call_id, item.name, json.loads(item.arguments)))
                heard.finish = "tool_calls"
        usage = response.usage
        read, thought = usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens
        heard.tokens = Tokens(usage.input_tokens - read, read, usage.output_tokens - thought, thought)
        return heard
