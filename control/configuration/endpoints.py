"""`/api/v1/settings`: the settings that this process runs with, for people to look up. Secrets are never shown."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, JsonValue

from control.deps import Parts, allow
from control.kit.permissions import Person
from control.kit.schemas import example
from control.settings import Settings, is_secret

router = APIRouter(prefix="/settings", tags=["settings"])
Reader = Annotated[Person, Depends(allow("settings:read"))]
CHINESE = Path(__file__).with_name("chinese.toml")
"""Table -> key -> what it means; `meaning` is the table itself."""


class Setting(BaseModel):
    """One key of config.toml."""

    model_config = example(
        key="ledger_days", variable="TUNEGATE_RETENTION_LEDGER_DAYS", value=400, default=True, secret=False, given=True,
        meaning="Days for which each request is kept.", meaning_zh="每条请求记录保留的天数。",
    )  # fmt: skip

    key: str
    variable: str
    """The environment variable that overrides it."""
    value: JsonValue
    """What counts. Null of a secret, and where there is none."""
    default: bool
    """Whether it is what counts when nobody says anything."""
    secret: bool
    given: bool
    """Whether there is a value at all: of a secret, this is all that is told."""
    meaning: str
    meaning_zh: str
    """In Chinese."""


class SettingsTable(BaseModel):
    """A table of config.toml."""

    model_config = example(
        name="retention", meaning="How long usage is kept.", meaning_zh="用量数据的保留时间。", settings=[]
    )  # fmt: skip

    name: str
    meaning: str
    meaning_zh: str
    """In Chinese."""
    settings: list[Setting]


class EffectiveSettings(BaseModel):
    """Every table that control reads, in the order of its documentation."""

    tables: list[SettingsTable]


@router.get("")
async def get_settings(parts: Parts, _: Reader) -> EffectiveSettings:
    """The settings that this process was started with. They are changed in config.toml or the environment."""
    settings = parts.settings
    return EffectiveSettings(tables=[_table(name, getattr(settings, name)) for name in Settings.model_fields])


def _table(name: str, table: BaseModel) -> SettingsTable:
    values = table.model_dump(mode="json")
    kind = type(table)
    chinese = chinese_texts()[name]
    shown = [
        Setting(
            key=key,
            variable=f"TUNEGATE_{name}_{key}".upper(),
            value=None if is_secret(field) else values[key],
            default=getattr(table, key) == field.default,
            secret=is_secret(field),
            given=getattr(table, key) not in ("", None, (), {}),
            meaning=_one_line(field.description),
            meaning_zh=chinese[key],
        )
        for key, field in kind.model_fields.items()
    ]
    return SettingsTable(name=name, meaning=_one_line(kind.__doc__), meaning_zh=chinese["meaning"], settings=shown)


@cache
def chinese_texts() -> dict[str, dict[str, str]]:
    """Table -> key -> what it means in Chinese; `meaning` is the table itself."""
    return tomllib.loads(CHINESE.read_text(encoding="utf-8"))


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
