"""What a gateway of any version has written must decode for ever: a new version may add, never change or remove."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.contract import caching, snapshot as wire
from gateway.contract.base import Wire
from gateway.contract.usage import Attempt, CacheOutcome, End, RetrievalOutcome, Tokens, UsageEvent
from gateway.contract.version import SCHEMA_VERSION

HERE = Path(__file__).parent
SNAPSHOTS = sorted((HERE / "snapshots").glob("*.json"))
LEDGERS = sorted((HERE / "usage").glob("*.jsonl"))


def members(document: Any, name: str = "") -> Iterator[str]:
    """The names of all members of all objects in a document; of `indexes`, they are names of bases."""
    if isinstance(document, dict) and name != "indexes":
        for key, value in document.items():
            yield key
            yield from members(value, key)
    elif isinstance(document, list):
        for item in document:
            yield from members(item, name)


def fields(*models: type[BaseModel]) -> set[str]:
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.name)
def test_a_snapshot_of_every_version_decodes(path: Path) -> None:
    snapshot = wire.Snapshot.model_validate_json(path.read_bytes())
    assert snapshot.schema_version == int(path.stem.removeprefix("v"))
    assert wire.Snapshot.model_validate_json(snapshot.model_dump_json(by_alias=True)) == snapshot


def test_the_first_snapshot_still_means_what_it_meant() -> None:
    snapshot = wire.Snapshot.model_validate_json((HERE / "snapshots/v1.json").read_bytes())
    openai, fake = snapshot.endpoints
    assert (openai.on_client_gone, openai.options["on"], fake.max_connections) == ("drain", True, 512)
    first = snapshot.routes[0]
    assert first.targets[0].price is not None
    assert first.targets[0].price.cached_input == Decimal("1.25")
    assert (first.aliases[1], first.targets[1].weight, first.fallback) == ("通用模型", 1, "support-bot")
    assert [budget.amount for budget in snapshot.keys[0].budgets] == [Decimal("20.5"), Decimal(300)]
    assert snapshot.keys[0].expires_at is not None
    assert snapshot.keys[1].models == ("*",)


def test_the_newest_golden_snapshot_uses_every_field() -> None:
    document = json.loads((HERE / f"snapshots/v{SCHEMA_VERSION}.json").read_text())
    parts = {**vars(caching), **vars(wire)}.values()
    models = [m for m in parts if isinstance(m, type) and issubclass(m, Wire)]
    assert not fields(*models) - set(members(document))


@pytest.mark.parametrize("path", LEDGERS, ids=lambda path: path.name)
def test_a_usage_event_of_every_version_decodes(path: Path) -> None:
    for line in path.read_text().splitlines():
        event = UsageEvent.model_validate_json(line)
        assert event.v == int(path.stem.removeprefix("v"))
        assert UsageEvent.model_validate_json(event.model_dump_json()) == event


def test_the_newest_golden_events_use_every_field_and_every_end() -> None:
    lines = (HERE / f"usage/v{SCHEMA_VERSION}.jsonl").read_text().splitlines()
    documents = [json.loads(line) for line in lines]
    assert fields(UsageEvent, Tokens, Attempt, RetrievalOutcome, CacheOutcome) == set(members(documents))
    assert {document["end"] for document in documents} == set(End.__args__)


@pytest.mark.parametrize("model", [wire.Snapshot, UsageEvent])
def test_an_unknown_field_is_an_error_and_not_silently_dropped(model: type[BaseModel]) -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        model.model_validate({"surprise": 1})
