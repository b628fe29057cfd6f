"""Runs a Trainer from the spec: its arguments, from which checkpoint it goes on, and how it ends."""

from __future__ import annotations

import math
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from trainer.recipes.common import checkpoints
from trainer.recipes.common.evaluate import evaluated
from trainer.recipes.common.follow import Follow
from trainer.recipes.common.gguf_file import GgufFile
from trainer.recipes.common.model import base_hash, device_name, probes
from trainer.recipes.common.rows import Encoded, Padded, encode, split
from trainer.recipes.common.run import Refused, Run
from trainer.recipes.common.trackers import Trackers

_PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate")


def arguments(run: Run, measures: bool) -> dict[str, Any]:
    """Arguments that every Trainer gets."""
    training = run.spec.training
    if training.packing:
        raise Refused("config", "training.packing: attention between packed rows is only kept apart by LLaMA-Factory")
    every = training.eval_every
    return {
        "output_dir": str(run.checkpoints), "per_device_train_batch_size": training.micro_batch,
        "per_device_eval_batch_size": training.micro_batch, "gradient_accumulation_steps": training.accumulation,
        "learning_rate": training.learning_rate, "lr_scheduler_type": training.schedule,
        "warmup_steps": training.warmup_steps, "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm, "num_train_epochs": training.epochs,
        "max_steps": training.max_steps or -1, "seed": training.seed, "data_seed": training.seed,
        "bf16": training.precision == "bf16", "fp16": training.precision == "fp16",
        "gradient_checkpointing": training.gradient_checkpointing, "logging_steps": training.log_every,
        "logging_first_step": True, "save_strategy": "steps", "save_steps": training.save_every,
        "save_total_limit": training.keep_checkpoints, "eval_strategy": "steps" if every and measures else "no",
        "eval_steps": every, "report_to": [], "disable_tqdm": True, "use_cpu": not torch.cuda.is_available(),
        "include_num_input_tokens_seen": "non_padding", "dataloader_num_workers": 0, "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(), "ddp_find_unused_parameters": False,
    }  # fmt: skip


def fit_dialogues(run: Run, model: Any, tokenizer: Any) -> None:
    """Learn dialogues or texts with the plain loss of a language model."""
    train, held = split(run)
    training = run.spec.training
    learned = encode(train, tokenizer, training.max_length, training.assistant_only_loss)
    measured = encode(held, tokenizer, training.max_length, training.assistant_only_loss)
    if not learned.rows:
        raise Refused("data", f"none of {len(train)} rows has anything to learn within {training.max_length} tokens")
    if learned.empty:
        run.warn(f"{learned.empty} rows have nothing to learn within training.max_length = {training.max_length}")
    trackers = Trackers(run)
    follow = Follow(run, tokenizer, trackers)
    trainer = Trainer(
        model=model, args=TrainingArguments(**arguments(run, bool(measured.rows))), train_dataset=learned.rows,
        eval_dataset=measured.rows or None, data_collator=Padded(tokenizer.pad_token_id), callbacks=[follow],
    )  # fmt: skip
    fit(run, trainer, tokenizer, follow, trackers, learned, measures=bool(measured.rows))


def fit(
    run: Run, trainer: Any, tokenizer: Any, follow: Follow, trackers: Trackers, learned: Encoded, *, measures: bool
) -> None:
    """Train, from the last good checkpoint where one is wanted and there; then keep what came out."""
    start = _checkpoint(run)
    _tell_start(run, trainer, learned, start)
    trainer.train(resume_from_checkpoint=str(start) if start is not None else None)
    if follow.stopped:
        trackers.close()
        run.finished("stopped", message="stopped as asked, with a checkpoint")
        return
    if follow.told_at != trainer.state.global_step:
        if measures:
            trainer.evaluate()
        else:
            follow.say(trainer.model, trainer.state.global_step)
    if run.is_first:
        keep(run, trainer.model, tokenizer)
        details = {
            "versions": versions(), "base_sha256": base_hash(run.spec),
            "probes": probes(trainer.model, tokenizer, run.spec), **evaluated(run, trainer.model, tokenizer),
        }  # fmt: skip
        trackers.close()
        run.finished("completed", output=run.output.name, details=details)


def versions() -> dict[str, str]:
    """Of the packages that decide what comes out."""
    return {name: metadata.version(name) for name in _PACKAGES}


def keep(run: Run, model: Any, tokenizer: Any, gguf: GgufFile | None = None) -> None:
    """Write what came out beside its place, then put it there: it is whole or absent."""
    run.enters("keep")
    partial = run.output.with_name(f"{run.output.name}.partial")
    for left in (partial, run.output):
        shutil.rmtree(left, ignore_errors=True)
    model.config.use_cache = True  # who serves it wants what training does not
    model.save_pretrained(partial, **({"save_embedding_layers": False} if hasattr(model, "peft_config") else {}))
    tokenizer.save_pretrained(partial)
    if gguf is not None:
        gguf.write(partial / "model.gguf")
    partial.rename(run.output)


def _checkpoint(run: Run) -> Path | None:
    """Where it goes on from; of several processes the first one has removed the damaged ones by then."""
    if run.processes > 1 and not run.is_first:
        torch.distributed.barrier()
    start = resumed_from(run)
    if run.processes > 1 and run.is_first:
        torch.distributed.barrier()
    return start


def resumed_from(run: Run) -> Path | None:
    """The last good checkpoint, where it is to go on from one; damaged ones after it are told of."""
    if not run.file.resume:
        return None
    start, damaged = checkpoints.last_good(run.checkpoints)
    for one in damaged:
        run.warn(f"the checkpoint {one.name} is damaged and was left out")
    return start


def _tell_start(run: Run, trainer: Any, learned: Encoded, start: Any) -> None:
    spec, args = run.spec, trainer.args
    a_pass = -(-len(learned.rows) // spec.effective_batch)
    total = args.max_steps if args.max_steps > 0 else math.ceil(a_pass * args.num_train_epochs)
    weights = list(trainer.model.parameters())
    run.started(
        total_steps=total, first_step=checkpoints.step_of(start) if start is not None else 0, device=device_name(),
        parameters=sum(one.numel() for one in weights), rows=len(learned.rows), tokens=learned.tokens,
        trainable=sum(one.numel() for one in weights if one.requires_grad), truncated=learned.truncated,
    )  # fmt: skip
