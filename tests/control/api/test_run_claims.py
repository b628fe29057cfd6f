"""Who works on a run: claims that run out, and journals of processes that were killed."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import httpx2 as httpx
import pytest

from control.comparisons import runner
from control.comparisons.journal import Journal
from tests.control.api.conftest import Running
from tests.control.api.test_runs import RUNS, begun, bill, cells, client, control, gateway, says, state, suite
from tests.fakes.upstream import Upstream
from tests.processes import eventually

__all__ = ["client", "control", "gateway"]


def test_a_claim_that_runs_out_under_its_own_work_does_not_begin_it_twice(
    client: httpx.Client, gateway: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "CLAIM", timedelta(seconds=-1))
    gateway.on("good", says("Answer: yes", gap=0.5))
    suite(client, 4)
    run = begun(client, "good", concurrency=1)
    eventually(lambda: client.get(f"{RUNS}/{run}").json()["state"] == "done", 30)
    asked = Counter(seen.json["messages"][0]["content"] for seen in gateway.of("good"))
    assert asked == {f"q{number}": 1 for number in range(1, 5)}


def test_cells_of_a_journal_are_taken_over_and_not_asked_again(
    control: Running, client: httpx.Client, gateway: Upstream
) -> None:
    suite(client, 3)
    run = begun(client, "good")
    state(client, run)
    (row,) = control.sql("SELECT answer, request FROM comparison_cell WHERE case_number = 2")
    control.sql("DELETE FROM comparison_cell WHERE case_number >= 2")
    kept = {
        "case": 2, "candidate": 0, "repeat": 0, "ok": True, "request_id": f"{run}.2.0.0.0",
        "request": json.loads(row[1]), "answer": json.loads(row[0]) | {"text": "from the journal"}, "error": None,
        "scores": {}, "tries": 1, "finished_at": "2026-11-24T09:30:00+00:00",
    }  # fmt: skip
    folder = control.parts.files.path("comparisons", run)
    (folder / "1.jsonl").write_text(json.dumps(kept) + "\n" + '{"case": 3, "cand')
    asked = len(gateway.of("good"))
    control.sql("UPDATE comparison_run SET state = 'queued', claimed_until = NULL WHERE id = ?", run)
    eventually(lambda: len(cells(client, run)) == 3)
    assert state(client, run, "done")["done"] == 3
    assert client.get(f"{RUNS}/{run}/cells/2/0/0").json()["answer"]["text"] == "from the journal"
    assert len(gateway.of("good")) == asked + 1, "only the case that was cut off"


def test_a_journal_that_was_cut_off_gives_what_is_whole(tmp_path: Any) -> None:
    (tmp_path / "0.jsonl").write_bytes(b'{"case": 1}\n\0\0\0\n{"case": 2}\n{"ca')
    journal = Journal(tmp_path)
    assert journal.left() == [{"case": 1}, {"case": 2}]
    journal.clear_all()
    assert Journal(tmp_path).left() == []
    journal.close()


def test_a_run_that_only_waits_for_the_ledger_keeps_no_other_one_waiting(
    control: Running, client: httpx.Client, gateway: Upstream
) -> None:
    suite(client, 1)
    many = [begun(client, "good") for _ in range(runner.AT_ONCE + 1)]  # nothing bills here
    for run in many:
        assert state(client, run)["state"] == "done"
    assert bill(control, many[0], 700) == 1
    eventually(lambda: client.get(f"{RUNS}/{many[0]}").json()["billed_nano"] == 700)
