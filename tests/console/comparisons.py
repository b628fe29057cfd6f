"""Comparisons in the filled installation: a suite, a run that is over, and one that is paused."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

from tests.control.api.conftest import Running

SUITES = "/api/v1/suites"
RUN = "01936f3a-0000-7000-8000-0000000000c1"
PAUSED = "01936f3a-0000-7000-8000-0000000000c2"
QUESTIONS = (
    ("How many days of leave are there?", "thirty", "leave"), ("Who books trips?", "travel desk", "trips"),
    ("年假有几天？", "三十", "leave"), ("How long are receipts kept?", "three months", "trips"),
)  # fmt: skip
PAIRS = {"name": "better", "kind": "pairwise_judge", "route": "chat-large", "rubric": "It answers the question."}
MOMENT = "2026-11-24 09:30:00.000000"


def fill(control: Running) -> None:
    """Make all of it."""
    suite(control, "support-questions", "What the help desk is asked", cases=24)
    run(control, "support-questions", RUN, "done", {"chat-large": 0.9, "chat-small": 0.6, "support-bot": 0.8})
    review(control, RUN)
    run(control, "support-questions", PAUSED, "paused", {"chat-large": 0.9, "chat-small": 0.6}, cells=10)
    gate(control)
    schedule(control)


def schedule(control: Running) -> None:
    """The suite is asked every night, and its last run is worse than the one before."""
    body = {"at": "06:30", "timezone": "Asia/Shanghai", "run": {"candidates": [{"route": "chat-large"}]}}
    assert control.admin.put(f"{SUITES}/support-questions/schedule", json=body).is_success
    worse = {
        "candidate": "chat-large", "scorer": "says it", "p": 0.004, "verdict": "worse",
        "difference": {"value": -0.21, "low": -0.38, "high": -0.04, "n": 24, "few": False},
    }  # fmt: skip
    control.sql(
        "UPDATE suite_schedule SET last_run = ?, judged = ?, baseline = ?, regressions = ?",
        RUN, RUN, PAUSED, json.dumps([worse]),
    )  # fmt: skip


def gate(control: Running) -> None:
    """The adapter has a gate, which a version of it has not passed."""
    path = "/api/v1/adapters/support-bot"
    asked = {"suite": "support-questions", "thresholds": [{"scorer": "says it", "at_least": 0.9}]}
    body = {"row_version": control.admin.get(path).json()["row_version"], "description": "", "gate": asked}
    body["gate"] |= {"not_worse_than": "support-bot"}
    assert control.admin.patch(path, json=body).is_success
    control.sql(
        "INSERT INTO adapter_gate (id, adapter_id, number, served_name, gate, goal, run, state, reason, ended_at,"
        " created_by, row_version, created_at, updated_at) SELECT ?, id, 1, 'support-bot@v1', ?, ?, ?, 'failed', ?, ?,"
        " 'admin', 1, ?, ? FROM adapter WHERE name = 'support-bot'",
        RUN, json.dumps(asked | {"version": 1}), json.dumps({"share": 0.1}), RUN,
        "support-bot@v1: says it: 0.792, at least 0.9 is wanted", MOMENT, MOMENT, MOMENT,
    )  # fmt: skip


def suite(control: Running, name: str, description: str = "", *, cases: int = 4, team: str | None = None) -> None:
    """A suite with a version."""
    body = {"name": name, "description": description, "team": team}
    assert control.admin.post(SUITES, json=body).status_code == 201
    asked = [
        {"variables": {"question": question}, "expected": expected, "tags": [tag]}
        for question, expected, tag in (QUESTIONS * cases)[:cases]
    ]
    version = {
        "prompts": [{"name": "plain", "messages": [{"role": "user", "content": "{{question}}"}]}],
        "parameters": {"temperature": 0}, "sources": [{"kind": "cases", "cases": asked}],
        "scorers": [{"name": "says it", "kind": "contains"}, {"name": "alike", "kind": "chrf"}, PAIRS],
    }  # fmt: skip
    assert control.admin.post(f"{SUITES}/{name}/versions", json=version).status_code == 201


def run(
    control: Running, suite: str, id: str, state: str, candidates: dict[str, float], cells: int | None = None
) -> None:
    """A run that asked nobody: its cells are written here. `candidates`: name and how good it is."""
    query = "SELECT s.id, v.id, v.cases FROM suite s JOIN suite_version v ON v.suite_id = s.id WHERE s.name = ?"
    ((suite_id, version_id, cases),) = control.sql(query, suite)
    total = cases * len(candidates)
    said = [
        {"name": name, "route": name, "route_version": 1, "prompt": "plain", "parameters": {}} for name in candidates
    ]
    settings = {
        "repeats": 1, "concurrency": 8, "tries": 4, "timeout_seconds": 120, "seed": None, "stream": True,
        "budget_nano": 50_000_000 if state == "paused" else None, "reuse_days": 7,
    }  # fmt: skip
    estimate = {"cells": total, "cost_nano": 60_000_000, "output_basis": "guess", "candidates": []}
    places = [(case, number) for case in range(1, cases + 1) for number in range(len(candidates))][: cells or total]
    together = list(itertools.combinations(range(len(candidates)), 2)) if cells is None else []
    pairs = cases * len(together)
    code, message = ("budget", "it has cost about 50000000 nano-units") if state == "paused" else ("", "")
    control.sql(
        "INSERT INTO comparison_run (id, suite_id, version_id, note, key, candidates, settings, estimate, state,"
        " wanted, code, message, total, done, failed, reused, pairs, judged, rate, billed_nano, scale, claim,"
        " created_at, created_by, started_at) VALUES (?, ?, ?, '', 'comparisons@admin', ?, ?, ?, ?, 'run', ?, ?, ?, ?,"
        " 1, 3, ?, ?, 0, 48000000, '', '', ?, 'admin', ?)",
        id, suite_id, version_id, json.dumps(said), json.dumps(settings), json.dumps(estimate), state, code, message,
        total, len(places) - 1, pairs, pairs, MOMENT, MOMENT,
    )  # fmt: skip
    dice = random.Random(7)
    for case, (first, second) in itertools.product(range(1, cases + 1), together):
        better = list(candidates.values())[first] * dice.random() > list(candidates.values())[second] * dice.random()
        winner = "first" if better else "second"
        swayed = (case + first + second) % 5 == 0
        control.sql(
            "INSERT INTO comparison_verdict (run_id, case_number, first_candidate, second_candidate, repeat_number,"
            " scorer, forward, backward, winner, note, finished_at) VALUES (?, ?, ?, ?, 0, 2, ?, ?, ?, '', ?)",
            id, case, first, second, "first" if swayed else winner, "second" if swayed else winner,
            "tie" if swayed else winner, MOMENT,
        )  # fmt: skip
    for case, number in places:
        _cell(control, id, case, number, list(candidates.items())[number], dice)


def review(control: Running, run: str) -> None:
    """What two people say of some answers."""
    dice = random.Random(3)
    cells = control.sql(
        "SELECT case_number, candidate, answer FROM comparison_cell WHERE run_id = ? AND ok AND case_number <= 10", run
    )
    for case, candidate, answer in cells:
        right = "I do not know" not in str(answer)
        for rater in ("admin", "engineer"):
            control.sql(
                "INSERT INTO comparison_rating (run_id, case_number, candidate, repeat_number, rater, points, note,"
                " created_at) VALUES (?, ?, ?, 0, ?, ?, '', ?)",
                run, case, candidate, rater, dice.choice((4, 5) if right else (1, 2, 3)), MOMENT,
            )  # fmt: skip
    control.sql("UPDATE comparison_run SET scale = 'points' WHERE id = ?", run)


def _cell(
    control: Running, run: str, case: int, number: int, candidate: tuple[str, float], dice: random.Random
) -> None:
    question, expected, _ = QUESTIONS[(case - 1) % len(QUESTIONS)]
    (name, good), ok = candidate, not (case == 2 and number == 1)
    right, took = dice.random() < good, 300 + 900 * good * dice.random()
    answer: dict[str, Any] | None = {
        "text": f"It is {expected}." if right else "I do not know.", "tool_calls": [], "finish_reason": "stop",
        "citations": [], "usage": {"prompt_tokens": 20, "completion_tokens": 12}, "latency_ms": took,
        "ttft_ms": took / 4, "headers": {},
    }  # fmt: skip
    scores = {
        "says it": {"value": float(right), "passed": right, "note": ""},
        "alike": {"value": 0.7 if right else 0.2, "passed": right, "note": ""},
    }
    error = {"status": 500, "code": "provider_5xx", "message": "The upstream had an error."}
    control.sql(
        "INSERT INTO comparison_cell (run_id, case_number, candidate, repeat_number, ok, request_id, request, answer,"
        " error, scores, latency_ms, ttft_ms, input_tokens, output_tokens, tries, limited, cost_nano, snapshot, digest,"
        " reused_from, finished_at) VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, 20, 12, 1, 0, ?, '7', '', ?, ?)",
        run, case, number, ok, f"{run}.{case}.{number}.0.0",
        json.dumps({"model": name, "messages": [{"role": "user", "content": question}], "stream": True}),
        json.dumps(answer) if ok else None, None if ok else json.dumps(error), json.dumps(scores if ok else {}),
        took if ok else None, took / 4 if ok else None, int(good * good * 1_500_000),
        f"01936f3a-0000-7000-8000-000000000099.{case}.{number}.0.0" if case <= 1 else "", MOMENT,
    )  # fmt: skip
