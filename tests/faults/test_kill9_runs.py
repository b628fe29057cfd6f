"""kill -9 of control while a suite runs: finished cells are never asked again, and all are there in the end."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.fakes import scripts
from tests.fakes.plane import Plane
from tests.fakes.upstream import Upstream
from tests.fakes.wire import Usage
from tests.processes import eventually

CASES, CONCURRENCY, KILLS = 400, 8, 2


@pytest.mark.timeout(300)
def test_a_run_loses_no_cell_and_asks_only_what_was_under_way_again(tmp_path: Path) -> None:
    with Upstream() as gateway, Plane(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/control/tunegate.db") as plane:
        gateway.on("m", scripts.chat(["ye", "s"], Usage(20, 5), gap=0.02))
        plane.config.write_text(
            plane.config.read_text().replace("[database]", f'gateway_url = "{gateway.url[:-3]}"\n[database]')
        )
        plane.kill9()
        plane.start()
        plane.post("/endpoints", name="e", provider="dummy", spec={})
        plane.post("/routes", name="m", spec={"target": [{"endpoint": "e", "model": "m"}]}, grants=[])
        plane.post("/suites", name="questions")
        cases = [{"variables": {"question": f"q{number}"}, "expected": "yes"} for number in range(CASES)]
        plane.post(
            "/suites/questions/versions", sources=[{"kind": "cases", "cases": cases}],
            prompts=[{"name": "plain", "messages": [{"role": "user", "content": "{{question}}"}]}],
            scorers=[{"name": "says yes", "kind": "exact"}],
        )  # fmt: skip
        run = plane.post("/suites/questions/runs", candidates=[{"route": "m"}], concurrency=CONCURRENCY)["id"]
        for kill in range(1, KILLS + 1):
            eventually(lambda kill=kill: len(gateway.of("m")) > kill * CASES / (KILLS + 2), 60)  # type: ignore[misc]
            plane.kill9()
            time.sleep(0.2)
            if kill > 1:  # the first one waits for the half minute
                plane.forget_claims()
            plane.start()
        eventually(lambda: plane.get(f"/runs/{run}")["state"] == "done", 120)
        found = plane.get(f"/runs/{run}")
        assert (found["done"], found["failed"]) == (CASES, 0)
        asked = Counter(seen.json["messages"][0]["content"] for seen in gateway.of("m"))
        again = sum(times - 1 for times in asked.values())
        print(f"\n{again} of {CASES} were under way when control was killed, and asked again")
        assert len(asked) == CASES
        assert again <= KILLS * CONCURRENCY
