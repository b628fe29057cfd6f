"""Copies of indexes in memory: when searches use them, that nothing is stale in them, and what they may take."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from control.knowledge import copies
from control.knowledge.copies import Copies
from control.knowledge.memory import Memory
from control.knowledge.vectors import Vectors
from tests.control.api.conftest import Running, Start
from tests.control.knowledge.conftest import BASES, base, ready, search
from tests.fakes.milvus import MilvusLite
from tests.processes import eventually

Asked = list[str]
"""Fields of the searches that Milvus Lite was asked for."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    told, ask = Asked(), Vectors._search

    def noted(self: Vectors, collection: str, what: object, field: str, *more: object) -> object:
        told.append(field)
        return ask(self, collection, what, field, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Vectors, "_search", noted)
    return told


@pytest.fixture
def control(start_control: Start, milvus: MilvusLite, monkeypatch: pytest.MonkeyPatch) -> Running:
    """It keeps no answers, and brings copies up to date as soon as it is asked."""
    monkeypatch.setattr(copies, "REST", 0.0)
    return start_control(knowledge={"milvus_uri": milvus.uri, "cache_entries": 0})


def from_memory(client: httpx.Client, name: str, asked: Asked, query: str = "annual leave") -> list[str]:
    """Titles of what is found, once Milvus Lite is not asked any more."""
    found = list[str]()

    def alone() -> bool:
        asked.clear()
        found[:] = [one["title"] for one in search(client, name, query)]
        return not asked

    eventually(alone, 20)
    return found


def test_a_search_after_the_first_ones_leaves_milvus_lite_alone(engineer: httpx.Client, asked: Asked) -> None:
    ready(engineer, "handbook", "leave.txt", "Annual leave is thirty days.")
    ready(engineer, "handbook", "gpu.txt", "The GPU is hot.")
    first = search(engineer, "handbook", "annual leave")
    assert sorted(asked) == ["sparse", "vector"]
    assert from_memory(engineer, "handbook", asked)[0] == "leave.txt"
    again = search(engineer, "handbook", "annual leave")
    assert [(one["chunk"], one["similarity"]) for one in again] == [(one["chunk"], one["similarity"]) for one in first]
    assert [one["dense"] for one in again] == pytest.approx([one["dense"] for one in first], abs=1e-5)


def test_what_is_equally_good_is_equally_good_wherever_it_is_found(engineer: httpx.Client, asked: Asked) -> None:
    """Which of equals an index names first is chance, and must decide nothing."""
    for name in "abc":
        ready(engineer, "handbook", f"{name}.txt", "Annual leave is thirty days.")
    in_milvus = search(engineer, "handbook", "annual leave")
    from_memory(engineer, "handbook", asked)
    in_memory = search(engineer, "handbook", "annual leave")
    assert len({one["score"] for one in in_milvus + in_memory}) == 1
    assert [one["title"] for one in in_milvus] == [one["title"] for one in in_memory]


def test_what_has_changed_is_in_effect_at_once(engineer: httpx.Client, asked: Asked) -> None:
    """Each look comes right after the change, whether the copy is as it was, being made, or up to date."""
    ready(engineer, "handbook", "0.txt", "Annual leave is thirty days.")
    from_memory(engineer, "handbook", asked)
    for number in range(1, 6):
        one = ready(engineer, "handbook", f"{number}.txt", f"Annual leave in department {number}.")
        assert f"{number}.txt" in [found["title"] for found in search(engineer, "handbook", "annual leave")]
        if number % 2:
            from_memory(engineer, "handbook", asked)
            assert engineer.delete(f"{BASES}/handbook/documents/{one['id']}").status_code == 204
            assert f"{number}.txt" not in [found["title"] for found in search(engineer, "handbook", "annual leave")]
    assert sorted(from_memory(engineer, "handbook", asked)) == ["0.txt", "2.txt", "4.txt"]


