"""The stand-alone source: config.toml, read at start and watched for changes.

One file holds process settings and the snapshot; `load` returns both, or raises ConfigError with every mistake.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tomllib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.contract import snapshot as wire
from gateway.errors import ConfigError, Place
from gateway.settings import TABLES, Settings
from gateway.snapshot.locate import line_of

M = TypeVar("M", bound=BaseModel)

OTHER_PLANES = ("console", "database", "engine", "knowledge", "oidc", "retention", "secrets", "trainer", "training")
"""Tables of the same file that other planes read."""

_PLAINLY = {
    "extra_forbidden": "this key is not known here; see config.example.toml for all keys",
    "missing": "this key is missing; see config.example.toml",
    "tuple_type": "this is a list; of tables, each begins with its name in double brackets, such as [[route]]",
    "model_type": "this is one table: its name stands in single brackets, such as [gateway], or it is { … }",
}
"""What pydantic calls a mistake -> what to do about it, where its own words speak of Python."""


def load(path: Path) -> tuple[Settings, wire.Snapshot]:
    """Read and validate a config.toml. ConfigError lists all mistakes; OSError if the file cannot be read."""
    raw = path.read_bytes()
    try:
        document = tomllib.loads(raw.decode("utf-8"), parse_float=_number)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError([((), f"this is not TOML: {exc}")]) from exc
    for table in OTHER_PLANES:
        document.pop(table, None)
    settings = {name: document.pop(name) for name in TABLES if name in document}
    _override(settings)
    document["version"] = "file:" + hashlib.sha256(raw).hexdigest()[:12]
    problems: list[tuple[Place, str]] = []
    parsed_settings = _validate(Settings, settings, problems)
    snapshot = _validate(wire.Snapshot, document, problems)
    if parsed_settings is None or snapshot is None:
        raise ConfigError(problems)
    if parsed_settings.control.url is not None:
        problems += _doubly_configured(document)
    elif not parsed_settings.gateway.is_loopback:
        problems += _exposed(parsed_settings, snapshot)
    if problems:
        raise ConfigError(problems)
    return parsed_settings, snapshot


def report(path: Path, error: ConfigError) -> list[str]:
    """One line of text a mistake, with the line of the file where it can be told."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # that it cannot be read is then among the problems
        text = ""
    lines = []
    for place, sentence in error.problems:
        number = line_of(text, place) if place else None
        where = ".".join(str(part) for part in place)
        lines.append(f"{path}:{number}: {where}: {sentence}" if number else f"{path}: {where or 'file'}: {sentence}")
    return lines


async def watch(path: Path, running: str, interval: float = 0.25) -> AsyncIterator[wire.Snapshot | ConfigError]:
    """Yield a snapshot, or what is wrong with it, whenever the file changes after it was read as the version `running`:
    also while the gateway was still starting.

    Polls the file's identity (inode, size, time): that works on every platform and file system, and for the renames
    by which editors and Kubernetes replace files.
    """
    seen: tuple[int, int, int] | None = (0, 0, 0)
    known: str | None = running
    """At the first look only: later, a file that was merely touched is read again, since a secret may have changed."""
    while True:
        await asyncio.sleep(interval)
        identity = _identity(path)
        if identity == seen:
            continue
        try:
            _, snapshot = load(path)
        except ConfigError as exc:
            seen = identity
            yield exc
        except OSError as exc:
            seen = identity
            yield ConfigError([((), f"cannot be read: {exc.strerror}")])
        else:
            seen = identity
            unchanged, known = snapshot.version == known, None
            if unchanged:
                continue
            if snapshot.routes:
                yield snapshot
            else:  # an editor's half-written file must not look like a decision
                yield ConfigError([((), "there is no [[route]] any more: no model could be served")])


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _number(text: str) -> float | Decimal:
    return Decimal(text)


def _override(settings: dict[str, Any]) -> None:
    """Apply TUNEGATE_<TABLE>_<KEY> variables; pydantic turns their text into the field's type."""
    for table, field in Settings.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        for key in model.model_fields:
            value = os.environ.get(f"TUNEGATE_{table}_{key}".upper())
            if value is not None:
                settings.setdefault(table, {})[key] = value


def _validate(model: type[M], data: dict[str, Any], problems: list[tuple[Place, str]]) -> M | None:
    try:
        return model.model_validate(data)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        places = [tuple(error["loc"]) for error in errors]
        for place, error in zip(places, errors, strict=True):
            if error["type"] == "too_short" and any(p[: len(place)] == place != p for p in places):
                continue  # its only item has a mistake of its own, and was not counted
            problems.append((place, _PLAINLY.get(error["type"]) or error["msg"].removeprefix("Value error, ")))
        return None


def _doubly_configured(document: dict[str, Any]) -> list[tuple[Place, str]]:
    text = "[control] url is set, so this comes from control; remove it here, or remove the url"
    return [((table, 0), text) for table in ("endpoint", "route", "team", "key") if document.get(table)]


def _exposed(settings: Settings, snapshot: wire.Snapshot) -> list[tuple[Place, str]]:
    if snapshot.keys:
        return []
    listen = settings.gateway.listen
    return [(("gateway", "listen"), f"{listen} is not loopback, and there is no [[key]]: nobody may use the models")]
