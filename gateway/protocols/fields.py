"""Reads members of a client's body and says clearly which one is wrong."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from gateway.protocols.base import bad
from gateway.protocols.canonical import Document, Media


def text(document: Document, name: str, where: str = "") -> str | None:
    """A string, or None if absent or null."""
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise bad(where + name, "must be a string.")
    return value


def needed(document: Document, name: str, where: str = "") -> str:
    """A string that must be there."""
    value = text(document, name, where)
    if value is None:
        raise bad(where + name, "is missing.")
    return value


def number(document: Document, name: str, where: str = "") -> float | None:
    """A number, or None."""
    value = document.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise bad(where + name, "must be a number.")
    return value


def whole(document: Document, name: str, where: str = "") -> int | None:
    """A whole number, or None."""
    value = document.get(name)
    if value is not None and type(value) is not int:
        raise bad(where + name, "must be a whole number.")
    return value


def flag(document: Document, name: str, where: str = "") -> bool | None:
    """A boolean, or None."""
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad(where + name, "must be true or false.")
    return value


def mapping(value: Any, where: str) -> Document:
    """An object; None becomes an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad(where, "must be an object.")
    return value


def cache(document: Document, where: str) -> Document | None:
    """`cache_control`, which asks for a cache border, or None."""
    value = document.get("cache_control")
    return None if value is None else mapping(value, f"{where}.cache_control")


def objects(value: Any, where: str) -> list[Document]:
    """A list of objects; None becomes an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise bad(where, "must be an array.")
    for at, item in enumerate(value):
        if not isinstance(item, dict):
            raise bad(f"{where}[{at}]", "must be an object.")
    return value


def strings(value: Any, where: str) -> list[str]:
    """A string or a list of strings; None becomes an empty list."""
    if value is None:
        return []
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise bad(where, "must be a string or an array of strings.")
    return found


def data_url(url: str) -> tuple[str, str] | None:
    """(media type, base64 data) of a `data:` URL; None if it is another kind of URL."""
    if not url.startswith("data:"):
        return None
    head, comma, data = url[5:].partition(",")
    media_type, _, encoding = head.partition(";")
    return (media_type or "text/plain", data) if comma and encoding.endswith("base64") else None


def media_of_url(kind: Any, url: str, **more: Any) -> Media:
    """A Media of an ordinary or a `data:` URL."""
    inline = data_url(url)
    if inline is None:
        return Media(kind, url=url, **more)
    return Media(kind, media_type=inline[0], data=inline[1], **more)


def url_of_media(media: Media) -> str | None:
    """The URL of a Media, a `data:` URL where it is inline; None if it has neither."""
    if media.url is not None:
        return media.url
    return None if media.data is None else f"data:{media.media_type or 'application/octet-stream'};base64,{media.data}"


def base64_of(plain: str) -> str:
    """A text as base64 of its UTF-8 bytes."""
    return base64.b64encode(plain.encode()).decode()


def text_of_base64(data: str) -> str:
    """The text that base64 data holds; what is no UTF-8 is replaced."""
    try:
        return base64.b64decode(data).decode(errors="replace")
    except ValueError as exc:
        raise bad("data", "is not valid base64.") from exc


def is_object(text: str) -> bool:
    """It is a whole JSON object: nothing could follow that belongs to it."""
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def arguments_of(call_arguments: str) -> Document:
    """A tool call's arguments as an object, for dialects that want one; what is no object is kept under its text."""
    try:
        value = orjson.loads(call_arguments or "{}")
    except orjson.JSONDecodeError:
        value = None
    return value if isinstance(value, dict) else {"arguments": call_arguments}


def without_nones(**members: Any) -> Document:
    """The members that have a value."""
    return {name: value for name, value in members.items() if value is not None}
