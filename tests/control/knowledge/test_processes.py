"""Control as a process, on each of the databases, and killed in the middle of its work."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from tests.control.knowledge.conftest import add, base, ready, search, settled, vectors
from tests.fakes.milvus import MilvusLite
from tests.fakes.plane import Plane
from tests.fakes.upstream import Seen, Step, Upstream, Wait
from tests.processes import eventually

RULES = "\n\n".join(f"# Rule {n}\n\nMachine number{n} is serviced every spring by team x." for n in range(100))
ROUTE = {"kind": "route", "route": "embed", "key": "bot@admin"}


def plane_of(folder: Path, database_url: str, milvus: MilvusLite, gateway: Upstream) -> Plane:
    """Control as a process, with knowledge bases."""
    plane = Plane(folder, database_url)
    config = plane.config.read_text().replace("[database]", f'gateway_url = "{gateway.url}"\n[database]')
    plane.config.write_text(f'{config}[knowledge]\nmilvus_uri = "{milvus.uri}"\n')
    return plane


def test_the_life_of_a_base_on_every_database(
    tmp_path: Path, database_url: str, milvus: MilvusLite, gateway: Upstream
) -> None:
    with plane_of(tmp_path, database_url, milvus, gateway) as plane:
        plane.post("/keys", name="bot")
        base(plane.client, "手册", embedding=ROUTE, readers=[{"kind": "everyone"}])
        old = ready(plane.client, "手册", "年假.txt", "每位员工每年享有三十天带薪年假 🚀。")
        new = ready(plane.client, "手册", "年假.txt", "每位员工每年享有四十天带薪年假 🚀。")
        other = ready(plane.client, "手册", "叉车.txt", "叉车的柴油发动机每五百小时保养一次。")
        assert search(plane.client, "手册", "带薪年假")[0]["document"] == new["id"] != old["id"]
        path = f"/knowledge/手册/documents/{other['id']}"
        readers = [{"kind": "key", "name": "bot@admin"}]
        assert plane.client.patch(f"/api/v1{path}", json={"readers": readers, "facts": {"lang": "zh"}}).is_success
        assert len(search(plane.client, "手册", "叉车", filter={"lang": "zh"})) == 1
        plane.post("/knowledge/手册/rebuild")
        eventually(lambda: [one["number"] for one in plane.get("/knowledge/手册")["indexes"]] == [2], 30)
        assert len(search(plane.client, "手册", "年假")) == 2
        plane.delete(path)
        assert len(search(plane.client, "手册", "叉车")) == 1
        eventually(lambda: plane.get("/knowledge/手册/documents")["total"] == 1, 20)
        plane.delete("/knowledge/手册")
        documents = plane.folder / "knowledge/documents"
        eventually(lambda: not any(documents.iterdir()), 20)
    texts = [text for request in gateway.of("embed") for text in request.json["input"]]
    assert len(texts) == len(set(texts)), "the second index took the vectors of the first"


def test_kill_9_in_the_middle_loses_nothing_and_embeds_nothing_twice(
    tmp_path: Path, milvus: MilvusLite, gateway: Upstream
) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path / 'control.db'}"
    hold = threading.Event()

    def third_waits(seen: Seen) -> list[Step]:
        steps = list(vectors()(seen))  # type: ignore[operator]
        return [Wait(hold), *steps] if len(gateway.of("embed")) == 3 else steps

    gateway.on("embed", third_waits)
    with plane_of(tmp_path, database, milvus, gateway) as plane:
        plane.post("/keys", name="bot")
        base(plane.client, "handbook", embedding=ROUTE)
        one = add(plane.client, "handbook", "rules.md", RULES)
        eventually(lambda: len(gateway.of("embed")) == 3)
        plane.kill9()
        plane.forget_claims()
        hold.set()
        plane.start()
        found: dict[str, Any] = settled(plane.client, "handbook", one, 60)
        assert (found["state"], found["done"], found["total"], found["reused"]) == ("ready", 100, 100, 64)
        chunks = plane.get(f"/knowledge/handbook/documents/{one['id']}/chunks", per_page=200)
        assert [chunk["number"] for chunk in chunks["items"]] == list(range(100))
        seen = search(plane.client, "handbook", "machine", limits={"top_k": 50})
        assert len({passage["chunk"] for passage in seen}) == 50
    asked = [text for request in gateway.of("embed") for text in request.json["input"]]
    assert len(asked) == len(set(asked)) + 32, "only the batch that was under way was asked for twice"
