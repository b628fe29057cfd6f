"""LoRA on dialogues or texts: a few weights beside the base model's learn, the base model stays as it is.

python -m trainer.recipes.lora_sft RUN_FOLDER
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

from trainer.contract.spec import JobSpec
from trainer.recipes.common.fit import fit_dialogues
from trainer.recipes.common.model import load_model, load_tokenizer
from trainer.recipes.common.run import Refused, Run, main


def recipe(run: Run) -> None:
    """Load, put the adapter beside the weights, learn, keep the adapter."""
    tokenizer = load_tokenizer(run.spec.base)
    model = with_adapter(load_model(run.spec), run.spec)
    fit_dialogues(run, model, tokenizer)


def with_adapter(model: Any, spec: JobSpec) -> Any:
    """The model with a fresh adapter, whose weights alone are learned."""
    if spec.lora.quantization != "none":
        model = prepare_model_for_kbit_training(model)
    if spec.training.gradient_checkpointing:
        model.enable_input_require_grads()
    return get_peft_model(model, adapter_config(spec, model))


def adapter_config(spec: JobSpec, model: Any) -> LoraConfig:
    """Shape of the adapter, in PEFT's words.

    Raises:
        Refused: the model has no layer of a name; PEFT itself would be content with one of several.
    """
    lora = spec.lora
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    missing = [name for name in lora.targets if name != "all-linear" and name.rpartition(".")[2] not in there]
    if missing:
        linear = {name.rpartition(".")[2] for name, one in model.named_modules() if isinstance(one, torch.nn.Linear)}
        raise Refused("config", f"lora.targets: no layer is called {missing[0]}: there are {', '.join(sorted(linear))}")
    return LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, use_rslora=lora.rslora, use_dora=lora.dora,
        target_modules=lora.targets[0] if lora.targets == ("all-linear",) else list(lora.targets),
        modules_to_save=list(lora.modules_to_save) or None, task_type="CAUSAL_LM",
        init_lora_weights=True if lora.init == "default" else lora.init,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(recipe))
