"""Runs as files: cells as CSV or JSON lines, the report as Markdown or a page of HTML."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from control.comparisons.report_schemas import Figure, Report
from control.kit.sheets import tame

_CELL = (
    "case", "candidate", "route", "route_version", "prompt", "repeat", "ok", "tags", "expected", "text",
    "finish_reason", "error", "latency_ms", "ttft_ms", "prompt_tokens", "completion_tokens", "cost_nano", "tries",
    "limited", "request_id", "snapshot", "reused_from", "finished_at",
)  # fmt: skip
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1f2328}"
    "table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #d0d7de;padding:.3rem .6rem;text-align:left}"
    "th{background:#f6f8fa}caption{text-align:left;font-weight:600;padding:.3rem 0}"
)
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""Caption, heads and rows."""


def csv_head(scorers: Sequence[str]) -> str:
    """The first line."""
    return _line([*_CELL, *(f"{name}{what}" for name in scorers for what in ("", " passed"))])


def csv_line(cell: Mapping[str, Any], scorers: Sequence[str]) -> str:
    """A cell."""
    answer, error = cell["answer"] or {}, cell["error"]
    usage = answer.get("usage", {})
    flat = {
        **cell, **{name: answer.get(name) for name in ("text", "finish_reason", "latency_ms", "ttft_ms")},
        **{name: usage.get(name) for name in ("prompt_tokens", "completion_tokens")},
        "tags": ",".join(cell["tags"]), "error": f"{error['code']}: {error['message']}" if error else None,
    }  # fmt: skip
    scores = [cell["scores"].get(name, {}).get(what) for name in scorers for what in ("value", "passed")]
    return _line([*(flat[name] for name in _CELL), *scores])


def json_line(cell: Mapping[str, Any]) -> str:
    """A cell with everything."""
    return json.dumps(cell, ensure_ascii=False) + "\n"


def _line(values: Sequence[object]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([tame(value) for value in values])
    return out.getvalue()


def markdown(title: str, facts: Sequence[str], report: Report) -> str:
    """The report as Markdown."""
    parts = [f"# {_plain(title)}", "\n".join(f"- {_plain(fact)}" for fact in facts)]
    for caption, heads, rows in tables(report):
        lines = [heads, ["---"] * len(heads), *rows]
        table = "\n".join("| " + " | ".join(_plain(one) for one in line) + " |" for line in lines)
        parts.append(f"## {_plain(caption)}\n\n{table}")
    return "\n\n".join(parts) + "\n"


def page(title: str, facts: Sequence[str], report: Report) -> str:
    """The report as a page that needs nothing else and runs nothing."""
    parts = [f"<h1>{html.escape(title)}</h1>", f"<ul>{''.join(f'<li>{html.escape(fact)}' for fact in facts)}</ul>"]
    for caption, heads, rows in tables(report):
        head = "".join(f"<th>{html.escape(one)}" for one in heads)
        body = "".join(f"<tr>{''.join(f'<td>{html.escape(one)}' for one in row)}" for row in rows)
        parts.append(f"<table><caption>{html.escape(caption)}</caption><tr>{head}{body}</table>")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )


def tables(report: Report) -> list[Table]:
    """What a report shows."""
    heads = ["candidate", *report.scorers, "answered", "failed", "latency p50", "p95", "TTFT p50", "tokens", "cost", ""]
    rows = [
        [
            one.name, *(figure(one.scores.get(name)) for name in report.scorers), str(one.answered), str(one.failed),
            _ms(one.latency_ms.get("p50")), _ms(one.latency_ms.get("p95")), _ms(one.ttft_ms.get("p50")),
            str(one.input_tokens + one.output_tokens), "–" if one.cost_nano is None else f"{one.cost_nano / 1e9:.6f}",
            "Pareto front" if one.front else "",
        ]
        for one in report.candidates
    ]  # fmt: skip
    found: list[Table] = [("Candidates (means with 95 % intervals, cost of an answer)", heads, rows)]
    withheld = [
        [one.name, figure(one.refused), figure(one.limited), _counted(one.finish_reasons), _counted(one.errors)]
        for one in report.candidates
    ]
    found.append(("Refusals and 429s", ["candidate", "refused", "met a 429", "finish reasons", "errors"], withheld))
    for scorer in report.comparisons:
        if scorer.pairs:
            lines = [
                [pair.first, pair.second, figure(pair.difference), f"{pair.points:g} of {pair.met}", f"{pair.p:.4f}",
                 pair.verdict.replace("_", " ")]
                for pair in scorer.pairs
            ]  # fmt: skip
            found.append((f"{scorer.scorer}: pairs", ["first", "second", "difference", "won", "p", "first is"], lines))
        judged = [(pair, pair.judged) for pair in scorer.pairs if pair.judged is not None]
        if judged:
            lines = [
                [pair.first, pair.second, *(str(n) for n in (one.first, one.second, one.tie, one.swayed, one.unjudged))]
                for pair, one in judged
            ]
            heads = ["first", "second", "first won", "second won", "ties", "changed by the order", "not judged"]
            found.append((f"{scorer.scorer}: verdicts in both orders", heads, lines))
        if scorer.ratings:
            ratings = [[one.name, figure(one.elo, 0)] for one in scorer.ratings]
            found.append((f"{scorer.scorer}: Bradley–Terry rating", ["candidate", "rating"], ratings))
    if report.tags:
        lines = [
            [tag.tag, str(tag.cases), name, *(figure(scores.get(one)) for one in report.scorers)]
            for tag in report.tags
            for name, scores in tag.scores.items()
        ]
        found.append(("By tag", ["tag", "cases", "candidate", *report.scorers], lines))
    if report.against is not None:
        lines = [
            [one.candidate, one.scorer, figure(one.difference), f"{one.p:.4f}", one.verdict.replace("_", " ")]
            for one in report.against.changes
        ]
        heads = ["candidate", "scorer", "difference", "p", "now is"]
        found.append((f"Against run {report.against.run}, {report.against.cases} cases of both", heads, lines))
        worse = [
            [str(one.case), one.candidate, one.scorer, f"{one.before:.3f}", f"{one.now:.3f}"]
            for one in report.against.regressions
        ]
        found.append(("Cases that were better", ["case", "candidate", "scorer", "before", "now"], worse))
    return found


def figure(one: Figure | None, digits: int = 3) -> str:
    """A mean with its interval."""
    if one is None:
        return "–"
    few = " (too small to tell)" if one.few else ""
    return f"{one.value:.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]{few}"


def _counted(found: Mapping[str, int]) -> str:
    return ", ".join(f"{name or 'unknown'}: {found[name]}" for name in sorted(found)) or "–"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"


def _plain(text: str) -> str:
    """Text in which Markdown finds no marks of its own."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ").replace("`", "\\`").replace("[", "\\[")
