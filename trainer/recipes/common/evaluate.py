"""The evaluation of what a run has made, beside its base model."""

from __future__ import annotations

from typing import Any

import torch

from trainer.contract.evaluation import Evaluated
from trainer.recipes.common import choices
from trainer.recipes.common.model import load_model
from trainer.recipes.common.run import Run


def evaluated(run: Run, model: Any, tokenizer: Any) -> dict[str, Any]:
    """What the spec's `eval` asks for, for the details of the run's end. The result is kept by then: what goes wrong
    here is told, and does not fail the run.
    """
    if run.spec.eval is None:
        return {}
    run.enters("evaluate")
    try:
        found = _compared(run, model, tokenizer)
    except Exception as exc:  # noqa: BLE001 - hours of training are worth more
        run.warn(f"the evaluation failed: {type(exc).__name__}: {exc}")
        return {}
    if found is None:
        run.warn("stopped as asked before the evaluation was through")
        return {}
    run.measured(run.step, choices.figures(found))
    return {"evaluation": found.model_dump(mode="json")}


def _compared(run: Run, model: Any, tokenizer: Any) -> Evaluated | None:
    rows, batch = choices.questions(run), run.spec.training.micro_batch

    def told(count: int) -> bool:
        return run.asked_to_stop()

    result = choices.answers(model, tokenizer, rows, batch, told)
    if result is None:
        return None
    if hasattr(model, "disable_adapter"):
        with model.disable_adapter():
            base = choices.answers(model, tokenizer, rows, batch, told)
    else:
        device = model.device
        model.to("cpu")  # two whole models may be too much for a device
        base = choices.answers(load_model(run.spec).to(device), tokenizer, rows, batch, told)
        model.to(device)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return None if base is None else choices.compared(base, result)
