"""What a job is going to take: steps, tokens, memory of a device at its peak, time.

Memory is a sum of what must be there: weights, what is trained with its gradients and two moments of Adam, activations
of a micro-batch, logits, and a fixed part for the runtime. Activations follow Korthikanti et al. 2022 (34 bytes per
token and hidden unit in 16 bits, without the attention matrix, which fused kernels never write), with the gated MLP of
today's models in place of the one of GPT-2.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from trainer.contract.spec import JobSpec

FIXED_MIB = 700
"""Of Python, the libraries, and the device's own context."""
USABLE = 0.95
"""Part of a device's memory that a job may plan with."""
_BYTES = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0}
_QUANTISED = {"8bit": 1.06, "4bit": 0.56}
_MIB = 1 << 20


class ModelShape(BaseModel):
    """What the size of a decoder follows from."""

    model_config = ConfigDict(frozen=True)

    hidden: int
    layers: int
    intermediate: int
    """Of one expert, where there are several."""
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    """The output layer is the embedding."""
    experts: int = 1
    active_experts: int = 1

    @property
    def linears(self) -> tuple[tuple[str, int, int], ...]:
        """(name, inputs, outputs) of the linear layers of one block, without experts beyond the first."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return (
            ("q_proj", self.hidden, queries), ("k_proj", self.hidden, keys), ("v_proj", self.hidden, keys),
            ("o_proj", queries, self.hidden), ("gate_proj", self.hidden, self.intermediate),
            ("up_proj", self.hidden, self.intermediate), ("down_proj", self.intermediate, self.hidden),
        )  # fmt: skip

    @property
    def parameters(self) -> int:
        """All weights."""
        block = sum(
            inputs * outputs * (self.experts if "_proj" in name and name[0] in "gud" else 1)
            for name, inputs, outputs in self.linears
        )
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return self.layers * (block + 2 * self.hidden) + self.hidden + embeddings


class Estimate(BaseModel):
    """What a job is going to take."""

    model_config = ConfigDict(frozen=True)

    steps: int
    tokens: int
    """Of all epochs together."""
    memory_mib: int
    """Of each device, at its peak."""
    seconds: float | None
    """None: nothing like it has run yet."""
    fits: bool
    advice: str
    """The setting to change, where it does not fit."""


def read_shape(folder: Path) -> ModelShape | None:
    """The shape of a model from the config.json of its folder; None if there is none that is understood."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        return shape_of(config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return None


def shape_of(config: dict[str, Any]) -> ModelShape:
    """The shape from a config.json of transformers. KeyError names what is missing."""
    heads = int(config["num_attention_heads"])
    hidden = int(config["hidden_size"])
    experts = int(config.get("num_experts") or config.get("num_local_experts") or config.get("n_routed_experts") or 1)
    return ModelShape(
        hidden=hidden, layers=int(config["num_hidden_layers"]),
        intermediate=int((experts > 1 and config.get("moe_intermediate_size")) or config["intermediate_size"]),
        heads=heads, kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads), vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)), experts=experts,
        active_experts=int(config.get("num_experts_per_tok") or 1),
    )  # fmt: skip


def estimate(
    spec: JobSpec,
    shape: ModelShape,
    rows: int,
    tokens: int,
    device_mib: int | None = None,
    tokens_per_second: float | None = None,
) -> Estimate:
    """What a job over `rows` rows with `tokens` tokens takes; `device_mib`: memory of a device, None where unknown.

    `tokens_per_second`: what a job like it has reached.
    """
    training = spec.training
    rows = max(1, round(rows * (1 - (0 if spec.data.validation else spec.data.validation_share))))
    once = min(tokens, rows * training.max_length)
    sequences = max(1, math.ceil(once / training.max_length)) if training.packing else rows
    a_pass = math.ceil(sequences / spec.effective_batch)
    steps = training.max_steps or max(1, math.ceil(a_pass * training.epochs))
    total = round(once * steps / a_pass)
    peak = memory_mib(spec, shape)
    fits = device_mib is None or peak <= device_mib * USABLE
    return Estimate(
        steps=steps, tokens=total, memory_mib=peak, seconds=total / tokens_per_second if tokens_per_second else None,
        fits=fits, advice="" if fits or device_mib is None else _advice(spec, shape, peak, device_mib),
    )  # fmt: skip


def trainable(spec: JobSpec, shape: ModelShape) -> int:
    """Weights that are learned."""
    if spec.recipe == "full_sft":
        return shape.parameters
    chosen = [
        (inputs, outputs, shape.experts if name in ("gate_proj", "up_proj", "down_proj") else 1)
        for name, inputs, outputs in shape.linears
        if "all-linear" in spec.lora.targets or name in spec.lora.targets
    ]
    return shape.layers * sum(spec.lora.r * (inputs + outputs) * count for inputs, outputs, count in chosen)


def memory_mib(spec: JobSpec, shape: ModelShape) -> int:
    """Memory of each device at its peak, in MiB."""
    training, full = spec.training, spec.recipe == "full_sft"
    width = _BYTES[training.precision]
    weights = shape.parameters * _QUANTISED.get(spec.lora.quantization, width)
    learned = trainable(spec, shape) * (
        3 * width if full else 16.0
    )  # an adapter is kept in 32 bits, with Adam's moments
    length = training.max_length * training.micro_batch * (2 if spec.recipe == "lora_dpo" else 1)
    gated = 3 * shape.intermediate * shape.active_experts
    block = length * (11 * shape.hidden + 2 * shape.heads * shape.head_dim + gated) * width
    if training.gradient_checkpointing:
        activations = block + shape.layers * length * shape.hidden * width
    else:
        activations = shape.layers * block
    logits = length * shape.vocabulary * (width + 8)  # as computed, in 32 bits for the loss, and its gradient
    return FIXED_MIB + round((weights + learned + activations + logits) / _MIB)


def _advice(spec: JobSpec, shape: ModelShape, peak: int, device_mib: int) -> str:
    """The smallest change with which it fits, with the memory that it then takes."""
    said = f"needs about {peak} MiB of the {device_mib} MiB of a device"
    training = spec.training
    rows = training.micro_batch * training.accumulation
    changes: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        (f"training.micro_batch = {size}, training.accumulation = {rows // size}",
         {"micro_batch": size, "accumulation": rows // size}, {})
        for size in range(training.micro_batch - 1, 0, -1) if rows % size == 0
    ]  # fmt: skip
    least = {"micro_batch": 1, "accumulation": rows, "gradient_checkpointing": True}
    both = f"training.micro_batch = 1, training.accumulation = {rows}, training.gradient_checkpointing = true"
    changes.append((both, least, {}))
    changes += [
        (f"{both}, training.max_length = {length}", {**least, "max_length": length}, {})
        for length in (4096, 2048, 1024, 512) if length < training.max_length
    ]  # fmt: skip
    if spec.recipe != "full_sft":
        changes.append((f"{both}, lora.quantization = 4bit (on CUDA)", least, {"quantization": "4bit"}))
    for name, update, lora in changes:
        smaller = spec.model_copy(
            update={"training": training.model_copy(update=update), "lora": spec.lora.model_copy(update=lora)}
        )
        if (needed := memory_mib(smaller, shape)) <= device_mib * USABLE:
            return f"{said}: set {name} (about {needed} MiB)"
    return f"{said}, and does not fit with any setting: choose a smaller base model or a larger device"
