"""kill -9 of control while a suite runs: what is finished is never asked again, and all of it is there in the end."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import scripts
from tests.fakes.plane import Plane
from tests.fakes.upstream import Upstream
from tests.fakes.wire import Usage
from tests.processes import eventually

CASES, CONCURRENCY, KILLS = 400, 8, 2


def begun(plane: Plane, gateway: Upstream, cases: int, scorer: dict[str, Any], *routes: str) -> str:
    """A run over a plane that asks this gateway; its id."""
    plane.config.write_text(
        plane.config.read_text().replace("[database]", f'gateway_url = "{gateway.url[:-3]}"\n[database]')
    )
    plane.kill9()
    plane.start()
    plane.post("/endpoints", name="e", provider="dummy", spec={})
    for name in routes:
        plane.post("/routes", name=name, spec={"target": [{"endpoint": "e", "model": name}]}, grants=[])
    plane.post("/suites", name="questions")
    asked = [{"variables": {"question": f"q{number}"}, "expected": "yes"} for number in range(cases)]
    plane.post(
        "/suites/questions/versions", sources=[{"kind": "cases", "cases": asked}], scorers=[scorer],
        prompts=[{"name": "plain", "messages": [{"role": "user", "content": "{{question}}"}]}],
    )  # fmt: skip
    candidates = [{"route": name} for name in routes]
    return str(plane.post("/suites/questions/runs", candidates=candidates, concurrency=CONCURRENCY)["id"])


@pytest.mark.timeout(300)
def test_a_run_loses_no_cell_and_asks_only_what_was_under_way_again(tmp_path: Path) -> None:
    with Upstream() as gateway, Plane(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/control/tunegate.db") as plane:
        gateway.on("m", scripts.chat(["ye", "s"], Usage(20, 5), gap=0.02))
        run = begun(plane, gateway, CASES, {"name": "says yes", "kind": "exact"}, "m")
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


@pytest.mark.timeout(300)
def test_no_pair_is_judged_twice_but_those_that_the_judge_was_reading(tmp_path: Path) -> None:
    pairs = 120
    with Upstream() as gateway, Plane(tmp_path, f"sqlite+aiosqlite:///{tmp_path}/control/tunegate.db") as plane:
        for name, says in (("one", "yes"), ("other", "no")):
            gateway.on(name, scripts.chat([says], Usage(20, 5)))
        gateway.on("judge", scripts.chat(['{"better": ', '"tie"}'], Usage(20, 5), gap=0.02))
        scorer = {"name": "better", "kind": "pairwise_judge", "route": "judge", "rubric": "Be right."}
        run = begun(plane, gateway, pairs, scorer, "one", "other")
        eventually(lambda: len(gateway.of("judge")) > pairs, 60)
        plane.kill9()
        plane.forget_claims()
        plane.start()
        eventually(lambda: plane.get(f"/runs/{run}")["state"] == "done", 120)
        found = plane.get(f"/runs/{run}")
        assert (found["done"], found["pairs"], found["judged"]) == (2 * pairs, pairs, pairs)
        assert len(gateway.of("one")) == len(gateway.of("other")) == pairs, "all cells were there when it was killed"
        asked = Counter(seen.header("x-request-id") for seen in gateway.of("judge"))
        # Nothing bills here, so a question that is asked again has the id of the first time.
        again = sum(times - 1 for times in asked.values())
        print(f"\n{again} of {2 * pairs} questions to the judge were asked again")
        assert len(asked) == 2 * pairs
        assert again <= 2 * CONCURRENCY
        assert plane.get(f"/runs/{run}/verdicts")["total"] == pairs
