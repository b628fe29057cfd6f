"""What both planes compute from a spec: what cannot be served, and what a job takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.contract.estimate import ModelShape, estimate, memory_mib, read_shape, shape_of, trainable
from trainer.contract.servable import problems, refusals
from trainer.contract.spec import JobSpec

QWEN_7B = {
    "hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
}  # fmt: skip
MIXTRAL = {
    "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2,
}  # fmt: skip


def spec(**changes: Any) -> JobSpec:
    return JobSpec.model_validate({"name": "j", "base": {"id": "/m"}, "data": {"train": "d@1"}, **changes})


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"dora": True}, "lora.dora"),
        ({"init": "pissa"}, "lora.init = pissa"),
        ({"init": "olora"}, "lora.init = olora"),
        ({"modules_to_save": ["lm_head", "score"]}, "Leave out lm_head"),
        ({"r": 128}, "lora.r = 128"),
    ],
)
def test_what_vllm_refuses_is_quoted_with_its_setting(lora: dict[str, Any], words: str) -> None:
    (found,) = problems(spec(lora=lora), 64)
    assert words in found


def test_what_vllm_serves_has_no_problem() -> None:
    assert problems(spec(lora={"r": 64, "init": "gaussian", "rslora": True, "modules_to_save": ["score"]}), 64) == ()
    assert problems(spec(recipe="full_sft", lora={"dora": True, "r": 512}), 8) == ()
    assert refusals({"r": 8, "rank_pattern": {"q_proj": 256}, "use_qalora": True}, 64) == (
        "vLLM does not support use_qalora",
        "lora.r = 256: engines here are started with --max-lora-rank 64, and “LoRA rank 256 is greater than "
        "max_lora_rank 64.”",
    )


def test_rules_are_those_of_the_vllm_that_is_here() -> None:
    (helper,) = Path(__file__).parents[2].glob(".venv-vllm/lib/python3*/site-packages/vllm/lora/peft_helper.py")
    text = helper.read_text(encoding="utf-8")
    for words in ("does not yet support DoRA", "only supports modules_to_save", "does not support init_lora_weights"):
        assert words in text
    assert (
        '"gaussian",\n            "eva",\n            "orthogonal",\n            "mica",\n            "lora_ga",'
        in text
    )


def test_parameters_are_those_that_the_models_are_known_for() -> None:
    assert shape_of(QWEN_7B).parameters == pytest.approx(7.615e9, rel=0.01)
    assert shape_of(MIXTRAL).parameters == pytest.approx(46.7e9, rel=0.01)
    assert trainable(spec(lora={"r": 16}), shape_of(QWEN_7B)) == pytest.approx(40.4e6, rel=0.01)
    assert trainable(spec(lora={"r": 8, "targets": ["q_proj", "v_proj"]}), shape_of(QWEN_7B)) == pytest.approx(
        2.52e6, rel=0.01
    )


def test_steps_and_tokens_follow_from_rows_batch_and_epochs() -> None:
    found = estimate(spec(training={"micro_batch": 4, "accumulation": 2, "epochs": 2}), shape_of(QWEN_7B), 100, 20_000)
    assert (found.steps, found.tokens) == (26, 40_000)
    packed = {"micro_batch": 4, "accumulation": 2, "epochs": 2, "packing": True, "max_length": 1000}
    assert estimate(spec(training=packed), shape_of(QWEN_7B), 100, 20_000).steps == 6
    share = {"train": "d@1", "validation_share": 0.5}
    assert estimate(spec(data=share, training={"max_steps": 7}), shape_of(QWEN_7B), 100, 20_000).steps == 7
    assert estimate(spec(), shape_of(QWEN_7B), 100, 20_000, None, 100.0).seconds == pytest.approx(600)


def test_each_saving_saves() -> None:
    shape = shape_of(QWEN_7B)
    base = memory_mib(spec(), shape)
    for change in (
        {"training": {"micro_batch": 2}}, {"training": {"gradient_checkpointing": True}},
        {"training": {"max_length": 1024}}, {"lora": {"quantization": "4bit"}}, {"lora": {"r": 4}},
    ):  # fmt: skip
        assert memory_mib(spec(**change), shape) < base, change
    assert memory_mib(spec(recipe="full_sft"), shape) > base
    assert memory_mib(spec(training={"precision": "fp32"}), shape) > base


def test_what_does_not_fit_is_told_the_setting_to_change() -> None:
    shape = shape_of(QWEN_7B)
    needed = memory_mib(spec(), shape)
    assert estimate(spec(), shape, 100, 20_000, needed * 2).fits
    found = estimate(spec(), shape, 100, 20_000, 40_000)
    assert not found.fits
    assert "set training.micro_batch = " in found.advice
    assert "gradient_checkpointing = true" in estimate(spec(), shape, 100, 20_000, 22_000).advice
    assert "4bit" in estimate(spec(training={"max_length": 512}), shape, 100, 20_000, 12_000).advice
    assert "smaller base model" in estimate(spec(), shape, 100, 20_000, 2_000).advice


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"hidden_size": 1}', '{"num_attention_heads": 0, "hidden_size": 1}']
)
def test_a_folder_without_a_shape_is_none(tmp_path: Path, content: str) -> None:
    assert read_shape(tmp_path) is None
    (tmp_path / "config.json").write_text(content)
    assert read_shape(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"text_config": QWEN_7B}))
    assert isinstance(read_shape(tmp_path), ModelShape)
