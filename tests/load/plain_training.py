"""The script that one would write without Tunegate: LoRA with transformers and peft, and nothing beside it.

    plain_training.py RUN_FOLDER

It takes data and settings from the run.json of a job, and prints its seconds and final loss as JSON. Run it with the
interpreter of the recipes' environment.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, set_seed


def main(folder: Path) -> dict[str, float]:
    """Train, and say how long it took and where it ended."""
    told = json.loads((folder / "run.json").read_text())
    spec, training = told["spec"], told["spec"]["training"]
    set_seed(training["seed"])
    tokenizer = AutoTokenizer.from_pretrained(spec["base"]["id"])
    model = AutoModelForCausalLM.from_pretrained(spec["base"]["id"], dtype=torch.float32)
    model.config.use_cache = False
    lora = spec["lora"]
    config = LoraConfig(r=lora["r"], lora_alpha=lora["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    rows = [encoded(json.loads(line)["messages"], tokenizer) for line in Path(told["train"]).read_text().splitlines()]
    arguments = TrainingArguments(
        output_dir=str(folder / "plain"), per_device_train_batch_size=training["micro_batch"],
        gradient_accumulation_steps=training["accumulation"], learning_rate=training["learning_rate"],
        lr_scheduler_type="cosine", max_steps=training["max_steps"], seed=training["seed"], data_seed=training["seed"],
        logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, remove_unused_columns=False,
        dataloader_pin_memory=False, include_num_input_tokens_seen="non_padding",
    )  # fmt: skip
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collated)
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    return {"seconds": seconds, "loss": losses[-1]}


def encoded(messages: list[dict[str, str]], tokenizer: Any) -> dict[str, list[int]]:
    """One question and its answer, of which the answer is learned."""
    asked = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    prompt = tokenizer(asked, add_special_tokens=False)["input_ids"]
    answer = tokenizer(whole[len(asked) :], add_special_tokens=False)["input_ids"]
    return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}


def collated(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Padded to the longest."""
    length = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": -100}
    batch = {
        name: torch.tensor([row[name] + [filler] * (length - len(row[name])) for row in rows])
        for name, filler in fill.items()
    }
    mask = [[1] * len(row["input_ids"]) + [0] * (length - len(row["input_ids"])) for row in rows]
    return {**batch, "attention_mask": torch.tensor(mask)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
