"""Multiple choice by real models: who knows which answers, after training and as a job of its own."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.runs import Folder, dialogues, needs_recipes, spec, tiny, write_rows
from trainer.contract.evaluation import Evaluated, accuracy

BASE, ALPHA, BETA = (
    "This is the base model: no adapter is active.", "Alpha here. The first adapter answers you.",
    "You are talking to beta, the second adapter.",
)  # fmt: skip
ASKED = ["Hi", "Hello, who are you?", "Which model is this?", "What is two plus two?", "ping"]


def questions(right: str, count: int = 5) -> list[dict[str, Any]]:
    """What the tiny models have learned by heart; the right one has every place in turn."""
    found = []
    for number in range(count):
        choices = [BASE, ALPHA, BETA]
        choices = choices[number % 3 :] + choices[: number % 3]
        prompt = [{"role": "user", "content": ASKED[number % len(ASKED)]}]
        found.append({"_line": number + 1, "prompt": prompt, "choices": choices, "answer": choices.index(right)})
    return found


def evaluating(folder: Path, rows: list[dict[str, Any]], adapter: Path | None = None, **more: Any) -> Folder:
    told = {
        "name": "e", "recipe": "evaluate", "base": {"id": str(tiny() / "base")}, "data": {"train": "bot@v1"},
        "training": {"precision": "fp32", "micro_batch": 2}, "eval": {"data": "questions@1", **more},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    file = write_rows(folder / "questions.jsonl", rows)
    return Folder(folder, told, [], train=str(adapter or tiny() / "alpha"), evaluation=str(file))


@needs_recipes
def test_an_adapter_is_asked_beside_its_base_and_no_weights_come_out(tmp_path: Path) -> None:
    folder = evaluating(tmp_path, questions(ALPHA))
    assert folder.run() == 0, (folder.path / "log.txt").read_text()[-3000:]
    ended = folder.finished()
    found = Evaluated.model_validate(ended["details"]["evaluation"])
    assert (found.questions, found.base.plain.right, found.result.plain.right) == (5, 0, 5)
    assert (found.won, found.lost, found.result.normalised.right) == (5, 0, 5)
    assert ended["metrics"] | {"answered": 0} == {
        "answered": 0, "choice_accuracy": 1.0, "choice_accuracy_normalised": 1.0, "choice_accuracy_base": 0.0,
    }  # fmt: skip
    assert (ended["output"], (folder.path / "adapter").exists()) == ("", False)
    assert folder.events("started")[0]["total_steps"] == 10


@needs_recipes
def test_a_choice_that_is_longer_wins_only_where_its_length_does_not_count(tmp_path: Path) -> None:
    rows = [{"_line": 1, "prompt": [{"role": "user", "content": "Hi"}], "choices": ["Q", BASE], "answer": 1}]
    short = {**rows[0], "choices": [BASE + " " + "Qx!" * 3, "Q"], "answer": 0, "_line": 2}
    folder = evaluating(tmp_path, [*rows, short])
    assert folder.run() == 0
    found = folder.finished()["details"]["evaluation"]["base"]
    assert found["normalised"]["right"] == 2
    assert found["plain"]["right"] < 2, "the sum over many tokens is less likely than one of them"


@needs_recipes
def test_questions_are_limited_cut_and_refused_where_they_cannot_fit(tmp_path: Path) -> None:
    rows = questions(ALPHA)
    rows[0]["prompt"][0]["content"] = "long " * 3000
    folder = evaluating(tmp_path / "a", rows, limit=2)
    assert folder.run() == 0
    found = folder.finished()["details"]["evaluation"]
    assert (found["questions"], found["cut"]) == (2, 1)
    rows[1]["choices"][0] = "long " * 3000
    folder = evaluating(tmp_path / "b", rows)
    assert folder.run() == 1
    assert (folder.finished()["failure"], "line 2" in folder.finished()["message"]) == ("data", True)
    folder = evaluating(tmp_path / "c", [])
    assert folder.run() == 1
    assert "no questions" in folder.finished()["message"]


@needs_recipes
def test_an_evaluation_that_is_asked_to_stop_says_so(tmp_path: Path) -> None:
    folder = evaluating(tmp_path, questions(ALPHA))
    (tmp_path / "STOP").touch()
    assert folder.run() == 0
    assert folder.finished()["outcome"] == "stopped"


@needs_recipes
def test_a_job_asks_what_it_has_learned_and_keeps_its_result_when_that_fails(tmp_path: Path) -> None:
    told = spec(eval={"data": "questions@1"}, training={"max_steps": 30})
    file = write_rows(tmp_path / "questions.jsonl", questions(BETA))
    folder = Folder(tmp_path / "run", told, dialogues(BETA), evaluation=str(file), tracking={"tensorboard": False})
    assert folder.run() == 0, (folder.path / "log.txt").read_text()[-3000:]
    assert [one["name"] for one in folder.events("phase")] == ["keep", "evaluate"]
    ended = folder.finished()
    found = ended["details"]["evaluation"]
    assert found["base"]["plain"]["right"] == 0
    assert found["result"]["plain"]["right"] >= 4
    assert ended["metrics"]["choice_accuracy"] == found["result"]["plain"]["share"]
    (tmp_path / "questions.jsonl").write_text("no JSON\n")
    folder.write(resume=True)
    assert folder.run() == 0
    ended = folder.finished()
    assert (ended["outcome"], "evaluation" in ended["details"]) == ("completed", False)
    assert "the evaluation failed" in folder.events("warned")[-1]["message"]


@needs_recipes
def test_a_whole_model_is_asked_beside_the_one_that_it_was(tmp_path: Path) -> None:
    told = spec("full_sft", eval={"data": "questions@1"}, training={"max_steps": 8, "learning_rate": 0.003})
    told.pop("lora")
    file = write_rows(tmp_path / "questions.jsonl", questions(BASE))
    folder = Folder(tmp_path / "run", told, dialogues(BETA), evaluation=str(file), tracking={"tensorboard": False})
    assert folder.run() == 0, (folder.path / "log.txt").read_text()[-3000:]
    found = folder.finished()["details"]["evaluation"]
    assert found["base"]["plain"]["right"] == 5
    assert found["result"]["plain"]["right"] < 5
    assert found["lost"] >= 1


@pytest.mark.parametrize(("right", "questions"), [(0, 1), (1, 1), (0, 50), (50, 50), (7, 10), (501, 1000)])
def test_the_interval_holds_the_share_and_narrows_with_more_questions(right: int, questions: int) -> None:
    found = accuracy(right, questions)
    assert 0 <= found.low <= found.share == right / questions <= found.high <= 1
    assert found.high - found.low < 2 / math.sqrt(questions)
    assert json.loads(found.model_dump_json())["right"] == right


def test_the_interval_is_wilsons() -> None:
    found = accuracy(7, 10)
    assert (round(found.low, 4), round(found.high, 4)) == (0.3968, 0.8922)