def test_documents_that_are_replaced_and_readers_that_change(engineer: httpx.Client, asked: Asked) -> None:
    ready(engineer, "handbook", "leave.txt", "Annual leave is thirty days.")
    assert from_memory(engineer, "handbook", asked) == ["leave.txt"]
    ready(engineer, "handbook", "leave.txt", "Annual leave is forty days.")
    (found,) = search(engineer, "handbook", "annual leave")
    assert "forty" in found["text"]
    assert from_memory(engineer, "handbook", asked) == ["leave.txt"]
    change = {"facts": {"year": "2026"}}
    path = f"{BASES}/handbook/documents/{found['document']}"
    assert engineer.patch(path, json=change).status_code == 200
    from_memory(engineer, "handbook", asked)
    asked.clear()
    assert len(search(engineer, "handbook", "annual leave", filter={"year": "2026"})) == 1
    assert search(engineer, "handbook", "annual leave", filter={"year": "2025"}) == []
    assert not asked


@pytest.fixture
def own_milvus(tmp_path: Path) -> Iterator[MilvusLite]:
    with MilvusLite(tmp_path / "milvus") as server:
        yield server


def test_searches_go_on_while_milvus_lite_is_away(start_control: Start, own_milvus: MilvusLite, asked: Asked) -> None:
    control = start_control(knowledge={"milvus_uri": own_milvus.uri, "cache_entries": 0})
    client = control.as_("engineer")
    base(client, "handbook")
    ready(client, "handbook", "leave.txt", "Annual leave is thirty days.")
    from_memory(client, "handbook", asked)
    own_milvus.kill()
    assert [one["title"] for one in search(client, "handbook", "annual leave")] == ["leave.txt"]


def test_another_index_has_another_copy(engineer: httpx.Client, asked: Asked) -> None:
    ready(engineer, "handbook", "leave.txt", "Annual leave is thirty days.")
    from_memory(engineer, "handbook", asked)
    assert engineer.post(f"{BASES}/handbook/rebuild").status_code == 200
    eventually(lambda: engineer.get(f"{BASES}/handbook").json()["indexes"][0]["number"] == 2, 20)
    eventually(lambda: engineer.get(f"{BASES}/handbook").json()["indexes"][0]["state"] == "live", 60)
    assert [one["title"] for one in search(engineer, "handbook", "annual leave")] == ["leave.txt"]
    assert from_memory(engineer, "handbook", asked) == ["leave.txt"]


def test_without_memory_for_them_there_are_none(start_control: Start, milvus: MilvusLite, asked: Asked) -> None:
    control = start_control(knowledge={"milvus_uri": milvus.uri, "cache_entries": 0, "copies_mib": 0})
    client = control.as_("engineer")
    base(client, "handbook")
    ready(client, "handbook", "leave.txt", "Annual leave is thirty days.")
    for times in range(1, 5):
        assert len(search(client, "handbook", "annual leave")) == 1
        assert len(asked) == 2 * times


def test_what_is_in_use_makes_no_room_and_what_is_not_does(
    start_control: Start, milvus: MilvusLite, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Memory, "bytes", property(lambda _: 700_000))
    monkeypatch.setattr(copies, "REST", 0.0)
    monkeypatch.setattr(copies, "IN_USE", 3.0)
    control = start_control(knowledge={"milvus_uri": milvus.uri, "cache_entries": 0, "copies_mib": 1})
    client = control.as_("engineer")
    for name in ("one", "two"):
        base(client, name)
        ready(client, name, "leave.txt", "Annual leave is thirty days.")
    from_memory(client, "one", asked)
    for _ in range(3):
        assert len(search(client, "two", "annual leave")) == 1
    assert len(asked) == 6
    assert from_memory(client, "two", asked) == ["leave.txt"]  # a moment later
    asked.clear()
    search(client, "one", "annual leave")
    assert len(asked) == 2


def test_a_copy_that_cannot_be_made_is_missed_by_nobody(
    engineer: httpx.Client, asked: Asked, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = itertools.count()

    async def fails(*_: object) -> None:
        next(failures)
        raise OSError("no memory")

    monkeypatch.setattr(Copies, "_bring", fails)
    ready(engineer, "handbook", "leave.txt", "Annual leave is thirty days.")
    with caplog.at_level(logging.ERROR):
        for _ in range(4):
            assert len(search(engineer, "handbook", "annual leave")) == 1
    assert len(asked) == 8
    assert next(failures) == 1, "it is not tried again at once"
    assert "is not copied into memory" in caplog.text
