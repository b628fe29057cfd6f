"""The base model and its tokenizer, where a device is, and what the model says to a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from trainer.contract.spec import BaseModelRef, JobSpec
from trainer.hashes import weights_sha256
from trainer.recipes.common.run import Refused

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
PROBES = ("Hi", "Who are you?", "What is two plus two?")
"""Golden prompts: an engine must answer them as the adapter did after training."""
PROBE_TOKENS = 24


def device_name() -> str:
    """What the run computes on."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def load_tokenizer(base: BaseModelRef) -> Any:
    """The base model's tokenizer, with a token to pad with."""
    tokenizer = AutoTokenizer.from_pretrained(_source(base), revision=base.revision or None)
    if tokenizer.chat_template is None:
        raise Refused("config", f"the tokenizer of {base.id} has no chat template: choose an instruct model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(spec: JobSpec) -> Any:
    """The base model, in the precision of the spec. What is drawn at random from here on is drawn by its seed."""
    set_seed(spec.training.seed)
    quantization = None
    if spec.lora.quantization != "none" and spec.recipe != "full_sft":
        quantization = _quantization(spec)
    if spec.training.precision == "fp16" and not torch.cuda.is_available():
        raise Refused("config", "training.precision = fp16 needs CUDA: on a CPU use fp32 or bf16")
    model = AutoModelForCausalLM.from_pretrained(
        _source(spec.base), revision=spec.base.revision or None, dtype=_TYPES[spec.training.precision],
        quantization_config=quantization,
    )  # fmt: skip
    model.config.use_cache = False
    return model


def base_hash(spec: JobSpec) -> str:
    """Hash of the base model's weights, where it is a folder."""
    folder = Path(spec.base.id)
    return weights_sha256(folder) if spec.base.source == "path" and folder.is_dir() else ""


def answer(model: Any, tokenizer: Any, messages: list[dict[str, Any]], tokens: int) -> str:
    """What the model says, greedily."""
    was_training, cached = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = True
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(model.device)
    with torch.no_grad():
        out = model.generate(
            **inputs, max_new_tokens=tokens, do_sample=False, top_k=None, top_p=None, temperature=None,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
    model.config.use_cache = cached
    model.train(was_training)
    said: str = tokenizer.decode(out[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


def probes(model: Any, tokenizer: Any, spec: JobSpec) -> list[dict[str, Any]]:
    """What the model answers to the golden prompts and to those of the spec."""
    found = []
    for prompt in dict.fromkeys((*spec.prompts, *PROBES)):
        messages = [{"role": "user", "content": prompt}]
        found.append({"messages": messages, "text": answer(model, tokenizer, messages, PROBE_TOKENS)})
    return found


def _source(base: BaseModelRef) -> str:
    if base.source == "modelscope":
        try:
            from modelscope import snapshot_download  # noqa: PLC0415 - an extra of the worker
        except ImportError as exc:
            raise Refused("config", "base.source = modelscope: the package modelscope is not installed here") from exc
        return str(snapshot_download(base.id, revision=base.revision or None))
    if base.source == "path" and not (Path(base.id) / "config.json").exists():
        raise Refused("config", f"base.id: there is no model in the folder {base.id} on this worker")
    return base.id


def _quantization(spec: JobSpec) -> Any:
    if not torch.cuda.is_available():
        raise Refused("config", f"lora.quantization = {spec.lora.quantization} needs CUDA and bitsandbytes")
    from transformers import BitsAndBytesConfig  # noqa: PLC0415

    if spec.lora.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    kind = _TYPES[spec.training.precision]
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=kind)
