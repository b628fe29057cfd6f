"""LoRA on preferences (DPO): of two answers to a prompt, the chosen one becomes likelier than the rejected one.

python -m trainer.recipes.lora_dpo RUN_FOLDER
"""

from __future__ import annotations

import sys
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from trainer.recipes.common.fit import arguments, fit
from trainer.recipes.common.follow import Follow
from trainer.recipes.common.model import load_model, load_tokenizer
from trainer.recipes.common.rows import Encoded, split
from trainer.recipes.common.run import Run, main
from trainer.recipes.common.trackers import Trackers
from trainer.recipes.lora_sft import adapter_config


def recipe(run: Run) -> None:
    """Load, learn what was preferred, keep the adapter. Without the adapter, the model is its own reference."""
    tokenizer, training = load_tokenizer(run.spec.base), run.spec.training
    train, held = split(run)
    trackers = Trackers(run)
    follow = Follow(run, tokenizer, trackers)
    config = arguments(run, bool(held)) | {"beta": training.beta, "max_length": training.max_length}
    model = load_model(run.spec)
    trainer = DPOTrainer(
        model=model, args=DPOConfig(**config), train_dataset=_dataset(train),
        eval_dataset=_dataset(held) if held else None, processing_class=tokenizer,
        peft_config=adapter_config(run.spec, model), callbacks=[follow],
    )  # fmt: skip
    texts = [tokenizer.apply_chat_template(row["prompt"] + row["chosen"], tokenize=False) for row in train]
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    longer = sum(length > training.max_length for length in lengths)
    learned = Encoded([{}] * len(train), sum(lengths), longer, 0)
    fit(run, trainer, tokenizer, follow, trackers, learned, measures=bool(held))


def _dataset(rows: list[dict[str, Any]]) -> Dataset:
    return Dataset.from_list([{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows])


if __name__ == "__main__":
    sys.exit(main(recipe))
