"""A vendor that speaks OpenAI's Responses API, and what arrived there.

https://platform.openai.com/docs/api-reference/responses and /responses-streaming (read 2026-11)
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from tests.fakes.upstream import Seen
from tests.matrix.told import Asked, Call, Said, Tokens


def usage(tokens: Tokens) -> dict[str, Any]:
    """Details are parts of the counts."""
    given, made = tokens.input + tokens.cached, tokens.output + tokens.reasoning
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": tokens.cached},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": given + made,
    }


class ResponsesVendor:
    """See `tests.matrix.vendors.Vendor`."""

    name = "openai-responses"
    kind = "openai"
    base = "/v1"
    endpoint: ClassVar = {"options": {"api": "responses"}}

    def __init__(self) -> None:
        self._turns: list[dict[str, Any]] = []
        """All items so far: it keeps conversations, of which there is one at a time here."""

    def _items(self, said: Said) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        if said.reasoning:
            part = {"type": "summary_text", "text": said.reasoning}
            proof = {"encrypted_content": said.signature} if said.signature else {}
            items.append({"id": "rs_1", "type": "reasoning", "summary": [part], **proof})
        if said.text:
            part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
            message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
            items.append({**message, "content": [part]})
        items += [self._call(call) for call in said.calls]
        return items

    def _call(self, call: Call) -> dict[str, Any]:
        return {
            "id": f"fc_{call.id}", "type": "function_call", "status": "completed", "call_id": call.id,
            "name": call.name, "arguments": json.dumps(call.arguments),
        }  # fmt: skip

    def _response(self, said: Said, model: str, status: str) -> dict[str, Any]:
        done = status == "completed"
        cut = done and said.finish == "length"
        return {
            "id": "resp_1", "object": "response", "created_at": 1_730_000_000,
            "status": "incomplete" if cut else status, "model": model, "output": self._items(said) if done else [],
            "usage": usage(said.tokens) if done else None, "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None, "service_tier": "default",
            "parallel_tool_calls": True, "tools": [], "tool_choice": "auto",
        }  # fmt: skip

    def whole(self, said: Said, model: str) -> bytes:
        self._turns = [*self._turns, *self._items(said)]
        return json.dumps(self._response(said, model, "completed")).encode()

    def events(self, said: Said, model: str) -> list[bytes]:
        events: list[bytes] = []
        self._turns = [*self._turns, *self._items(said)]

        def tell(kind: str, **members: Any) -> None:
            data = json.dumps({"type": kind, "sequence_number": len(events), **members})
            events.append(f"event: {kind}\ndata: {data}\n\n".encode())

        tell("response.created", response=self._response(said, model, "in_progress"))
        tell("response.in_progress", response=self._response(said, model, "in_progress"))
        for at, item in enumerate(self._items(said)):
            place = {"item_id": item["id"], "output_index": at}
            if item["type"] == "reasoning":
                part = {"type": "summary_text", "text": ""}
                tell("response.output_item.added", output_index=at, item={**item, "summary": []})
                tell("response.reasoning_summary_part.added", **place, summary_index=0, part=part)
                for piece in said.pieces(said.reasoning):
                    tell("response.reasoning_summary_text.delta", **place, summary_index=0, delta=piece)
                tell("response.reasoning_summary_text.done", **place, summary_index=0, text=said.reasoning)
                tell("response.reasoning_summary_part.done", **place, summary_index=0, part=item["summary"][0])
            elif item["type"] == "message":
                part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
                tell("response.output_item.added", output_index=at, item={**item, "content": []})
                tell("response.content_part.added", **place, content_index=0, part=part)
                for piece in said.pieces(said.text):
                    tell("response.output_text.delta", **place, content_index=0, delta=piece, logprobs=[])
                tell("response.output_text.done", **place, content_index=0, text=said.text, logprobs=[])
                tell("response.content_part.done", **place, content_index=0, part=item["content"][0])
            else:
                tell("response.output_item.added", output_index=at, item={**item, "arguments": ""})
                for piece in said.pieces(item["arguments"]):
                    tell("response.function_call_arguments.delta", **place, delta=piece)
                tell("response.function_call_arguments.done", **place, arguments=item["arguments"])
            tell("response.output_item.done", output_index=at, item=item)
        last = self._response(said, model, "completed")
        tell(f"response.{last['status']}", response=last)
        return events

    def error(self, status: int, message: str) -> bytes:
        return json.dumps({"error": {"message": message, "type": "server_error", "code": None, "param": None}}).encode()

    def asked(self, seen: Seen) -> Asked:
        body = seen.json
        assert seen.target == "/v1/responses"
        asked = Asked(stream=seen.stream, system=body.get("instructions") or "")
        given = body["input"]
        items = [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given
        if body.get("previous_response_id") is not None:
            assert body["previous_response_id"] == "resp_1"
            items = [*self._turns, *items]
        self._turns = items
        for item in items:
            self._item(item, asked)
        for tool in body.get("tools", ()):
            asked.tools[tool["name"]] = tool["parameters"]
        choice = body.get("tool_choice")
        asked.forced = choice["name"] if isinstance(choice, dict) else ""
        form = body.get("text", {}).get("format", {})
        asked.schema = form.get("schema")
        asked.thinking = bool(body.get("reasoning", {}).get("effort"))
        return asked

    def _item(self, item: dict[str, Any], asked: Asked) -> None:
        kind = item.get("type", "message")
        if kind == "function_call":
            asked.calls[item["call_id"]] = (item["name"], json.loads(item["arguments"]))
        elif kind == "function_call_output":
            output = item["output"]
            asked.results[item["call_id"]] = output if isinstance(output, str) else output[0]["text"]
        elif kind == "reasoning":
            asked.signature = item.get("encrypted_content") or ""
        else:
            content = item["content"]
            parts = [{"type": "input_text", "text": content}] if isinstance(content, str) else content
            text = "".join(part["text"] for part in parts if part["type"].endswith("_text"))
            if item["role"] in ("system", "developer"):
                asked.system += text
            elif item["role"] == "user":
                asked.texts.append(text)
                asked.images += [part["image_url"] for part in parts if part["type"] == "input_image"]
