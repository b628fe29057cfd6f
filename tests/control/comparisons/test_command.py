"""`tunegate compare`: a suite without control, and how the command ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import scripts
from tests.fakes.upstream import Upstream
from tests.fakes.wire import Usage
from tests.processes import eventually

SUITE = """
name = "questions"
url = "{url}"
cases_file = "cases.csv"
candidates = [{{route = "good"}}, {{route = "bad"}}]
scorers = [{{name = "says yes", kind = "contains"}}]
thresholds = [{{scorer = "says yes", candidate = "{candidate}", at_least = 0.9}}]
[[prompts]]
name = "plain"
messages = [{{role = "user", content = "{{{{question}}}}"}}]
"""


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as running:
        running.on("good", scripts.chat(["ye", "s"], Usage(20, 5), gap=0.02))
        running.on("bad", scripts.chat(["n", "o"], Usage(20, 5)))
        yield running


def written(folder: Path, upstream: Upstream, candidate: str = "good", cases: int = 3) -> Path:
    path = folder / "suite.toml"
    path.write_text(SUITE.format(url=upstream.url, candidate=candidate))
    lines = [f"q{number},yes" for number in range(cases)]
    (folder / "cases.csv").write_text("\n".join(["question,expected", *lines]) + "\n")
    return path


def started(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(Path(sys.executable).parent / "tunegate"), "compare", path.name], cwd=path.parent, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "TUNEGATE_API_KEY": "sk-of-a-test"},
    )  # fmt: skip


def ended(path: Path) -> tuple[int, str]:
    process = started(path)
    _, told = process.communicate(timeout=60)
    return process.returncode, told


def test_a_suite_is_run_and_its_thresholds_decide(tmp_path: Path, upstream: Upstream) -> None:
    status, told = ended(written(tmp_path, upstream))
    assert status == 0, told
    assert "6/6" in told
    assert {seen.header("authorization") for seen in upstream.requests} == {"Bearer sk-of-a-test"}
    folder = tmp_path / "runs" / "questions"
    report = json.loads((folder / "report.json").read_text())
    assert [one["scores"]["says yes"]["value"] for one in report["candidates"]] == [1.0, 0.0]
    assert "<table>" in (folder / "report.html").read_text()
    asked = len(upstream.requests)
    path = written(tmp_path, upstream, "bad")
    status, told = ended(path)
    assert (status, len(upstream.requests)) == (1, asked), "the cells are there: only the threshold has changed"
    assert "missed: bad: says yes: 0.000, at least 0.9 is wanted" in told


def test_a_killed_command_goes_on_and_asks_nothing_twice(tmp_path: Path, upstream: Upstream) -> None:
    path = written(tmp_path, upstream, cases=100)
    cells = tmp_path / "runs" / "questions" / "cells.jsonl"
    process = started(path)
    eventually(lambda: cells.exists() and len(cells.read_bytes().splitlines()) > 20, 20)
    process.kill()
    process.communicate()
    with cells.open("ab") as file:
        file.write(b'{"case": 1, "cand')
    kept = len(cells.read_bytes().split(b"\n")) - 1
    before = len(upstream.requests)
    assert before - kept <= 16, "no more than were under way"
    status, told = ended(path)
    assert status == 0, told
    assert len(upstream.requests) - before == 200 - kept
    lines = [json.loads(line) for line in cells.read_text().splitlines()]
    assert Counter((one["case"], one["candidate"]) for one in lines).most_common(1)[0][1] == 1
    assert len(lines) == 200


def test_an_interrupt_keeps_what_is_there(tmp_path: Path, upstream: Upstream) -> None:
    path = written(tmp_path, upstream, cases=200)
    cells = tmp_path / "runs" / "questions" / "cells.jsonl"
    process = started(path)
    eventually(lambda: cells.exists() and len(cells.read_bytes().splitlines()) > 20, 20)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 3
    assert "answers are missing" in told


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "questions"', "", "suite.toml: name: Field required"),
        ('kind = "contains"', 'kind = "sparkling"', "scorers.0: Input tag 'sparkling'"),
        ('candidate = "good"', 'candidate = "other"', "thresholds.0.candidate: there is no candidate 'other'"),
        ("{{question}}", "{{answer}}", "prompts.0: case 1 has no variable answer"),
        ("cases.csv", "nothing.csv", "nothing.csv: No such file"),
        ('name = "plain"', 'name = "plain', "not valid TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(
    tmp_path: Path, upstream: Upstream, old: str, new: str, said: str
) -> None:
    path = written(tmp_path, upstream)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    status, told = ended(path)
    assert (status, said in told) == (2, True), told
    assert upstream.requests == []


def test_a_folder_is_for_one_suite_and_a_refusal_is_told(tmp_path: Path, upstream: Upstream) -> None:
    path = written(tmp_path, upstream)
    upstream.on("good", scripts.error(403, "your key may not", code="policy_access"))
    status, told = ended(path)
    assert status == 3
    assert "refuses: 403 policy_access: your key may not" in told
    written(tmp_path, upstream, cases=4)
    status, told = ended(path)
    assert (status, "--out names another" in told) == (2, True), told


def test_pairs_are_judged_in_the_command_too(tmp_path: Path, upstream: Upstream) -> None:
    path = written(tmp_path, upstream)
    scorer = '{name = "better", kind = "pairwise_judge", route = "judge", rubric = "Be right."}'
    text = path.read_text().replace("scorers = [{", f"scorers = [{scorer}, {{")
    path.write_text(text.replace('"says yes", candidate', '"better", candidate'))
    path.write_text(path.read_text().replace("[[prompts]]", "concurrency = 1\ntries = 1\n[[prompts]]"))
    upstream.on("judge", scripts.error(500))
    status, told = ended(path)
    assert (status, "3 pairs are not judged" in told) == (3, True), told
    upstream.on("judge", scripts.chat(['{"better": ', '"A"}'], Usage(20, 5)))
    upstream.queue("judge", *[scripts.chat([f'{{"better": "{one}"}}'], Usage(20, 5)) for one in "AB"])
    before = len(upstream.of("good"))
    path.write_text(path.read_text().replace("at_least = 0.9", "at_least = 0.7"))
    status, told = ended(path)
    assert status == 1, told
    assert "missed: good: better: 0.667, at least 0.7 is wanted" in told
    assert len(upstream.of("good")) == before
    (pair,) = json.loads((tmp_path / "runs" / "questions" / "report.json").read_text())["comparisons"][0]["pairs"]
    assert pair["judged"] == {"first": 1, "second": 0, "tie": 2, "swayed": 2, "unjudged": 0}
    asked = len(upstream.requests)
    assert ended(path)[0] == 1
    assert len(upstream.requests) == asked, "it goes on from what was judged"
