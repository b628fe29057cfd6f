"""Cells and verdicts as rows, and what a request id of a run stands for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from control.comparisons.engine import Cell, Hole
from control.comparisons.matches import Match, Verdict
from control.comparisons.reuse import digest_of
from control.models import ComparisonRun


def asked_for(request_id: str) -> tuple[Hole | Match, int]:
    """What a request of a run asked for, and at which try."""
    parts = request_id.split(".")[1:]
    if parts[0].startswith("p"):
        scorer, case, pair, repeat, _, attempt = parts[:6]
        first, second = pair.split("-")
        return Match(int(case), int(first), int(second), int(repeat), int(scorer[1:])), int(attempt)
    case, candidate, repeat, attempt = parts[:4]
    return Hole(int(case), int(candidate), int(repeat)), int(attempt)


def verdict_row(run: str, one: Verdict) -> dict[str, Any]:
    """For `comparison_verdict`."""
    return {
        "run_id": run, "case_number": one.case, "first_candidate": one.first, "second_candidate": one.second,
        "repeat_number": one.repeat, "scorer": one.scorer, "forward": one.forward, "backward": one.backward,
        "winner": one.winner, "note": one.note, "finished_at": datetime.fromisoformat(one.finished_at),
    }  # fmt: skip


def cell_row(run: ComparisonRun, one: Cell) -> dict[str, Any]:
    """For `comparison_cell`; the ledger says the rest."""
    answer = one.answer or {"latency_ms": None, "ttft_ms": None, "usage": {}}
    version = run.candidates[one.candidate]["route_version"]
    reused_from, snapshot, cost = one.kept or ("", "", None)
    return {
        "run_id": run.id, "case_number": one.case, "candidate": one.candidate, "repeat_number": one.repeat,
        "ok": one.ok, "request_id": one.request_id, "request": one.request, "answer": one.answer, "error": one.error,
        "scores": one.scores, "latency_ms": answer["latency_ms"], "ttft_ms": answer["ttft_ms"], "tries": one.tries,
        "limited": one.limited,
        "input_tokens": answer["usage"].get("prompt_tokens"),
        "output_tokens": answer["usage"].get("completion_tokens"), "cost_nano": cost, "snapshot": snapshot,
        "digest": digest_of(one.request, version, one.repeat) if one.kept is None else "",
        "reused_from": reused_from, "finished_at": datetime.fromisoformat(one.finished_at),
    }  # fmt: skip
