"""What a training job is told: the `JobSpec` that people write, as TOML for `tunegate train` or in the console."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

RecipeName = Literal["lora_sft", "lora_dpo", "full_sft", "llamafactory", "merge", "evaluate"]
RECIPES: tuple[RecipeName, ...] = ("lora_sft", "lora_dpo", "full_sft", "llamafactory", "merge", "evaluate")
OF_AN_ADAPTER: tuple[RecipeName, ...] = ("merge", "evaluate")
"""Recipes whose `data.train` is an adapter that is there already. They learn nothing."""

GgufType = Literal["f32", "f16", "bf16", "q8_0"]
"""Of the weights in a GGUF file; norms and biases are always f32."""

RowKind = Literal["sft", "preference", "kto", "pretrain", "choice"]
"""What a dataset's rows are once they were checked; `trainer.data` writes them, recipes read nothing else.

sft         `{"messages": [{"role", "content", …}, …], "tools": […]?}`
preference  `{"prompt": [message, …], "chosen": [message, …], "rejected": [message, …]}`
kto         `{"prompt": [message, …], "completion": [message, …], "label": bool}`
pretrain    `{"text": "…"}`
choice      `{"prompt": [message, …], "choices": ["…", …], "answer": number of the right one, from 0}`: for `eval` only
"""

ROWS_OF: dict[RecipeName, tuple[RowKind, ...]] = {
    "lora_sft": ("sft", "pretrain"),
    "full_sft": ("sft", "pretrain"),
    "lora_dpo": ("preference",),
    "llamafactory": ("sft", "preference", "kto", "pretrain"),
    "merge": (),
    "evaluate": (),
}
"""Which rows a recipe can learn from."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseModelRef(_Part):
    """Where the base model's weights come from."""

    source: Literal["path", "modelscope", "huggingface"] = "path"
    """A folder on the worker, or a model hub that the worker is allowed to reach."""
    id: Line
    """The folder, or the hub's `owner/name`."""
    revision: Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9_./-]*$")] = ""
    """Branch, tag or commit of the hub; its default if empty."""


class Data(_Part):
    """What is learned from. With control `NAME@N`, a version of a dataset; for `tunegate train` a file. For the recipe
    `merge` and `evaluate` the adapter: with control `NAME@vN`, for `tunegate train` its folder.
    """

    train: Line
    validation: Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    """Rows that are only measured. Empty: the share below is taken from `train`."""
    validation_share: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of the rows of `train` that is held out, chosen by the seed."""


class Lora(_Part):
    """Shape of the adapter."""

    r: Annotated[int, Field(ge=1, le=512)] = 16
    """Rank."""
    alpha: Annotated[int, Field(ge=1, le=4096)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,80}$")], ...] = ("all-linear",)
    """Names of the layers that get an adapter; `all-linear` is all but the output layer."""
    modules_to_save: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,80}$")], ...] = ()
    """Layers that are trained whole and kept with the adapter."""
    rslora: bool = False
    dora: bool = False
    init: Literal["default", "pissa", "olora", "gaussian"] = "default"
    quantization: Literal["none", "8bit", "4bit"] = "none"
    """Of the base model's weights while training (QLoRA): needs CUDA and bitsandbytes."""


