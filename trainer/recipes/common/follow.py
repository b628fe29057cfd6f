"""What happens beside the steps of a Trainer: figures told, checkpoints sealed, samples, trackers, and the end when
somebody asks for it. Of several processes the first one decides, and tells the others.
"""

from __future__ import annotations

import math
import resource
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from trainer.contract.events import Checkpoint
from trainer.recipes.common import checkpoints
from trainer.recipes.common.model import answer
from trainer.recipes.common.run import Run
from trainer.recipes.common.trackers import Trackers

_KNOWN = ("loss", "eval_loss", "grad_norm", "learning_rate", "epoch", "rewards/accuracies", "rewards/margins")
SAMPLE_TOKENS = 96


class Follow(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    """Goes along with a Trainer."""

    def __init__(self, run: Run, tokenizer: Any, trackers: Trackers) -> None:
        self.stopped = False
        """It ended because somebody asked for it."""
        self.told_at = -1
        """The step at which the held-out rows were measured, or the prompts answered, last."""
        self._run, self._tokenizer, self._trackers = run, tokenizer, trackers
        self._since, self._tokens = time.monotonic(), 0
        self._best, self._worse = math.inf, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Look for a wish to end; it ends with a checkpoint."""
        self._run.step = state.global_step
        if self._agreed(self._run.is_first and self._run.asked_to_stop()):
            self.stopped = True
            control.should_save = control.should_training_stop = True
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Tell figures."""
        values = {name: float(value) for name, value in (logs or {}).items() if name in _KNOWN}
        if values.keys() <= {"epoch"} or not self._run.is_first:
            return
        if "loss" in values:
            values |= self._speed(state) | _memory()
        self._run.measured(state.global_step, values)
        self._trackers.measured(state.global_step, values)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, model: Any = None, **_: Any) -> Any:
        """Let the model answer the spec's prompts; end when it has got no better for long enough."""
        self.say(model, state.global_step)
        self._since = time.monotonic()  # it is no time of training
        loss = (metrics or {}).get("eval_loss")
        if loss is not None and self._run.spec.training.early_stop:
            self._best, self._worse = (loss, 0) if loss < self._best else (self._best, self._worse + 1)
            if self._worse >= self._run.spec.training.early_stop:
                control.should_training_stop = True
        return control

    def say(self, model: Any, step: int) -> None:
        """Let the model answer the spec's prompts."""
        self.told_at = step
        for prompt in self._run.spec.prompts if self._run.is_first else ():
            said = answer(model, self._tokenizer, [{"role": "user", "content": prompt}], SAMPLE_TOKENS)
            self._run.said(step, prompt, said)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal a checkpoint and tell of it."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self._run.processes > 1:
            torch.distributed.barrier()  # each process writes a file of its own
        if not self._run.is_first or not folder.is_dir():
            return
        files = checkpoints.seal(folder)
        size = sum((folder / name).stat().st_size for name in files)
        where = str(folder.relative_to(self._run.folder))
        self._run.tell(Checkpoint(at=time.time(), step=state.global_step, folder=where, files=files, size=size))

    def _agreed(self, wish: bool) -> bool:
        if self._run.processes == 1:
            return wish
        said = [wish]
        torch.distributed.broadcast_object_list(said, src=0)
        return said[0]

    def _speed(self, state: Any) -> dict[str, float]:
        now, tokens = time.monotonic(), int(state.num_input_tokens_seen)
        speed = (tokens - self._tokens) / max(now - self._since, 1e-9)
        self._since, self._tokens = now, tokens
        return {"tokens_per_second": speed} if speed > 0 else {}


def _memory() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {"memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    figures = {"memory_mib": torch.cuda.max_memory_allocated() / (1 << 20)}
    return figures | {"gpu_percent": float(torch.cuda.utilization())}
