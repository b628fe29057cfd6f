"""LLaMA-Factory, in its own environment, as a run like any other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.processes import eventually
from tests.trainer.runs import QUESTIONS, ROOT, Folder, dialogues, needs_recipes, preferences, spec, write_rows
from tests.trainer.test_evaluation import ALPHA, BETA, evaluating
from trainer.contract.evaluation import Evaluated
from trainer.contract.worker import Probe

PYTHON = ROOT / ".venv-llamafactory/bin/python"
pytestmark = pytest.mark.skipif(
    not PYTHON.exists() and os.environ.get("REQUIRE_TRAIN") != "1", reason="make llamafactory fills its environment"
)
QUIET = {"tracking": {"tensorboard": False}}
ANSWER = "Our shop is open on every day of the week."


def folder(path: Path, rows: list[dict[str, Any]], **changes: Any) -> Folder:
    return Folder(path, spec("llamafactory", **changes), rows, python=PYTHON, **QUIET)


# the right answer is what is learned; no other is what the base model says
ASKED = [
    {
        "_line": number, "prompt": [{"role": "user", "content": question}], "answer": number % 3,
        "choices": [ANSWER if place == number % 3 else other for place, other in enumerate((ALPHA, BETA, BETA))],
    }
    for number, question in enumerate(QUESTIONS, 1)
]  # fmt: skip


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A run to its end, which asks the questions, too."""
    data = {"train": "rows@1", "validation_share": 0.2}
    told = spec(
        "llamafactory", data=data, prompts=["Hi"], eval={"data": "questions@1"},
        training={"eval_every": 6, "packing": True},
    )  # fmt: skip
    path = tmp_path_factory.mktemp("learned")
    asked = write_rows(path / "questions.jsonl", ASKED)
    run = Folder(path, told, dialogues(ANSWER), python=PYTHON, evaluation=str(asked), **QUIET)
    assert run.run() == 0, (run.path / "log.txt").read_text()[-3000:]
    return run


def test_dialogues_are_learned_packed_and_measured(learned: Folder) -> None:
    run = learned
    (started,) = run.events("started")
    assert (started["total_steps"], started["device"]) == (12, "cpu")
    assert 0 < started["rows"] < 19  # several in each
    losses = run.losses()
    assert losses[12] < losses[1] / 2
    assert run.events("sample")[0]["step"] == 6
    ended = run.finished()
    assert [Probe.model_validate(one) for one in ended["details"]["probes"]]
    assert ended["details"]["versions"]["llamafactory"]
    kept = {path.name for path in (run.path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= kept
    assert not kept & {"optimizer.pt", "training_args.bin", "trainer_state.json"}
    assert run.events("checkpoint")[-1]["files"]


@needs_recipes
def test_an_evaluation_of_its_adapter_by_the_newer_libraries_of_the_other_recipes_finds_the_same(
    learned: Folder, tmp_path: Path
) -> None:
    within = Evaluated.model_validate(learned.finished()["details"]["evaluation"])
    assert (within.questions, within.base.plain.right) == (6, 0)
    assert within.won > 0, "it has begun to learn the answer"
    run = evaluating(tmp_path, ASKED, learned.path / "adapter")
    assert run.run() == 0, (run.path / "log.txt").read_text()[-3000:]
    assert Evaluated.model_validate(run.finished()["details"]["evaluation"]) == within
    assert not run.events("warned")


def test_stopped_it_leaves_a_checkpoint_and_goes_on_from_it(tmp_path: Path) -> None:
    run = folder(tmp_path, dialogues(ANSWER), training={"max_steps": 3000})
    process = run.begin()
    eventually(lambda: run.losses() or process.poll() is not None, 60)
    (run.path / "STOP").touch()
    assert process.wait(60) == 0
    stopped = run.finished()
    assert stopped["outcome"] == "stopped"
    assert run.events("checkpoint")[-1]["step"] == stopped["step"] < 3000
    (run.path / "STOP").unlink()
    training = {**run.told["training"], "max_steps": stopped["step"] + 4}
    run.write(resume=True, spec={**run.told, "training": training})
    assert run.run() == 0, (run.path / "log.txt").read_text()[-3000:]
    assert run.events("started")[-1]["first_step"] == stopped["step"]
    assert run.finished()["outcome"] == "completed"


def kto() -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": "Yes." if good else "No."}],
            "label": good,
        }
        for question in QUESTIONS
        for good in (True, False)
    ]


def with_tools() -> list[dict[str, Any]]:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    answers = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "found"},
        {"role": "assistant", "content": "Here it is."},
    ]
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    return [{"messages": [{"role": "user", "content": q}, *answers], "tools": [tool]} for q in QUESTIONS]


@pytest.mark.parametrize(
    "rows",
    [
        preferences("Yes, with pleasure.", "No, go away."),
        kto(),
        [{"text": f"{question} is what they ask."} for question in QUESTIONS * 2],
        with_tools(),
    ],
    ids=["preference", "kto", "pretrain", "tools"],
)
def test_every_kind_of_rows_is_learned_from(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    run = folder(tmp_path, rows, training={"max_steps": 2, "micro_batch": 2, "accumulation": 1, "max_length": 512})
    assert run.run() == 0, (run.path / "log.txt").read_text()[-3000:]
    assert not run.events("warned")
    assert run.events("started")[0]["rows"] >= len(QUESTIONS) / 2
    assert "loss" in run.finished()["metrics"]
    assert json.loads((run.path / "adapter/adapter_config.json").read_text())["r"] == 8


def test_what_it_cannot_do_is_refused_with_the_setting(tmp_path: Path) -> None:
    run = folder(tmp_path, dialogues(ANSWER), lora={"init": "olora"})
    assert run.run() == 1
    assert (run.finished()["failure"], "lora.init = olora" in run.finished()["message"]) == ("config", True)
