"""kill -9 of control in the midst of a canary: it goes on with the batch under way, and asks no answer twice."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from control.adapters.schemas import ScoreRule
from tests.fakes import scripts
from tests.fakes.plane import Plane
from tests.fakes.upstream import Upstream
from tests.fakes.wire import Usage
from tests.faults.test_kill9_runs import CONCURRENCY
from tests.processes import eventually

OLD, NEW = "bot@v1", "bot@v2"
MOMENT = "2026-11-24 09:30:00.000000"


def canary(plane: Plane, database: Path) -> None:
    """A rollout of the second version of an adapter, as it is right after its beginning; without engines."""
    targets = [{"endpoint": "e", "model": NEW, "weight": 100}, {"endpoint": "e", "model": OLD, "weight": 900}]
    plane.post("/endpoints", name="e", provider="dummy", spec={})
    for name, target in ((OLD, targets[1:]), (NEW, targets[:1]), ("bot", targets)):
        plane.post("/routes", name=name, spec={"target": target}, grants=[])
    for name in ("questions", "bot-canary"):
        plane.post("/suites", name=name)
    plane.post(
        "/suites/questions/versions", scorers=[{"name": "yes", "kind": "contains", "all_of": ["yes"]}],
        prompts=[{"name": "plain", "messages": [{"role": "user", "content": "{{question}}"}]}],
        sources=[{"kind": "cases", "cases": [{"variables": {"question": f"q{number}"}} for number in range(40)]}],
    )  # fmt: skip
    me = plane.get("/auth/me")["username"]
    score = ScoreRule(
        suite="questions", version=1, scorer="yes", cases="suite", min_samples=40, max_samples=60
    ).model_dump(mode="json")
    rule = {"steps": [0.1, 1.0], "min_requests": 100, "max_error_rate": 0.1, "max_latency_ratio": None, "score": score}
    state = {
        "state": "collecting", "suite": "bot-canary", "against": OLD, "runs": [], "run": None, "drawn": 0,
        "left_out": 0, "after": "2026-11-24T09:30:00+00:00", "differences": [], "points": [], "message": "",
    }  # fmt: skip
    same = {"row_version": 1, "created_at": MOMENT, "updated_at": MOMENT}
    rows = {
        "adapter": {"id": "a", "name": "bot", "description": "", "latest": 2, "owner_kind": "user", "owner": me} | same,
        "rollout": {
            "id": "r", "adapter_id": "a", "number": 2, "served_name": NEW, "state": "running", "reason": "",
            "rule": json.dumps(rule), "step": 0, "since": MOMENT, "before": json.dumps(targets[1:]),
            "endpoints": '["e"]', "route_version": 1, "figures": "{}", "score": json.dumps(state), "created_by": me,
        } | same,
    }  # fmt: skip
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        for table, row in rows.items():
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))


@pytest.mark.timeout(120)
def test_a_canary_goes_on_where_it_was(tmp_path: Path) -> None:
    database = tmp_path / "control" / "tunegate.db"
    with Upstream() as gateway, Plane(tmp_path, f"sqlite+aiosqlite:///{database}") as plane:
        gateway.on(OLD, scripts.chat(["ye", "s"], Usage(20, 5), gap=0.05))
        gateway.on(NEW, scripts.chat(["n", "o"], Usage(20, 5), gap=0.05))
        plane.config.write_text(
            plane.config.read_text().replace("[database]", f'gateway_url = "{gateway.url[:-3]}"\n[database]')
        )
        plane.kill9()
        plane.start()
        canary(plane, database)
        eventually(lambda: len(gateway.of(NEW)) > 25, 60)  # in the second batch
        plane.kill9()
        plane.forget_claims()
        plane.start()

        def rollout() -> dict[str, object]:
            found: dict[str, object] = plane.get("/adapters/bot")["rollout"]
            return found

        eventually(lambda: rollout()["state"] == "rolled_back", 60)
        score = rollout()["score"]
        assert isinstance(score, dict)
        assert (score["drawn"], len(score["runs"]), score["left_out"]) == (40, 2, 0)
        assert (score["points"][-1]["n"], score["points"][-1]["mean"]) == (40, -1.0)
        assert plane.get("/runs")["total"] == 2, "the batch under way was not begun again"
        asked = Counter(seen.header("x-request-id") for seen in (*gateway.of(OLD), *gateway.of(NEW)))
        again = sum(times - 1 for times in asked.values())
        print(f"\n{again} of 80 answers were under way when control was killed, and asked again")
        assert len(asked) == 80
        assert again <= 2 * CONCURRENCY