class Training(_Part):
    """How it is learned. Steps are optimiser steps, of all processes together."""

    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0, le=1000)] = 1.0
    epochs: Annotated[float, Field(gt=0, le=1000)] = 3.0
    max_steps: Annotated[int, Field(ge=1, le=100_000_000)] | None = None
    """Ends the job after so many steps, whatever `epochs` says."""
    micro_batch: Annotated[int, Field(ge=1, le=4096)] = 4
    """Rows that one process computes at a time."""
    accumulation: Annotated[int, Field(ge=1, le=4096)] = 4
    """Micro-batches of each process in a step."""
    max_length: Annotated[int, Field(ge=16, le=1_048_576)] = 2048
    """Tokens of a row; what is longer is cut, and counted in the report."""
    packing: bool = False
    """Several rows in one sequence, each attending to itself only."""
    assistant_only_loss: bool = True
    """Learn the assistant's words only, not the prompt's."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    gradient_checkpointing: bool = False
    beta: Annotated[float, Field(gt=0, le=10)] = 0.1
    """How far preference training (`lora_dpo`) may move from the base model."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 42
    log_every: Annotated[int, Field(ge=1, le=100_000)] = 1
    eval_every: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Steps between measurements of the held-out rows; absent: at the end only."""
    early_stop: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Ends the job after so many measurements in a row that were no better than the best."""
    save_every: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Steps between checkpoints from which an interrupted job goes on."""
    keep_checkpoints: Annotated[int, Field(ge=2, le=100)] = 3
    """Older ones are deleted. Two at least: a damaged one falls back to the one before."""


class Questions(_Part):
    """Multiple-choice questions that the base model and the result answer, by the likelihood of each choice."""

    data: Line
    """With control `NAME@N`, a version of a dataset of questions; for `tunegate train` a file."""
    limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """So many questions, the first ones; absent: all."""


class Resources(_Part):
    """What the job needs while it runs."""

    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes on each node, with a GPU each where the worker has GPUs."""


class JobSpec(_Part):
    """A request to train. Everything that decides the result is in it."""

    name: Name
    """Of the job, and of the adapter that comes out of it unless `adapter` says another."""
    recipe: RecipeName = "lora_sft"
    base: BaseModelRef
    data: Data
    lora: Lora = Lora()
    training: Training = Training()
    resources: Resources = Resources()
    adapter: Name | None = None
    """Name under which the result is registered."""
    prompts: tuple[Annotated[str, StringConstraints(min_length=1, max_length=4000)], ...] = Field((), max_length=8)
    """Answered by the model at each measurement, to be read by people."""
    eval: Questions | None = None
    """What is asked after training; of the recipe `evaluate` all that it does."""
    gguf: GgufType | None = None
    """Of the recipe `merge`: write model.gguf too, beside the safetensors, with weights of this type."""
    max_hours: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """The job is stopped, with a checkpoint, after so long."""

    @model_validator(mode="after")
    def _fits(self) -> JobSpec:
        of_an_adapter = self.recipe in OF_AN_ADAPTER
        if of_an_adapter and (self.data.validation or self.data.validation_share or self.lora != Lora()):
            raise ValueError(f"data, lora: {self.recipe} takes nothing but data.train, the adapter")
        if of_an_adapter and self.resources != Resources():
            raise ValueError(f"resources: {self.recipe} runs in one process")
        if (self.recipe == "evaluate") > (self.eval is not None):
            raise ValueError("eval: evaluate needs eval.data, the questions")
        if self.recipe == "merge" and self.eval is not None:
            raise ValueError("eval: merge asks nothing; evaluate the adapter")
        if self.gguf is not None and self.recipe != "merge":
            raise ValueError("gguf: only a whole model has such a file; merge the adapter")
        if self.recipe == "full_sft" and self.lora.quantization != "none":
            raise ValueError("lora.quantization: full_sft trains the weights themselves, which cannot be quantised")
        if self.training.early_stop and not self.training.eval_every:
            raise ValueError("training.early_stop: needs training.eval_every, since it counts measurements")
        if self.training.early_stop and not (self.data.validation or self.data.validation_share):
            raise ValueError("training.early_stop: needs data.validation or data.validation_share to measure")
        return self

    @property
    def adapter_name(self) -> str:
        """Name of the adapter that comes out."""
        return self.adapter or self.name

    @property
    def effective_batch(self) -> int:
        """Rows in an optimiser step, of all processes together."""
        return self.training.micro_batch * self.training.accumulation * self.resources.processes * self.resources.nodes
