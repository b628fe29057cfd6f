"""LLaMA-Factory's LoRA: for what the other recipes have not (KTO, packing), and for those who are used to it.

python -m trainer.recipes.llamafactory RUN_FOLDER

It runs in an environment of its own, since it wants older libraries. Its command line dies at SIGTERM without a
checkpoint and leaves torchrun's ranks behind, so its training is called from here, with our callback beside it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import shutil
import sys
import types
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from trainer.recipes.common.evaluate import evaluated
from trainer.recipes.common.fit import resumed_from
from trainer.recipes.common.follow import Follow
from trainer.recipes.common.model import base_hash, device_name, load_model, load_tokenizer, probes
from trainer.recipes.common.rows import split
from trainer.recipes.common.run import Refused, Run, main
from trainer.recipes.common.trackers import Trackers

_STAGES = {"messages": "sft", "text": "pt", "chosen": "dpo", "completion": "kto"}
"""What a row of each kind has, and how LLaMA-Factory calls learning from it."""
_PACKAGES = ("torch", "transformers", "peft", "trl", "llamafactory")
_TAGS = {
    "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
    "observation_tag": "tool", "function_tag": "function", "system_tag": "system",
}  # fmt: skip


class FollowFactory(Follow):
    """Tells the start of a run too, which LLaMA-Factory prepares out of our sight."""

    rows = 0
    """Rows that it was given."""
    step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **more: Any) -> None:
        """The first step is about to be computed."""
        learned = more["train_dataloader"].dataset
        if not self._run.spec.training.packing and len(learned) < self.rows:
            self._run.warn(f"LLaMA-Factory left out {self.rows - len(learned)} rows: their roles do not alternate")
        weights = list(model.parameters())
        tokens = sum(len(row.get("input_ids", row.get("chosen_input_ids", ()))) for row in learned)
        self._run.started(
            total_steps=state.max_steps, first_step=state.global_step, device=device_name(), rows=len(learned),
            tokens=tokens, parameters=sum(one.numel() for one in weights),
            trainable=sum(one.numel() for one in weights if one.requires_grad),
        )  # fmt: skip


def recipe(run: Run) -> None:
    """Write what LLaMA-Factory reads, let it learn, keep the adapter."""
    tokenizer = load_tokenizer(run.spec.base)
    train, held = split(run)
    stage = stage_of(train)
    files = run.folder / f"factory-{run.rank}"  # of each process: none has to wait for another
    info = {"train": _dataset(files / "train.jsonl", train, stage), "held": _dataset(files / "held.jsonl", held, stage)}
    (files / "dataset_info.json").write_text(json.dumps(info), encoding="utf-8")
    start = resumed_from(run)
    trackers = Trackers(run)
    follow = FollowFactory(run, tokenizer, trackers)
    follow.rows = len(train)
    _without_sound()
    from llamafactory.train.tuner import run_exp  # noqa: PLC0415 - only after that

    run_exp(args=arguments(run, stage, files, bool(held), start), callbacks=[follow])
    trackers.close()
    if not run.is_first:
        return
    if follow.stopped:
        run.finished("stopped", message="stopped as asked, with a checkpoint")
        return
    _keep(run)
    model = PeftModel.from_pretrained(load_model(run.spec), run.output)
    if follow.told_at != run.step:
        follow.say(model, run.step)
    details = {
        "versions": {name: metadata.version(name) for name in _PACKAGES}, "base_sha256": base_hash(run.spec),
        "probes": probes(model, tokenizer, run.spec), **evaluated(run, model, tokenizer),
    }  # fmt: skip
    run.finished("completed", output=run.output.name, details=details)


def stage_of(rows: Sequence[dict[str, Any]]) -> str:
    """How LLaMA-Factory calls learning from such rows."""
    for name, stage in _STAGES.items():
        if rows and name in rows[0]:
            return stage
    raise Refused("data", "there is no row to learn from")


def arguments(run: Run, stage: str, files: Path, measures: bool, start: Path | None) -> dict[str, Any]:
    """The spec in LLaMA-Factory's words. It refuses a word that it does not know."""
    spec, lora, training = run.spec, run.spec.lora, run.spec.training
    if lora.init not in ("default", "pissa"):
        raise Refused("config", f"lora.init = {lora.init}: LLaMA-Factory knows default and pissa")
    given = {
        "stage": stage, "do_train": True, "finetuning_type": "lora", "model_name_or_path": spec.base.id,
        "model_revision": spec.base.revision or "main", "cache_dir": str(run.folder / "cache"),
        "lora_rank": lora.r, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout, "use_rslora": lora.rslora,
        "use_dora": lora.dora, "pissa_init": lora.init == "pissa", "additional_target": ",".join(lora.modules_to_save),
        "lora_target": "all" if lora.targets == ("all-linear",) else ",".join(lora.targets),
        "quantization_bit": {"none": None, "8bit": 8, "4bit": 4}[lora.quantization],
        "dataset": "train", "dataset_dir": str(files), "cutoff_len": training.max_length, "packing": training.packing,
        "neat_packing": training.packing and stage == "sft", "train_on_prompt": not training.assistant_only_loss,
        "pref_beta": training.beta, "output_dir": str(run.checkpoints), "overwrite_output_dir": True,
        "resume_from_checkpoint": None if start is None else str(start), "save_strategy": "steps",
        "save_steps": training.save_every, "save_total_limit": training.keep_checkpoints,
        "per_device_train_batch_size": training.micro_batch, "per_device_eval_batch_size": training.micro_batch,
        "gradient_accumulation_steps": training.accumulation, "learning_rate": training.learning_rate,
        "lr_scheduler_type": training.schedule, "warmup_steps": training.warmup_steps,
        "weight_decay": training.weight_decay, "max_grad_norm": training.max_grad_norm,
        "num_train_epochs": training.epochs, "max_steps": training.max_steps or -1, "seed": training.seed,
        "data_seed": training.seed, "bf16": training.precision == "bf16", "fp16": training.precision == "fp16",
        "disable_gradient_checkpointing": not training.gradient_checkpointing, "logging_steps": training.log_every,
        "logging_first_step": True, "include_num_input_tokens_seen": "non_padding", "report_to": "none",
        "use_cpu": not torch.cuda.is_available(), "ddp_find_unused_parameters": False, "disable_tqdm": True,
    }  # fmt: skip
    if measures:
        every = {"eval_strategy": "steps", "eval_steps": training.eval_every} if training.eval_every else {}
        given |= {"eval_dataset": "held", "do_eval": True, **every}
    return {name: value for name, value in given.items() if value not in (None, "")}


