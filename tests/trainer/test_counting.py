"""Token lengths by a real worker and a real tokenizer, whatever is killed, restarted or silent in between."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes import eventually, processes_with
from tests.trainer.fake_control import FakeControl
from tests.trainer.runs import PYTHON, ROOT, dialogues, needs_recipes, tiny
from tests.trainer.test_worker import WorkerProcess

pytestmark = needs_recipes


@pytest.fixture
def worker(control: FakeControl, tmp_path: Path) -> Iterator[WorkerProcess]:
    one = WorkerProcess(control, tmp_path, PYTHON)
    yield one
    one.end()
    assert not processes_with(str(tmp_path))


def count(control: FakeControl, rows: list[dict[str, Any]], base: str = "", id: str = "c1") -> None:
    content = b"".join(json.dumps({**row, "_line": n}).encode() + b"\n" for n, row in enumerate(rows, 1))
    control.data["v1"] = content
    file = {"version": "v1", "split": "train", "sha256": hashlib.sha256(content).hexdigest(), "rows": len(rows)}
    control.orders["counts"] = [{"count": id, "base": {"id": base or str(tiny() / "base")}, "data": file}]


def said(control: FakeControl, id: str = "c1") -> dict[str, Any]:
    told = control.beats[-1]["counts"] if control.beats else []
    return next((one for one in told if one["count"] == id), {})


def ended(control: FakeControl, id: str = "c1") -> Callable[[], bool]:
    return lambda: bool(said(control, id))


def test_rows_of_all_kinds_are_counted_with_the_models_own_template(
    control: FakeControl, worker: WorkerProcess
) -> None:
    asked, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "yes"}
    longer = {"role": "assistant", "content": "yes, " * 300}
    count(control, [
        {"messages": [asked, answer]}, {"text": "Hi"}, {"prompt": [asked], "chosen": [answer], "rejected": [longer]},
        {"prompt": [asked], "completion": [answer], "label": True},
    ])  # fmt: skip
    worker.begin()
    eventually(ended(control), 60)
    lengths = said(control)["lengths"]
    assert (lengths["rows"], lengths["width"]) == (4, 1), said(control)
    assert sum(one["rows"] for one in lengths["bins"]) == 4
    dialogue = next(one["to"] for one in lengths["bins"] if one["rows"] == 2)
    assert lengths["min"] < dialogue < 300 < lengths["max"], "the text has no template, the pair its longer answer"
    control.orders["counts"] = []
    eventually(lambda: not control.beats[-1]["counts"], 60)
    assert not list((worker.folder / "data/counts").iterdir())


def test_a_model_that_is_not_there_and_rows_that_do_not_fit_are_told_of(
    control: FakeControl, worker: WorkerProcess
) -> None:
    count(control, dialogues("yes"), base="/no/such/folder")
    worker.begin()
    eventually(ended(control), 60)
    assert "there is no model in the folder /no/such/folder" in said(control)["failure"]
    count(control, [{"nothing": 1}], id="c2")
    eventually(ended(control, "c2"), 60)
    assert said(control, "c2")["failure"].startswith("row 1: ")
    count(control, [], id="c3")
    eventually(ended(control, "c3"), 60)
    assert said(control, "c3")["failure"] == "there are no rows"


def test_a_count_goes_on_after_the_worker_was_killed_and_while_control_is_silent(
    control: FakeControl, worker: WorkerProcess
) -> None:
    count(control, dialogues("yes", 100))
    process = worker.begin()
    eventually(lambda: bool(processes_with(str(worker.folder / "data/counts"))), 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    eventually(lambda: not processes_with(str(worker.folder / "data/counts")), 60)
    worker.begin()
    eventually(lambda: len(control.beats) > 3, 60)
    control.down = True
    eventually(lambda: not processes_with(str(worker.folder / "data/counts")), 60)
    control.down = False
    eventually(ended(control), 60)
    assert said(control)["lengths"]["rows"] == 600


def test_a_count_that_nobody_wants_any_more_is_ended(control: FakeControl, worker: WorkerProcess) -> None:
    count(control, dialogues("yes", 100))
    worker.begin()
    eventually(lambda: bool(processes_with(str(worker.folder / "data/counts"))), 60)
    control.orders["counts"] = []
    eventually(lambda: not processes_with(str(worker.folder / "data/counts")), 60)
    assert not control.beats[-1]["counts"]


def test_bins_are_few_and_each_row_is_in_one() -> None:
    done = (
        "from array import array; import json; from trainer.recipes.lengths import summary; "
        "print(json.dumps([summary(array('q', [1])), summary(array('q', range(1, 40_001)))]))"
    )
    text = subprocess.run([str(PYTHON), "-c", done], check=True, capture_output=True, cwd=ROOT, timeout=60).stdout
    one, many = json.loads(text)
    assert (one["bins"], one["p95"]) == ([{"to": 1, "rows": 1}], 1)
    assert (many["width"], many["p50"], many["total"]) == (32, 20_001, sum(range(40_001)))
    assert sum(bin["rows"] for bin in many["bins"] if bin["to"] <= 2048) == 2048
    assert len(many["bins"]) == 1250
