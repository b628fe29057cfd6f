"""The Google Gen AI SDK as a client. It has no accumulator: its chunks are put together as its documentation does."""

from __future__ import annotations

import base64
from typing import Any

from google import genai
from google.genai import errors, types

from tests.matrix.told import Ask, Call, Heard, Tokens

FINISH = {"STOP": "stop", "MAX_TOKENS": "length"}


class GeminiClient:
    """See `tests.matrix.clients.Client`."""

    name = "gemini"

    def __init__(self, url: str, key: str) -> None:
        options = types.HttpOptions(base_url=url, timeout=10_000)
        self._sdk = genai.Client(api_key=key, http_options=options)

    def close(self) -> None:
        self._sdk.close()

    def ask(self, ask: Ask) -> Heard:
        contents, config = self._body(ask)
        heard = Heard(raw=[])
        try:
            if not ask.stream:
                self._take(self._sdk.models.generate_content(model=ask.model, contents=contents, config=config), heard)
                return heard
            for chunk in self._sdk.models.generate_content_stream(model=ask.model, contents=contents, config=config):
                self._take(chunk, heard)
        except errors.APIError as exc:
            began = bool(heard.events)
            return Heard(heard.text, status=-1 if began else exc.code, message=exc.message or "", events=heard.events)
        if not heard.finish:  # its streams have no other end
            heard.status = -1
        return heard

    def _body(self, ask: Ask) -> tuple[list[Any], types.GenerateContentConfig]:
        parts = [types.Part.from_text(text=ask.text)]
        for url in ask.images:
            if url.startswith("data:"):
                media_type, _, data = url[5:].partition(";base64,")
                parts.append(types.Part.from_bytes(data=base64.b64decode(data), mime_type=media_type))
            else:
                parts.append(types.Part.from_uri(file_uri=url, mime_type="image/png"))
        contents: list[Any] = [types.Content(role="user", parts=parts)]
        if ask.heard is not None:
            contents.append(types.Content(role="model", parts=ask.heard.raw))
        if ask.results and ask.heard is not None:
            names = {call.id: call.name for call in ask.heard.calls}
            results = [
                types.Part(function_response=types.FunctionResponse(id=i, name=names[i], response={"result": text}))
                for i, text in ask.results.items()
            ]
            contents.append(types.Content(role="user", parts=results))
        config = types.GenerateContentConfig(system_instruction=ask.system)
        if ask.tools:
            functions = [
                types.FunctionDeclaration(name=t.name, description=t.description, parameters_json_schema=t.schema)
                for t in ask.tools
            ]
            config.tools = [types.Tool(function_declarations=functions)]
            config.automatic_function_calling = types.AutomaticFunctionCallingConfig(disable=True)
        if ask.forced:
            calling = types.FunctionCallingConfig(
                mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=[ask.forced]
            )
            config.tool_config = types.ToolConfig(function_calling_config=calling)
        if ask.schema is not None:
            config.response_mime_type, config.response_json_schema = "application/json", ask.schema
        if ask.budget:
            config.thinking_config = types.ThinkingConfig(thinking_budget=ask.budget, include_thoughts=True)
        return contents, config

    def _take(self, chunk: types.GenerateContentResponse, heard: Heard) -> None:
        for candidate in chunk.candidates or ():
            for part in (candidate.content.parts if candidate.content else None) or ():
                self._part(part, heard)
            if candidate.finish_reason is not None:
                heard.finish = "tool_calls" if heard.calls else FINISH[candidate.finish_reason.value]
        usage = chunk.usage_metadata
        if usage is not None and usage.prompt_token_count is not None:
            read, thought = usage.cached_content_token_count or 0, usage.thoughts_token_count or 0
            heard.tokens = Tokens(usage.prompt_token_count - read, read, usage.candidates_token_count or 0, thought)

    def _part(self, part: types.Part, heard: Heard) -> None:
        heard.raw.append(part)
        if part.function_call is not None:
            call = part.function_call
            assert call.id, "a call without an id cannot be told from another one"
            heard.calls.append(Call(call.id, call.name or "", dict(call.args or {})))
        elif part.thought:
            heard.reasoning += part.text or ""
        elif part.text:
            heard.text += part.text
            heard.events += 1