def _dataset(path: Path, rows: Sequence[dict[str, Any]], stage: str) -> dict[str, Any]:
    """Write rows, and say what LLaMA-Factory must know of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(_row(row, stage), ensure_ascii=False) + "\n")
    told: dict[str, Any] = {"file_name": path.name}
    if stage == "pt":
        return {**told, "columns": {"prompt": "text"}}
    told |= {"formatting": "openai", "columns": {"messages": "messages", "tools": "tools"}, "tags": _TAGS}
    if stage == "dpo":
        told["ranking"] = True
        told["columns"] |= {"chosen": "chosen", "rejected": "rejected"}
    if stage == "kto":
        told["columns"]["kto_tag"] = "label"
    return told


def _row(row: dict[str, Any], stage: str) -> dict[str, Any]:
    if stage == "pt":
        return {"text": row["text"]}
    tools = [_tool(one) for one in row.get("tools") or ()]
    told: dict[str, Any] = {"tools": json.dumps(tools, ensure_ascii=False) if tools else ""}
    if stage == "sft":
        return told | {"messages": [_message(one) for one in row["messages"]]}
    messages = [_message(one) for one in row["prompt"]]
    if stage == "dpo":
        return told | {"messages": messages, **{name: _message(row[name][-1]) for name in ("chosen", "rejected")}}
    return told | {"messages": [*messages, *map(_message, row["completion"])], "label": row["label"]}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool with the list of its parameters, which LLaMA-Factory wants also where there is none."""
    function = tool["function"]
    parameters = {"type": "object", "properties": {}, **(function.get("parameters") or {})}
    return {"type": "function", "function": {"description": "", **function, "parameters": parameters}}


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """Role and content alone, so that all rows have one shape; calls of tools become the content that it expects."""
    calls = message.get("tool_calls")
    if not calls:
        return {"role": message["role"], "content": message.get("content") or ""}
    content = [{"name": one["function"]["name"], "arguments": one["function"]["arguments"]} for one in calls]
    return {"role": "function", "content": json.dumps(content, ensure_ascii=False)}


def _without_sound() -> None:
    """A stand-in for torchaudio, which LLaMA-Factory loads for rows with sound: on a CPU there is no build of it."""
    if importlib.util.find_spec("torchaudio") is None:
        absent = types.ModuleType("torchaudio")
        absent.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
        sys.modules["torchaudio"] = absent


def _keep(run: Run) -> None:
    """Move what LLaMA-Factory left beside the checkpoints to its place: it is there whole or not at all."""
    run.enters("keep")
    partial = run.output.with_name(f"{run.output.name}.partial")
    for left in (partial, run.output):
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir()
    for path in run.checkpoints.iterdir():
        if path.is_file() and not path.name.startswith("train") and not path.name.endswith("_results.json"):
            path.rename(partial / path.name)
    partial.rename(run.output)


if __name__ == "__main__":
    sys.exit(main(recipe))
