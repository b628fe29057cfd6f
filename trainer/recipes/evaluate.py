"""An adapter and its base model answer multiple-choice questions. Nothing is learned, and no weights come out.

python -m trainer.recipes.evaluate RUN_FOLDER
"""

from __future__ import annotations

import sys
import time

import torch

from trainer.recipes.common import choices
from trainer.recipes.common.fit import versions
from trainer.recipes.common.model import device_name, load_tokenizer
from trainer.recipes.common.run import Run, main
from trainer.recipes.common.trained import checked_adapter

EVERY = 1.0
"""Seconds between two words about how far it is."""


def recipe(run: Run) -> None:
    """Load both, ask the one with its adapter and without. A step is an answer."""
    tokenizer = load_tokenizer(run.spec.base)
    rows = choices.questions(run)
    model = checked_adapter(run).to("cuda" if torch.cuda.is_available() else "cpu")
    parameters = sum(one.numel() for one in model.parameters())
    run.started(total_steps=2 * len(rows), device=device_name(), parameters=parameters, rows=len(rows))
    heard = time.monotonic()

    def told(count: int, before: int = 0) -> bool:
        nonlocal heard
        if time.monotonic() - heard >= EVERY:
            heard = time.monotonic()
            run.measured(before + count, {"answered": float(before + count)})
        return run.asked_to_stop()

    batch = run.spec.training.micro_batch
    result = choices.answers(model, tokenizer, rows, batch, told)
    base = None
    if result is not None:
        with model.disable_adapter():
            base = choices.answers(model, tokenizer, rows, batch, lambda count: told(count, len(rows)))
    if result is None or base is None:
        run.finished("stopped", message="stopped as asked; an evaluation begins from its start again")
        return
    found = choices.compared(base, result)
    run.measured(2 * len(rows), choices.figures(found))
    details = {"versions": versions(), "evaluation": found.model_dump(mode="json")}
    run.finished("completed", details=details)


if __name__ == "__main__":
    sys.exit(main(recipe))
