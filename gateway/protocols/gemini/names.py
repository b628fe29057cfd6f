"""What requests and answers of the Gemini API share: names of members, schemas, signatures, kinds of media."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

from gateway.protocols import answers
from gateway.protocols.canonical import Document, Media, Thinking

NO_PROOF = "skip_thought_signature_validator"
"""Stands for the signature of a call that another model made, or whose signature the client has lost: models from 3 on
refuse a turn whose first call has none. https://ai.google.dev/gemini-api/docs/thought-signatures (read 2026-11)."""
_SEAL = b"\0tunegate:"
_TYPES = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
_SCHEMAS = ("items", "additionalProperties")
_SUFFIXES = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif",
    "heic": "image/heic", "heif": "image/heif", "pdf": "application/pdf", "txt": "text/plain", "html": "text/html",
    "mp3": "audio/mp3", "wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp4": "video/mp4",
}  # fmt: skip


def camel(document: Document) -> Document:
    """The members under their names in camelCase: protobuf's JSON takes both forms. Nested objects stay as they are."""
    if not any("_" in name for name in document):
        return document
    return {_camel(name): value for name, value in document.items()}


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in tail)


def json_schema(schema: Any) -> Any:
    """A schema in OpenAPI's form (upper-case types, `nullable`, numbers as strings) as JSON schema."""
    if not isinstance(schema, dict):
        return schema
    schema = camel(schema)
    made: Document = {}
    for name, value in schema.items():
        if name == "type" and isinstance(value, str):
            made["type"] = value.lower() if value.upper() in _TYPES else value
        elif name in _SCHEMAS:
            made[name] = json_schema(value)
        elif name == "anyOf" and isinstance(value, list):
            made[name] = [json_schema(one) for one in value]
        elif name in ("properties", "defs") and isinstance(value, dict):
            made["$defs" if name == "defs" else name] = {key: json_schema(one) for key, one in value.items()}
        elif name == "ref":
            made["$ref"] = value
        elif name.startswith(("min", "max")) and isinstance(value, str) and value.isdecimal():
            made[name] = int(value)
        elif name not in ("nullable", "propertyOrdering"):
            made[name] = value
    if schema.get("nullable") is True and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


# --- signatures


def sealed(block: Thinking) -> str:
    """Another provider's proof of thought as one that this API's clients give back unchanged: they decode base64."""
    kind, proof = (b"r", block.redacted) if block.redacted is not None else (b"s", block.signature or "")
    return base64.b64encode(_SEAL + kind + proof.encode()).decode()


def unsealed(signature: str) -> Thinking:
    """The inverse of `sealed`; Gemini's own signatures stay what they are."""
    try:
        data = base64.b64decode(signature.translate({ord("-"): "+", ord("_"): "/"}), validate=True)
        kind, proof = data[len(_SEAL) : len(_SEAL) + 1], data[len(_SEAL) + 1 :].decode()
    except (binascii.Error, ValueError):
        return Thinking(signature=signature)
    if not data.startswith(_SEAL):
        return Thinking(signature=signature)
    return Thinking(redacted=proof) if kind == b"r" else Thinking(signature=proof)


# --- media


def kind_of(media_type: str | None) -> Literal["image", "audio", "file"]:
    """The kind of a media type."""
    kind = (media_type or "").partition("/")[0]
    return "image" if kind == "image" else "audio" if kind == "audio" else "file"


def media_of(part: Document) -> Media | None:
    """`inlineData` or `fileData` of a part."""
    data, link = part.get("inlineData"), part.get("fileData")
    if isinstance(data, dict):
        data = camel(data)
        media_type, inline = data.get("mimeType"), data.get("data")
        if isinstance(media_type, str) and isinstance(inline, str):
            name = answers.said(data, "displayName")
            return Media(kind_of(media_type), media_type=media_type, data=inline, name=name)
    if isinstance(link, dict):
        link = camel(link)
        kind, uri = answers.said(link, "mimeType"), answers.said(link, "fileUri")
        if uri is not None:
            return Media(kind_of(kind), url=uri, media_type=kind, name=answers.said(link, "displayName"))
    return None


def written_media(media: Media) -> Document | None:
    """The part for it; None for a file that another provider keeps."""
    if media.data is not None:
        return {"inlineData": {"mimeType": media.media_type or "application/octet-stream", "data": media.data}}
    if media.url is None:
        return None
    media_type = media.media_type or _SUFFIXES.get(media.url.partition("?")[0].rpartition(".")[2].lower())
    link = {"fileUri": media.url}
    return {"fileData": {"mimeType": media_type, **link} if media_type is not None else link}
