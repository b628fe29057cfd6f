"""Images, sound and moderation: POST /v1/images/…, /v1/audio/…, /v1/moderations, as OpenAI has them.

They pass to providers that have these APIs. Forms pass while they arrive (`gateway.server.upload`).
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.api.body import model_of, parse_object, prompt_estimate, stream_of
from gateway.context import Call, Operation
from gateway.errors import GatewayError


def _call(document: dict[str, Any], stream: bool, estimate: int) -> Call:
    """The call of a request whose output is no text, so that nothing of it is estimated."""
    model = model_of(document)
    return Call(
        model=model,
        stream=stream,
        wants_usage=True,
        prompt_estimate=estimate,
        output_estimate=0,
        bounded=True,
        document=document,
        encoded_model=orjson.dumps(model),
    )


def parse_input(body: bytes) -> Call:
    """Moderations: `input` is a text, or several, or parts with images."""
    document = parse_object(body)
    if not document.get("input"):
        raise GatewayError("caller_bad_request", "`input` is missing.", param="input")
    return _call(document, False, prompt_estimate(body, document["input"]))


def parse_image(body: bytes) -> Call:
    """A picture of a `prompt`."""
    document = parse_object(body)
    return _call(document, stream_of(document)[0], prompt_estimate(body, _text(document, "prompt")))


def parse_speech(body: bytes) -> Call:
    """`input` is read out."""
    document = parse_object(body)
    return _call(document, document.get("stream_format") == "sse", prompt_estimate(body, _text(document, "input")))


def form(fields: dict[str, str]) -> Call:
    """A form's fields. What a file costs, only the provider can tell."""
    prompt = fields.get("prompt", "")
    return _call(dict(fields), fields.get("stream") == "true", len(prompt.encode()) // 4)


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise GatewayError("caller_bad_request", f"`{name}` must be a non-empty text.", param=name)
    return value


MODERATIONS = Operation("moderations", b"/v1/moderations", parse_input)
IMAGES = Operation("images", b"/v1/images/generations", parse_image)
SPEECH = Operation("speech", b"/v1/audio/speech", parse_speech, accept=b"*/*")
FORMS = tuple(
    Operation(name, path, parse_image, form=form, accept=b"*/*")
    for name, path in (
        ("image_edits", b"/v1/images/edits"),
        ("image_variations", b"/v1/images/variations"),
        ("transcriptions", b"/v1/audio/transcriptions"),
        ("translations", b"/v1/audio/translations"),
    )
)
